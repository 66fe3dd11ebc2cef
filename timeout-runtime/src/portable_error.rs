//! Errors that come back although they have no serde: by a form of theirs that has.

#[cfg(feature = "anyhow")]
mod anyhow;
#[cfg(feature = "eyre")]
mod eyre;

use std::{error::Error, fmt, io};

use serde::{Serialize, de::DeserializeOwned};

use crate::RemoteError;

/// An error that can come back from a child process without serde, by a form of it that has.
///
/// It is implemented for [`io::Error`], boxed errors, [`fmt::Error`], and by the features `anyhow` and `eyre` for their
/// errors. Of these the `Display` and `Debug` texts and all sources survive, and of each `io::Error` in the chain its kind
/// and OS code. Downcasts find an `io::Error`; the types of other errors stay behind. An `io::Error` with a fixed text of std's
/// own has another `Debug` text afterwards: `Custom { .. }` for `Error { .. }`.
///
/// [`#[timeout]`](macro@crate::timeout) uses it for the `E` of a result `Result<T, E>` when `E` has no serde, and
/// [`Call::run_result`](crate::Call::run_result) does.
///
/// # Your own errors
///
/// There are three ways; the first that fits is best.
///
/// 1. Derive serde's `Serialize` and `Deserialize`, and put `#[serde(with = "timeout_runtime::io_error")]` on each field
///    that is an `io::Error`. Nothing is lost.
/// 2. Implement this trait: say what travels, and how the error is made of it.
/// 3. Implement `From<RemoteError>`, and write `error = text` in the attribute: texts and sources travel, and whichever
///    error it was, that is what it comes back as.
///
/// An error of another crate has none of these: wrap it, or return `Box<dyn Error + Send + Sync>`, which `?` makes of it.
///
/// # Examples
/// ```
/// use std::{fs, io};
/// use timeout_runtime::{PortableError, RemoteError, timeout};
///
/// #[derive(Debug)]
/// enum LoadError {
///     Read(io::Error),
///     TooLong { lines: usize },
/// }
///
/// impl PortableError for LoadError {
///     type Wire = Result<usize, RemoteError>;
///
///     fn to_wire(&self) -> Self::Wire {
///         match self {
///             LoadError::TooLong { lines } => Ok(*lines),
///             LoadError::Read(error) => Err(RemoteError::of(error)),
///         }
///     }
///
///     fn from_wire(wire: Self::Wire) -> LoadError {
///         match wire {
///             Ok(lines) => LoadError::TooLong { lines },
///             Err(error) => LoadError::Read(error.into()),
///         }
///     }
/// }
///
/// #[timeout(2)]
/// fn load(path: &str) -> Result<String, LoadError> {
///     let text = fs::read_to_string(path).map_err(LoadError::Read)?;
///     match text.lines().count() {
///         lines @ 1000.. => Err(LoadError::TooLong { lines }),
///         _ => Ok(text),
///     }
/// }
///
/// let error = load("/no/such/file").unwrap().unwrap_err();
/// assert!(matches!(error, LoadError::Read(error) if error.kind() == io::ErrorKind::NotFound));
/// ```
#[diagnostic::on_unimplemented(
    message = "the error `{Self}` cannot come back from the child process",
    label = "this error has neither serde nor `PortableError`",
    note = "your own error has three ways back:\n\
            1. derive `serde::Serialize` and `serde::Deserialize`, with `#[serde(with = \"timeout_runtime::io_error\")]` \
            on each `io::Error` in it\n\
            2. implement `timeout_runtime::PortableError`\n\
            3. implement `From<timeout_runtime::RemoteError>` and write `error = text` in the attribute",
    note = "an error of another crate: return `Box<dyn std::error::Error + Send + Sync>`, which `?` makes of it",
    note = "`anyhow::Error` and `eyre::Report`: turn on the feature `anyhow` or `eyre` of `timeout-runtime`"
)]
pub trait PortableError: Sized {
    /// What travels: [`RemoteError`], or whatever else has serde and is enough to make the error again.
    type Wire: Serialize + DeserializeOwned;

    /// Gives what travels. It runs in the child.
    fn to_wire(&self) -> Self::Wire;

    /// Makes the error of what has travelled. It runs in the child once, to see that it comes to an end, and then in the
    /// caller.
    fn from_wire(wire: Self::Wire) -> Self;
}

impl PortableError for io::Error {
    type Wire = RemoteError;

    fn to_wire(&self) -> RemoteError {
        RemoteError::of(self)
    }

    fn from_wire(wire: RemoteError) -> io::Error {
        wire.into()
    }
}

impl PortableError for fmt::Error {
    type Wire = ();

    fn to_wire(&self) {}

    fn from_wire((): ()) -> fmt::Error {
        fmt::Error
    }
}

macro_rules! boxed {
    ($($error:ty)*) => {$(
        impl PortableError for Box<$error> {
            type Wire = RemoteError;

            fn to_wire(&self) -> RemoteError {
                RemoteError::of(&**self)
            }

            fn from_wire(wire: RemoteError) -> Box<$error> {
                wire.into_boxed()
            }
        }
    )*};
}

boxed! {
    dyn Error
    dyn Error + Send
    dyn Error + Send + Sync
}
