//! Flushing stdout where it may be in use.

use std::{
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
};

/// Flushes stdout; what cannot be written stays the host's affair.
///
/// A call made while this very thread is printing, from a `Display` inside `println!`, finds the buffer in use, which
/// std answers with a panic. Then there is nothing that could be flushed.
pub(crate) fn flush() {
    let _ = panic::catch_unwind(AssertUnwindSafe(|| io::stdout().flush()));
}
