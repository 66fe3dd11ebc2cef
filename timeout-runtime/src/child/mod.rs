//! The child's side of a call: a straight line from the fork to `_exit`. Nothing here ever runs in the caller.

pub(crate) mod hooks;
mod limits;
pub(crate) mod outbox;
mod panic;
#[cfg(any(feature = "rand", feature = "fastrand"))]
mod reseed;
mod run;

pub(crate) use run::{Legacy, Options, run};
