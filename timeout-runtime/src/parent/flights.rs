//! The reading ends of the calls in flight, for the children that must not keep them.
//!
//! A child inherits those of its siblings. With them open, the children would keep each other from noticing that their
//! host is gone. The list is plain atomics: a fork may come in the middle of any change.

use std::sync::atomic::{AtomicI32, Ordering};

/// The descriptors of the calls in flight.
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
    #[inline]
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
