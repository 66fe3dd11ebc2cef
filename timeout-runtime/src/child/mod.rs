//! The child's side of a call: a straight line from the fork to `_exit`. Nothing here ever runs in the caller.

pub(crate) mod hooks;
mod limits;
pub(crate) mod outbox;
pub(crate) mod panic;
#[cfg(any(feature = "rand", feature = "fastrand"))]
mod reseed;
mod run;
pub(crate) mod spare;

// A body that panics in the caller, for a debugger, is told in the same words.
pub(crate) use panic::text as panic_text;
pub(crate) use run::{Legacy, Options, run};
