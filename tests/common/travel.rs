//! What a scenario hands to a body that may run in a worker of the fork server: numbers, functions, and marks.

use std::{
    fs::File,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{Mark, raw};

/// A plain function. In the other process it is where it is here, as seen from a neighbour.
#[derive(Clone, Copy)]
pub(crate) struct Fun<R>(pub(crate) fn() -> R);

fn neighbour() {}

impl<R> Serialize for Fun<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0 as usize).wrapping_sub(neighbour as fn() as usize).serialize(serializer)
    }
}

impl<'de, R> Deserialize<'de> for Fun<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let distance = usize::deserialize(deserializer)?;
        Ok(Fun(raw::function_at((neighbour as fn() as usize).wrapping_add(distance))))
    }
}

/// Where a mark is, for a process that has not inherited it: the numbers of its descriptors in the host.
#[derive(Serialize, Deserialize)]
struct Address {
    host: u32,
    read: i32,
    write: i32,
    origin: Duration,
}

/// The time on a clock that all processes share.
pub(crate) fn clock() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into()
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let origin = clock() - self.origin.elapsed();
        let (read, write) = (self.read.as_raw_fd(), self.write.as_raw_fd());
        Address { host: std::process::id(), read, write, origin }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Address { host, read, write, origin } = Address::deserialize(deserializer)?;
        let open = |number, writes: bool| {
            let path = format!("/proc/{host}/fd/{number}");
            File::options().read(!writes).write(writes).open(path).map(OwnedFd::from).map_err(D::Error::custom)
        };
        let origin = Instant::now() - (clock() - origin);
        Ok(Mark { origin, read: open(read, false)?.into(), write: open(write, true)?.into() })
    }
}
