//! The reading ends of the calls in flight, for the children that must not keep them.
//!
//! A child inherits those of its siblings. With them open, the children would keep each other from noticing that their
//! host is gone. The list is plain atomics: a fork may come in the middle of any change.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicI32, Ordering},
};

/// The descriptors of the calls in flight.
pub(crate) struct Flights([AtomicI32; 256]);

const NONE: i32 = -1;

impl Default for Flights {
    fn default() -> Self {
        Flights([const { AtomicI32::new(NONE) }; 256])
    }
}

impl Flights {
    /// Enters a descriptor until it is closed. With more calls in flight than there is room for, the rest is not entered.
    pub(crate) fn enter(&'static self, fd: OwnedFd) -> InFlight {
        let number = fd.as_raw_fd();
        let entry = self.0.iter().find_map(|cell| {
            cell.compare_exchange(NONE, number, Ordering::Relaxed, Ordering::Relaxed).ok()?;
            Some(Entry(cell))
        });
        InFlight { _entry: entry, fd }
    }

    /// Gives every descriptor that is entered.
    #[inline]
    pub(crate) fn all(&self) -> impl Iterator<Item = i32> {
        self.0.iter().map(|cell| cell.load(Ordering::Relaxed)).filter(|fd| *fd != NONE)
    }
}

/// A descriptor that is entered in [`Flights`].
pub(crate) struct InFlight {
    /// Dropped before the descriptor is closed: its number may be another's at once, and a child closes what is entered.
    _entry: Option<Entry>,
    fd: OwnedFd,
}

impl AsFd for InFlight {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

struct Entry(&'static AtomicI32);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.store(NONE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io, thread,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn a_descriptor_is_never_entered_when_it_is_somebody_elses() {
        static FLIGHTS: Flights = Flights([const { AtomicI32::new(NONE) }; 256]);
        let begin = Instant::now();
        let goes_on = || begin.elapsed() < Duration::from_millis(300);
        let calls = || {
            while goes_on() {
                drop(FLIGHTS.enter(io::pipe().unwrap().0.into()));
            }
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(calls);
            }
            while goes_on() {
                let ours = io::pipe().unwrap();
                let numbers = [ours.0.as_raw_fd(), ours.1.as_raw_fd()];
                assert!(FLIGHTS.all().all(|entered| !numbers.contains(&entered)));
            }
        });
        assert_eq!(FLIGHTS.all().count(), 0);
    }
}
