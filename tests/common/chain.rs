//! Errors with sources, and how to look at them.

use std::{error::Error, fmt, io, iter};

/// An error and all its sources, as texts.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    iter::successors(Some(error), |&error| error.source()).map(|error| format!("{error} | {error:?}")).collect()
}

pub(crate) fn find_io<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// An error of a type that nothing is known of.
#[derive(Debug)]
pub(crate) struct Opaque {
    pub(crate) step: &'static str,
    pub(crate) source: Option<Box<dyn Error + Send + Sync>>,
}

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.step)
    }
}

impl Error for Opaque {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

pub(crate) fn deep() -> Opaque {
    let missing = io::Error::from_raw_os_error(2);
    let refused =
        io::Error::new(io::ErrorKind::PermissionDenied, Opaque { step: "open", source: Some(missing.into()) });
    Opaque { step: "load", source: Some(refused.into()) }
}
