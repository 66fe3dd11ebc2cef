//! A static that a child fills in for itself, once, without its heap: the first allocation of a new process copies
//! several pages, and many a body never makes one.

#![expect(unsafe_code, reason = "a value is moved into a static")]

use std::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    sync::atomic::{AtomicI32, Ordering},
};

use nix::unistd::Pid;

use super::process;

/// Room for one value, that of this process or of the one it is a copy of.
pub(crate) struct InPlace<T: 'static> {
    value: UnsafeCell<MaybeUninit<T>>,
    /// Who has filled it in; 0 while nobody has.
    owner: AtomicI32,
}

// SAFETY: the value is only ever shared, but in `set`, which comes before any sharing.
unsafe impl<T: Send + Sync> Sync for InPlace<T> {}

impl<T: Send + Sync> InPlace<T> {
    pub(crate) const fn new() -> Self {
        InPlace { value: UnsafeCell::new(MaybeUninit::uninit()), owner: AtomicI32::new(0) }
    }

    /// Puts a value there for good. What a process that this one is a copy of had put there is forgotten, not dropped.
    ///
    /// For the first thread of a child, before it runs anything of the user's. No reference to the old value is used any
    /// more: those that were copied are in frames to which a child does not return.
    ///
    /// # Panics
    /// When this process has put one there already.
    #[inline]
    pub(crate) fn set(&'static self, value: T) -> &'static T {
        let pid = process::id().as_raw();
        assert_ne!(self.owner.load(Ordering::Relaxed), pid, "a child is set up twice");
        // SAFETY: no reference to the value is in use, as told above, and this process comes here only once.
        let place = unsafe { &mut *self.value.get() };
        let value = place.write(value);
        self.owner.store(pid, Ordering::Release);
        value
    }

    /// Gives the value, if this process has one or is a copy of one that had. Async-signal-safe.
    #[inline]
    pub(crate) fn get(&'static self) -> Option<&'static T> {
        self.owner()?;
        // SAFETY: it is not changed any more while this process lives.
        let place = unsafe { &*self.value.get() };
        // SAFETY: with an owner, the value is there.
        Some(unsafe { place.assume_init_ref() })
    }

    /// Who has put the value there.
    #[inline]
    pub(crate) fn owner(&self) -> Option<Pid> {
        let owner = self.owner.load(Ordering::Acquire);
        (owner != 0).then(|| Pid::from_raw(owner))
    }
}

#[cfg(test)]
mod tests {
    use nix::{
        sys::wait::{WaitStatus, waitpid},
        unistd::getpid,
    };

    use super::*;

    #[test]
    fn a_copy_of_a_process_has_its_value_and_may_have_its_own_once() {
        static PLACE: InPlace<u32> = InPlace::new();
        assert_eq!(PLACE.get(), None);
        assert_eq!(PLACE.set(1), &1);
        let child = process::fork(|| {
            let is_copied = PLACE.get() == Some(&1) && PLACE.owner() != Some(getpid());
            let is_replaced = PLACE.set(2) == &2 && PLACE.get() == Some(&2) && PLACE.owner() == Some(getpid());
            process::exit_now(i32::from(is_copied && is_replaced));
        });
        assert!(matches!(waitpid(child.unwrap(), None), Ok(WaitStatus::Exited(_, 1))));
        assert_eq!((PLACE.get(), PLACE.owner()), (Some(&1), Some(getpid())));
        assert!(std::panic::catch_unwind(|| PLACE.set(3)).is_err());
        assert_eq!(PLACE.get(), Some(&1));
    }
}
