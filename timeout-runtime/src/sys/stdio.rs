//! The lock of a standard stream, held across a fork by a thread of ours that may wait for it as long as it takes.
//!
//! std has no timed lock. So the caller never takes one: a keeper takes it and holds it while the caller forks, which waits
//! for that with a bound. Each stream has a keeper of its own, as one that held stdout while it waited for stderr would
//! hold up a thread that owns stderr and prints. Then the caller drops the guard, in both processes, as its drop
//! does not ask who runs it: in the child the keeper does not exist, and in the host it may take its time to wake, while
//! another fork of the host's own would copy the locks.

#![expect(unsafe_code, reason = "guards are dropped by another thread than the one that made them")]

use std::{
    cell::UnsafeCell,
    io::{self, StderrLock, StdoutLock},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use super::{
    futex, stdout,
    thread::{self, Chore},
};

/// No keeper exists.
const IDLE: u32 = 0;
/// The keeper waits for the lock, and somebody waits for the keeper.
const WANTED: u32 = 1;
/// The keeper waits for the lock, and nobody waits for it any more.
const GIVEN_UP: u32 = 2;
/// The keeper holds the lock, for whoever waited.
const HELD: u32 = 3;
/// The lock is free again, and the keeper may end.
const RELEASED: u32 = 4;

/// Holds one stream's lock for one caller at a time. To be used under a lock of the caller's own.
pub(crate) struct Keeper {
    take: fn() -> Guard,
    state: AtomicU32,
    guard: UnsafeCell<Option<Guard>>,
}

/// A lock that is held.
enum Guard {
    Out { _lock: StdoutLock<'static> },
    Err { _lock: StderrLock<'static> },
}

// SAFETY: `guard` is touched by the keeper's thread until the state is HELD, and from then on by whoever had it held.
unsafe impl Sync for Keeper {}

// SAFETY: a `Keeper` is moved only before its thread has been started, when it holds no guard.
unsafe impl Send for Keeper {}

impl Keeper {
    pub(crate) fn of_stdout() -> Keeper {
        Keeper::new(|| Guard::Out { _lock: io::stdout().lock() })
    }

    pub(crate) fn of_stderr() -> Keeper {
        Keeper::new(|| Guard::Err { _lock: io::stderr().lock() })
    }

    fn new(take: fn() -> Guard) -> Keeper {
        Keeper { take, state: AtomicU32::new(IDLE), guard: UnsafeCell::new(None) }
    }

    /// Has the lock held, stdout flushed; `false` if it cannot be had within `patience`. Then the keeper goes on
    /// waiting, and the next call joins it.
    pub(crate) fn hold(&'static self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        loop {
            match self.state.load(Ordering::Acquire) {
                HELD => return true,
                IDLE => {
                    self.state.store(WANTED, Ordering::Release);
                    if thread::spawn(self).is_err() {
                        self.state.store(IDLE, Ordering::Release);
                        return false;
                    }
                }
                GIVEN_UP => drop(self.step(GIVEN_UP, WANTED)),
                waiting => {
                    let left = until.saturating_duration_since(Instant::now());
                    if !left.is_zero() {
                        futex::wait(&self.state, waiting, Some(left));
                    } else if waiting == RELEASED || self.step(WANTED, GIVEN_UP) {
                        return false;
                    }
                }
            }
        }
    }

    /// Whether the keeper is still waiting for a lock that a call has given up on.
    pub(crate) fn waits(&self) -> bool {
        self.state.load(Ordering::Acquire) == GIVEN_UP
    }

    /// Lets the lock go, after [`hold`](Keeper::hold) has given `true`: once in the host, and once in a forked child.
    pub(crate) fn release(&self) {
        // SAFETY: since the state was HELD the keeper's thread waits for another, or is not in this process.
        let guard = unsafe { &mut *self.guard.get() };
        drop(guard.take());
        self.state.store(RELEASED, Ordering::Release);
        futex::wake(&self.state);
    }

    fn is_wanted(&self) -> bool {
        self.state.load(Ordering::Acquire) == WANTED
    }

    fn step(&self, from: u32, to: u32) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Chore for Keeper {
    fn run(&'static self) {
        loop {
            let guard = (self.take)();
            if self.is_wanted() {
                if matches!(guard, Guard::Out { .. }) {
                    stdout::flush();
                }
                // SAFETY: only this thread touches the guard before the state says HELD.
                unsafe { *self.guard.get() = Some(guard) };
                if self.step(WANTED, HELD) {
                    futex::wake(&self.state);
                    while self.state.load(Ordering::Acquire) == HELD {
                        futex::wait(&self.state, HELD, None);
                    }
                } else {
                    // SAFETY: nobody has been told of the guard.
                    unsafe { *self.guard.get() = None };
                }
            } else {
                drop(guard);
            }
            if self.step(RELEASED, IDLE) || self.step(GIVEN_UP, IDLE) {
                futex::wake(&self.state);
                return;
            }
        }
    }
}
