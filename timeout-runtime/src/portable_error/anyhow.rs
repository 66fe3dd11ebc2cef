//! `anyhow::Error`, by the feature of that name.

use super::PortableError;
use crate::RemoteError;

/// The chain, `{}` and `{:#}`, and a downcast to `io::Error` survive. `{:?}` does, too, but for a backtrace: with
/// `RUST_BACKTRACE` it is the caller's. A downcast to [`RemoteError`] gives the child's in its `Debug` text.
impl PortableError for anyhow::Error {
    type Wire = RemoteError;

    fn to_wire(&self) -> RemoteError {
        RemoteError::of(&**self).with_debug(format!("{self:?}"))
    }

    fn from_wire(wire: RemoteError) -> anyhow::Error {
        wire.rebuild(anyhow::Error::new, anyhow::Error::new, anyhow::Error::context)
    }
}
