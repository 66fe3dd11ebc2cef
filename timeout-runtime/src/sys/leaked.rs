//! A process-wide value that a forked child starts without.
//!
//! A copied `OnceLock` or `Mutex` may be half way through a change that no thread of the child will finish. This cell is
//! one pointer: it is replaced or forgotten in one step, and what it pointed to is never freed.

#![expect(unsafe_code, reason = "an atomic pointer stands for a reference")]

use std::{
    marker::PhantomData,
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

/// A place for one value that lives for ever, or for none.
pub(crate) struct Leaked<T: 'static> {
    pointer: AtomicPtr<T>,
    owns: PhantomData<&'static T>,
}

impl<T: Sync> Leaked<T> {
    pub(crate) const fn new() -> Self {
        Leaked { pointer: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// Gives the value if there is one and it is `good`; otherwise makes a new one, which replaces it.
    pub(crate) fn get_or_replace(&self, good: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> &'static T {
        let old = self.pointer.load(Ordering::Acquire);
        if let Some(value) = to_reference(old).filter(|value| good(value)) {
            return value;
        }
        self.replace(old, make)
    }

    /// On a stack of its own: the value may be large, and every page of a stack that a call touches is copied after a fork.
    #[cold]
    #[inline(never)]
    fn replace(&self, old: *mut T, make: impl FnOnce() -> T) -> &'static T {
        let new = Box::leak(Box::new(make()));
        match self.pointer.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => new,
            // Another thread was faster; ours stays leaked, which happens once in a process.
            Err(theirs) => to_reference(theirs).unwrap_or(new),
        }
    }

    /// Gives the value, if there is one. Async-signal-safe.
    pub(crate) fn get(&self) -> Option<&'static T> {
        to_reference(self.pointer.load(Ordering::Acquire))
    }

    /// Forgets the value.
    #[inline]
    pub(crate) fn forget(&self) {
        self.pointer.store(ptr::null_mut(), Ordering::Release);
    }
}

fn to_reference<T>(pointer: *mut T) -> Option<&'static T> {
    // SAFETY: only null and pointers from `Box::leak` are ever stored, and those are shared and never freed.
    unsafe { pointer.as_ref() }
}
