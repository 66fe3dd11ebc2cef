//! A function that always comes back.
//!
//! `#[timeout(secs)]` runs a function in a forked child process and brings its value home over a pipe.
#![deny(missing_docs)]

#[cfg(windows)]
compile_error!(
    "timeout-runtime needs fork(2): on Windows a function cannot be run in a copy of its process, and a thread cannot be \
     stopped safely"
);

mod call;
mod cancel;
mod child;
mod deadline;
mod error;
#[cfg(test)]
mod faults;
mod limit;
mod parent;
mod report;
mod start;
mod sys;
mod wire;
mod write_back;

pub use call::{Call, Portable, call};
pub use cancel::Cancel;
pub use error::{Ran, Reason, TimedOut};
pub use limit::IntoLimit;
pub use report::{Backtrace, Place, Usage};
pub use timeout_macro::timeout;

/// What the attribute's expansion uses. Not for others: it may change with any version.
#[doc(hidden)]
pub mod __private {
    pub use crate::write_back::{Slot, Slots, WriteBack};

    /// Gives the value of a test's body, or fails the test with the body's own message.
    #[track_caller]
    pub fn or_fail_test<T>(result: Result<T, crate::TimedOut>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => error.raise(),
        }
    }
}
