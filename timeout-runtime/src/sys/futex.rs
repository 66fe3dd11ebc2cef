//! A lock that can be waited for with a deadline and thrown away after a fork: one word, no owner, no queue.
//!
//! std's `Mutex` has no timed lock, and a lock with a queue of its own could be copied by a fork in the middle of a
//! change. This one is a single atomic, so that a child may simply forget it.

#![expect(unsafe_code, reason = "futex(2) has no safe wrapper")]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::{libc, sys::time::TimeSpec};

const FREE: u32 = 0;
const HELD: u32 = 1;
const HELD_AND_AWAITED: u32 = 2;

/// A mutual exclusion of threads of one process.
#[derive(Default)]
pub(crate) struct Gate(AtomicU32);

/// Holds the gate until dropped.
pub(crate) struct Passage<'a>(&'a Gate);

impl Gate {
    /// Waits for the gate until `until` (for ever without it); `None` when the time is over first.
    pub(crate) fn enter(&self, until: Option<Instant>) -> Option<Passage<'_>> {
        if self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Some(Passage(self));
        }
        // From here on the word says that somebody waits, so that whoever leaves wakes the next one.
        while self.0.swap(HELD_AND_AWAITED, Ordering::Acquire) != FREE {
            let patience = match until {
                None => None,
                Some(until) => match until.checked_duration_since(Instant::now()) {
                    None => return None,
                    left => left,
                },
            };
            wait(&self.0, HELD_AND_AWAITED, patience);
        }
        Some(Passage(self))
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if self.0.0.swap(FREE, Ordering::Release) == HELD_AND_AWAITED {
            wake(&self.0.0);
        }
    }
}

/// Sleeps while `word` is `expected`; returns early on a wake, a signal or after `patience`.
pub(crate) fn wait(word: &AtomicU32, expected: u32, patience: Option<Duration>) {
    wait_by(libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, word, expected, patience);
}

/// The same for a word in memory that processes share.
pub(crate) fn wait_shared(word: &AtomicU32, expected: u32, patience: Duration) {
    wait_by(libc::FUTEX_WAIT, word, expected, Some(patience));
}

fn wait_by(operation: libc::c_int, word: &AtomicU32, expected: u32, patience: Option<Duration>) {
    /// What every kernel can count; to wake after it is to wake early.
    const LONGEST: Duration = Duration::from_secs(i32::MAX as u64);
    let timeout = patience.map(|left| TimeSpec::from(left.min(LONGEST)));
    let timeout = timeout.as_ref().map_or(std::ptr::null(), |timeout| std::ptr::from_ref(timeout.as_ref()));
    // SAFETY: `word` and `timeout` point to live values for the whole call; a relative FUTEX_WAIT reads nothing else.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation, expected, timeout);
    }
}

/// Wakes one sleeper.
pub(crate) fn wake(word: &AtomicU32) {
    wake_by(libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, word);
}

/// The same for a word in memory that processes share. Async-signal-safe.
pub(crate) fn wake_shared(word: &AtomicU32) {
    wake_by(libc::FUTEX_WAKE, word);
}

fn wake_by(operation: libc::c_int, word: &AtomicU32) {
    // SAFETY: `word` is a live, aligned word; FUTEX_WAKE only takes its address.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_passes_and_a_deadline_ends_the_wait() {
        let gate = Gate::default();
        let passage = gate.enter(None).unwrap();
        let before = Instant::now();
        assert!(gate.enter(Some(before + Duration::from_millis(20))).is_none());
        assert!(before.elapsed() >= Duration::from_millis(20));
        drop(passage);
        assert!(gate.enter(Some(Instant::now())).is_some());
    }

    #[test]
    fn every_waiter_gets_its_turn() {
        let gate = Gate::default();
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let _passage = gate.enter(None).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                        inside.fetch_sub(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(gate.0.load(Ordering::Relaxed), FREE);
    }
}
