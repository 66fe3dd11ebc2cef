//! Random numbers from the kernel, which are never the same in two processes.

#![expect(unsafe_code, reason = "getrandom(2) writes to memory")]

use nix::{Result, errno::Errno, libc};

/// Gives a random number.
pub(crate) fn number() -> Result<u64> {
    let mut bytes = [0; size_of::<u64>()];
    // SAFETY: the kernel writes at most `len` bytes to `bytes`.
    let read = Errno::result(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) })?;
    // So few are given whole or not at all (getrandom(2)).
    if usize::try_from(read) == Ok(bytes.len()) { Ok(u64::from_ne_bytes(bytes)) } else { Err(Errno::EIO) }
}
