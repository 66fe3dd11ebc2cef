//! One page of memory that a process shares with the children it forks: a child's progress, read without a system call.

#![expect(unsafe_code, reason = "mmap(2) hands out raw memory")]

use std::{ptr, slice, sync::atomic::AtomicU8};

use nix::{Result, errno::Errno, libc};

use super::fault::{self, Op};

/// How many bytes the page has; a kernel page is at least this large.
const SIZE: usize = 4096;

/// Maps a zeroed page that forked children share. It stays for the life of the process.
pub(crate) fn page() -> Result<&'static [AtomicU8]> {
    fault::check(Op::Mmap)?;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
    let address = unsafe { libc::mmap(ptr::null_mut(), SIZE, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: the mapping has SIZE readable and writable zero bytes, is never unmapped, and is only used through
    // these atomics, in whichever process.
    Ok(unsafe { slice::from_raw_parts(address.cast::<AtomicU8>(), SIZE) })
}
