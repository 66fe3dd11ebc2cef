//! The option `flatten`: a failed call becomes an error of the type that the function has anyway.

use crate::TimedOut;

/// A result that can take in a failed call.
#[diagnostic::on_unimplemented(
    message = "a failed call has no place in `{Self}`",
    label = "`flatten` needs a `Result<T, E>` here, with `E: From<timeout_runtime::TimedOut>`",
    note = "`io::Error`, `Box<dyn Error>`, `anyhow::Error` and `eyre::Report` have it; else leave `flatten` out to return `Result<{Self}, TimedOut>`"
)]
pub trait Flatten: Sized {
    /// Takes the call's failure in.
    fn flatten(outcome: Result<Self, TimedOut>) -> Self;
}

// Or the compiler would complain of `From` and list whatever `E` can be made of.
#[diagnostic::do_not_recommend]
impl<T, E: From<TimedOut>> Flatten for Result<T, E> {
    fn flatten(outcome: Result<Self, TimedOut>) -> Self {
        outcome.unwrap_or_else(|failure| Err(failure.into()))
    }
}

/// Gives the body's own result, with a failed call as its error.
pub fn flatten<R: Flatten>(outcome: Result<R, TimedOut>) -> R {
    R::flatten(outcome)
}
