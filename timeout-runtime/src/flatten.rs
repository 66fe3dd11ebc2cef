//! The option `flatten`: a failed call becomes an error of the type that the function has anyway.

use crate::TimedOut;

/// A result that can take in a failed call.
#[diagnostic::on_unimplemented(
    message = "with `flatten` the function must return a `Result`, and `{Self}` is none",
    label = "a failed call has no place in this",
    note = "leave `flatten` out to return `Result<{Self}, TimedOut>`"
)]
pub trait Flatten: Sized {
    /// Its error, which a failed call becomes.
    type Error;

    /// Takes the call's failure in.
    fn flatten(outcome: Result<Self, TimedOut>) -> Self
    where
        Self::Error: FromTimedOut;
}

impl<T, E> Flatten for Result<T, E> {
    type Error = E;

    fn flatten(outcome: Result<Self, TimedOut>) -> Self
    where
        E: FromTimedOut,
    {
        outcome.unwrap_or_else(|failure| Err(E::from_timed_out(failure)))
    }
}

/// An error that a [`TimedOut`] can become. It is implemented for every `E: From<TimedOut>`.
#[diagnostic::on_unimplemented(
    message = "with `flatten` a `TimedOut` must become the error `{Self}`",
    label = "this error is not `From<TimedOut>`",
    note = "implement `From<timeout_runtime::TimedOut>` for it, or leave `flatten` out"
)]
pub trait FromTimedOut {
    /// Makes the error.
    fn from_timed_out(failure: TimedOut) -> Self;
}

impl<E: From<TimedOut>> FromTimedOut for E {
    fn from_timed_out(failure: TimedOut) -> E {
        failure.into()
    }
}

/// Gives the body's own result, with a failed call as its error.
pub fn flatten<R: Flatten>(outcome: Result<R, TimedOut>) -> R
where
    R::Error: FromTimedOut,
{
    R::flatten(outcome)
}
