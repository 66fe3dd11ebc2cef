//! One page of memory that a process shares with the children it forks: a child's progress, read without a system call.

#![expect(unsafe_code, reason = "mmap(2) hands out raw memory")]

use std::{
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr, slice,
    sync::atomic::AtomicU8,
};

use nix::{
    Result,
    errno::Errno,
    libc,
    sys::memfd::{MFdFlags, memfd_create},
    unistd::ftruncate,
};

use super::fault::{self, Op};

/// How many bytes the page has; a kernel page is at least this large.
const SIZE: usize = 4096;

/// Maps a zeroed page that forked children share. It stays for the life of the process.
pub(crate) fn page() -> Result<&'static [AtomicU8]> {
    map(libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
}

/// Makes a zeroed page that can be given to a process of another program.
pub(crate) fn file() -> Result<OwnedFd> {
    let file = memfd_create(c"timeout-runtime", MFdFlags::MFD_CLOEXEC)?;
    // A page's size fits.
    ftruncate(&file, SIZE as libc::off_t)?;
    super::fd::above_stdio(file)
}

/// Maps what [`file`] made. It stays for the life of the process.
pub(crate) fn page_of(file: BorrowedFd<'_>) -> Result<&'static [AtomicU8]> {
    map(libc::MAP_SHARED, file.as_raw_fd())
}

fn map(flags: libc::c_int, fd: i32) -> Result<&'static [AtomicU8]> {
    fault::check(Op::Mmap)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let address = unsafe { libc::mmap(ptr::null_mut(), SIZE, protection, flags, fd, 0) };
    if address == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: the mapping has SIZE readable and writable zero bytes, is never unmapped, and is only used through
    // these atomics, in whichever process.
    Ok(unsafe { slice::from_raw_parts(address.cast::<AtomicU8>(), SIZE) })
}
