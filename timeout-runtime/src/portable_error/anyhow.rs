//! `anyhow::Error`, by the feature of that name.

use super::PortableError;
use crate::RemoteError;

/// The chain, `{}` and `{:#}` are the child's, and a downcast to `io::Error` works. So is `{:?}`, but for a backtrace, which
/// is the caller's. A downcast to [`RemoteError`] gives the outermost text, whose `Debug` is the child's `{:?}` in full.
///
/// With `RUST_BACKTRACE` set, the child resolves its backtrace for that, which can take some tenths of a second of the limit.
impl PortableError for anyhow::Error {
    type Wire = RemoteError;

    fn to_wire(&self) -> RemoteError {
        RemoteError::of(&**self).with_debug(format!("{self:?}"))
    }

    fn from_wire(wire: RemoteError) -> anyhow::Error {
        wire.rebuild(anyhow::Error::new, anyhow::Error::new, anyhow::Error::context)
    }
}
