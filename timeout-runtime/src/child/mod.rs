//! The child's side of a call: a straight line from the fork to `_exit`. Nothing here ever runs in the caller.

pub(crate) mod outbox;
pub(crate) mod panic;
mod run;
pub(crate) mod spare;

pub(crate) use run::{Legacy, Options, run};
