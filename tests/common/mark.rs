//! Words from a body to its test, through a pipe: numbers, and the moment at which something happened.

use std::{
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A pipe that a body writes to. Child and caller read the same monotonic clock.
pub(crate) struct Mark {
    pub(super) origin: Instant,
    pub(super) read: PipeReader,
    pub(super) write: PipeWriter,
}

impl Mark {
    pub(crate) fn new() -> Mark {
        let (read, write) = pipe().unwrap();
        Mark { origin: Instant::now(), read, write }
    }

    /// The same mark, to be given away.
    pub(crate) fn again(&self) -> Mark {
        Mark { origin: self.origin, read: self.read.try_clone().unwrap(), write: self.write.try_clone().unwrap() }
    }

    /// Tells a number. One write, so that tellers do not mix.
    pub(crate) fn tell(&self, number: u64) {
        (&self.write).write_all(&number.to_le_bytes()).unwrap();
    }

    /// Tells that it happens now.
    pub(crate) fn now(&self) {
        self.tell(self.origin.elapsed().as_nanos() as u64);
    }

    /// Whether something has been told and not been heard yet.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told_within(Duration::ZERO)
    }

    /// Whether something is told before `patience` is over.
    pub(crate) fn is_told_within(&self, patience: Duration) -> bool {
        let patience = PollTimeout::try_from(patience).unwrap();
        poll(&mut [PollFd::new(self.read.as_fd(), PollFlags::POLLIN)], patience).unwrap() > 0
    }

    /// Hears the next number; waits for it, but not for ever.
    pub(crate) fn hear(&self) -> u64 {
        assert!(self.is_told_within(Duration::from_secs(20)), "nobody told anything");
        let mut bytes = [0; 8];
        (&self.read).read_exact(&mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// Hears everything that has been told.
    pub(crate) fn hear_all(&self) -> Vec<u64> {
        std::iter::from_fn(|| self.is_told().then(|| self.hear())).collect()
    }

    /// The moment that [`now`](Mark::now) told.
    pub(crate) fn moment(&self) -> Instant {
        self.origin + Duration::from_nanos(self.hear())
    }
}
