//! Keeps buffered text and the locks of stdout and stderr from being torn by a fork.
//!
//! A copied buffer would be printed twice, and a copied lock whose owner is another thread is never released in the
//! child: its first `println!` would hang. So stdout is flushed before the fork and, where other threads exist, both
//! locks are held across it, if they can be had soon: a thread may own stdout for good.
//!
//! What is still ugly: a call made from a `Display` that is just being printed finds the buffer in use. What was printed
//! so far is then in the child as well, and comes out twice if the body calls `exit`.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    deadline::Deadline,
    sys::{process, stdio::Keeper, stdout},
};

/// The longest wait for the locks. Only where threads print without a pause does it take more than some microseconds.
const PATIENCE: Duration = Duration::from_millis(200);

/// Locks that could not be had for so long are taken to be owned for good.
const FOR_GOOD: Duration = Duration::from_secs(1);

/// What a process knows of its standard streams.
pub(crate) struct Streams {
    out: Keeper,
    err: Keeper,
    /// No lock of theirs is held by a thread that a fork of the host's own left behind: this process is no copy, or the
    /// locks have been had once.
    are_sound: AtomicBool,
    /// Since when they could not be had; only ever used by the one call that is at the gate.
    taken_since: Mutex<Option<Instant>>,
}

/// The streams as they are across one fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdio {
    /// No other thread can hold a lock.
    Alone,
    /// The locks are held for us.
    Held,
    /// Another thread may hold them: the child had better not touch them on its own.
    Taken,
}

impl Default for Streams {
    fn default() -> Self {
        Streams {
            out: Keeper::of_stdout(),
            err: Keeper::of_stderr(),
            are_sound: AtomicBool::new(!process::is_copy()),
            taken_since: Mutex::new(None),
        }
    }
}

impl Streams {
    /// Flushes stdout where none of `threads` but ours can have its lock: half a line of such a host comes before what is
    /// printed by a process that is no copy of it.
    pub(crate) fn flush_if_alone(&self, threads: usize) {
        if threads <= 1 && self.are_sound.load(Ordering::Relaxed) {
            stdout::flush();
        }
    }

    /// Flushes stdout and, if the host has several `threads`, has the locks held.
    pub(crate) fn hold(&'static self, threads: usize, deadline: Deadline) -> Stdio {
        if threads <= 1 && self.are_sound.load(Ordering::Relaxed) {
            stdout::flush();
            return Stdio::Alone;
        }
        let mut taken_since = self.taken_since.lock().unwrap_or_else(PoisonError::into_inner);
        // A short call does not spend its time on this, and nobody waits any more for an owner that keeps them.
        let patience = match *taken_since {
            Some(since) if self.one_waits() && since.elapsed() > FOR_GOOD => Duration::ZERO,
            Some(_) if self.one_waits() => PATIENCE / 4,
            _ => PATIENCE,
        };
        let patience = deadline.left().map_or(patience, |left| patience.min(left / 4));
        let begin = Instant::now();
        let held = self.out.hold(patience) && {
            let both = self.err.hold(patience.saturating_sub(begin.elapsed()));
            if !both {
                self.out.release();
            }
            both
        };
        *taken_since = if held { None } else { Some(taken_since.unwrap_or_else(Instant::now)) };
        self.are_sound.fetch_or(held, Ordering::Relaxed);
        if held { Stdio::Held } else { Stdio::Taken }
    }

    /// Ends what [`hold`](Streams::hold) began: once in the caller, and once in the child.
    #[inline]
    pub(crate) fn release(&self, stdio: Stdio) {
        if stdio == Stdio::Held {
            self.release_both();
        }
    }

    #[cold]
    fn release_both(&self) {
        self.out.release();
        self.err.release();
    }

    fn one_waits(&self) -> bool {
        self.out.waits() || self.err.waits()
    }
}
