//! Both standard streams' locks, held across a fork by a thread of ours that may wait for them as long as it takes.
//!
//! std has no timed lock. So the caller never takes one: a keeper takes both, flushes stdout, and holds them while the
//! caller forks, which waits for that with a bound. Then the caller drops the guards, in both processes, as their drop
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
/// The keeper waits for the locks, and somebody waits for the keeper.
const WANTED: u32 = 1;
/// The keeper waits for the locks, and nobody waits for it any more.
const GIVEN_UP: u32 = 2;
/// The keeper holds the locks, for whoever waited.
const HELD: u32 = 3;
/// The keeper may let the locks go.
const RELEASED: u32 = 4;

/// Holds the locks for one caller at a time. To be used under a lock of the caller's own.
#[derive(Default)]
pub(crate) struct Keeper {
    state: AtomicU32,
    guards: UnsafeCell<Option<(StdoutLock<'static>, StderrLock<'static>)>>,
}

// SAFETY: `guards` is touched by the keeper's thread until the state is HELD, and from then on by whoever had it held.
unsafe impl Sync for Keeper {}

// SAFETY: a `Keeper` is moved only before its thread has been started, when it holds no guards.
unsafe impl Send for Keeper {}

impl Keeper {
    /// Has the locks held, stdout flushed; `false` if they cannot be had within `patience`. Then the keeper goes on
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

    /// Whether the keeper is still waiting for locks that a call has given up on.
    pub(crate) fn waits(&self) -> bool {
        self.state.load(Ordering::Acquire) == GIVEN_UP
    }

    /// Lets the locks go, after [`hold`](Keeper::hold) has given `true`: once in the host, and once in a forked child.
    pub(crate) fn release(&self) {
        // SAFETY: since the state was HELD the keeper's thread waits for another, or is not in this process.
        let guards = unsafe { &mut *self.guards.get() };
        drop(guards.take());
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
            let out = io::stdout().lock();
            if self.is_wanted() {
                let err = io::stderr().lock();
                stdout::flush();
                // SAFETY: only this thread touches the guards before the state says HELD.
                unsafe { *self.guards.get() = Some((out, err)) };
                if self.step(WANTED, HELD) {
                    futex::wake(&self.state);
                    while self.state.load(Ordering::Acquire) == HELD {
                        futex::wait(&self.state, HELD, None);
                    }
                } else {
                    // SAFETY: nobody has been told of the guards.
                    unsafe { *self.guards.get() = None };
                }
            }
            if self.step(RELEASED, IDLE) || self.step(GIVEN_UP, IDLE) {
                futex::wake(&self.state);
                return;
            }
        }
    }
}
