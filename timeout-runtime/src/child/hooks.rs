//! Functions that run first in every child: to reseed generators, or to drop what cannot be used there.
//!
//! The list is grown without a lock, so that a fork may come in the middle of a registration. An entry is in it from
//! one moment on, and is never taken out or moved.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::sys::leaked::Leaked;

/// One hook and those registered after it.
struct Entry {
    ticket: u64,
    hook: &'static (dyn Fn() + Send + Sync),
    next: Leaked<Entry>,
}

static FIRST: Leaked<Entry> = Leaked::new();

/// Has `hook` run in every child that is started from now on, before its body.
///
/// Hooks run in the order of their registration, on the thread that will run the body. They stay registered for the life
/// of the process, and the children of children run them too. Registering is possible from any thread at any time, and
/// never waits.
///
/// A child starts as a copy of its caller, and some copies must not be used as they are: generators of random numbers
/// repeat what they give in the caller and in its other children, and pools count on threads that are not there.
///
/// # Failures
/// A hook runs inside the limits of the call: one that takes too long makes the call
/// [`Late`](crate::Reason::Late), and one that panics makes it [`NotStarted`](crate::Reason::NotStarted), with its
/// message. Then, as after any other end of the child in a hook, [`ran()`](crate::TimedOut::ran) is
/// [`Ran::No`](crate::Ran::No): the body has not begun.
///
/// # Examples
/// ```
/// use std::cell::Cell;
/// use std::process;
/// use timeout_runtime::{call, on_child};
///
/// thread_local!(static SEED: Cell<u32> = const { Cell::new(0) });
///
/// on_child(|| SEED.set(process::id()));
/// let seed = call(2, || SEED.get()).unwrap();
/// assert!(seed != 0 && seed != call(2, || SEED.get()).unwrap());
/// assert_eq!(SEED.get(), 0);
/// ```
pub fn on_child(hook: impl Fn() + Send + Sync + 'static) {
    static TICKETS: AtomicU64 = AtomicU64::new(0);
    let hook: &'static (dyn Fn() + Send + Sync) = Box::leak(Box::new(hook));
    let ticket = TICKETS.fetch_add(1, Ordering::Relaxed);
    let mut place = &FIRST;
    loop {
        let entry = place.get_or_replace(|_| true, || Entry { ticket, hook, next: Leaked::new() });
        if entry.ticket == ticket {
            return;
        }
        place = &entry.next;
    }
}

/// Whether the generators of this process have new seeds that no other process has.
static IS_RESEEDED: AtomicBool = AtomicBool::new(false);

/// Gives the generators new seeds before the hooks run, in a process that has time to spare now and none later.
pub(super) fn reseed_ahead() {
    reseed();
    IS_RESEEDED.store(true, Ordering::Relaxed);
}

fn reseed() {
    #[cfg(any(feature = "rand", feature = "fastrand"))]
    super::reseed::reseed();
}

/// Runs every hook, the oldest first.
#[inline]
pub(crate) fn run_all() {
    // Once: what this process forks inherits the word and the seeds.
    if !IS_RESEEDED.swap(false, Ordering::Relaxed) {
        reseed();
    }
    let mut place = &FIRST;
    while let Some(entry) = place.get() {
        (entry.hook)();
        place = &entry.next;
    }
}
