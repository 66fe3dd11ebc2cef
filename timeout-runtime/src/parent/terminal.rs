//! Whether there is a terminal that a child has to be kept from.
//!
//! A child in a session of its own is out of reach of every terminal; but a session costs the kernel more than all else
//! that makes a child safe (with autogroup scheduling it makes a group of tasks for each, sched(7)), and without a
//! terminal it is for nothing: then a process group does.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::sys::process;

/// What was seen when last looked. A process gets a terminal when the leader of its session opens one, which leaders do
/// as they start; so it is looked at again only now and then.
pub(crate) struct Terminal {
    epoch: Instant,
    /// Nanoseconds since `epoch` until which there is none; 0 while that is not known, or there is one.
    free_until: AtomicU64,
}

/// How long a look is good for.
const GOOD_FOR: Duration = Duration::from_millis(250);

impl Terminal {
    pub(crate) fn new() -> Terminal {
        Terminal { epoch: Instant::now(), free_until: AtomicU64::new(0) }
    }

    /// Whether this process has a terminal, or may have one.
    pub(crate) fn is_there(&self, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.epoch);
        if nanoseconds(now) < self.free_until.load(Ordering::Relaxed) {
            return false;
        }
        let is_there = process::has_terminal();
        let until = if is_there { 0 } else { nanoseconds(now.saturating_add(GOOD_FOR)) };
        self.free_until.store(until, Ordering::Relaxed);
        is_there
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
