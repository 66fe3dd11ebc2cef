//! What the runtime keeps for the process it lives in. A forked child starts with none of it.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::unistd::{Pid, getpid};

use super::reaper::Reaper;
use crate::{
    sys::{futex::Gate, leaked::Leaked},
    wire::stage::Stages,
};

/// The runtime's part of one process.
pub(crate) struct Host {
    pub(crate) pid: Pid,
    /// Held from the making of a pipe to the closing of its writing end, across the fork: a sibling that is forked in
    /// between would inherit that end.
    pub(crate) gate: Gate,
    pub(crate) flights: Flights,
    pub(crate) stages: Stages,
    pub(crate) reaper: Reaper,
    /// Set while some thread keeps stdout or stderr locked and a thread of ours waits for it.
    pub(crate) stdio_is_taken: AtomicBool,
}

static HOST: Leaked<Host> = Leaked::new();

impl Host {
    /// Gives the state of this process, made on first use and after a fork that was not ours.
    pub(crate) fn current() -> &'static Host {
        let pid = getpid();
        HOST.get_or_replace(
            |host| host.pid == pid,
            || Host {
                pid,
                gate: Gate::default(),
                flights: Flights::default(),
                stages: Stages::new(),
                reaper: Reaper::default(),
                stdio_is_taken: AtomicBool::new(false),
            },
        )
    }

    /// Starts a forked child without any of it.
    pub(crate) fn forget() {
        HOST.forget();
    }
}

/// The reading ends of the calls in flight. A child closes those of its siblings: with them open, the children would
/// keep each other from noticing that their host is gone.
pub(crate) struct Flights([AtomicI32; 256]);

const NONE: i32 = -1;

impl Default for Flights {
    fn default() -> Self {
        Flights([const { AtomicI32::new(NONE) }; 256])
    }
}

impl Flights {
    /// Enters a descriptor until the returned value is dropped. With more calls in flight than there is room for, the
    /// rest is not entered.
    pub(crate) fn enter(&'static self, fd: i32) -> Option<Flight> {
        self.0.iter().find_map(|cell| {
            cell.compare_exchange(NONE, fd, Ordering::Relaxed, Ordering::Relaxed).ok()?;
            Some(Flight(cell))
        })
    }

    /// Gives every descriptor that is entered.
    pub(crate) fn all(&self) -> impl Iterator<Item = i32> {
        self.0.iter().map(|cell| cell.load(Ordering::Relaxed)).filter(|fd| *fd != NONE)
    }
}

/// An entry in [`Flights`]; must be dropped before its descriptor is closed.
pub(crate) struct Flight(&'static AtomicI32);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.store(NONE, Ordering::Relaxed);
    }
}
