//! Memory that a process shares with its children: a child's progress, read without a system call.
//!
//! A host and the children it forks share one page. The workers of a fork server have a page each, and cannot write into
//! another's: what is read there is a part of somebody's answer.

#![expect(unsafe_code, reason = "mmap(2) hands out raw memory")]

use std::{
    ffi::{c_int, c_void},
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
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let address = map_at(ptr::null_mut(), SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1)?;
    // SAFETY: the mapping has SIZE readable and writable zero bytes, is never unmapped, and is only used through
    // these atomics, in whichever process.
    Ok(unsafe { slice::from_raw_parts(address.cast::<AtomicU8>(), SIZE) })
}

/// A page for each worker of a fork server, in a file that the server and its host map.
pub(crate) struct Pages {
    start: *mut c_void,
    /// How many bytes a page has.
    step: usize,
}

/// How many workers at once have a page.
const PAGES: usize = 1024;

// SAFETY: the memory is used through atomics alone, and unmapped when nobody has the last `Pages` any more.
unsafe impl Send for Pages {}

// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Makes zeroed pages that can be given to a process of another program. The kernel gives each when it is first used.
    pub(crate) fn file() -> Result<OwnedFd> {
        let file = memfd_create(c"timeout-runtime", MFdFlags::MFD_CLOEXEC)?;
        let length = libc::off_t::try_from(PAGES * page_size()).map_err(|_| Errno::EFBIG)?;
        ftruncate(&file, length)?;
        super::fd::above_stdio(file)
    }

    /// Maps what [`file`](Pages::file) made.
    pub(crate) fn of(file: BorrowedFd<'_>) -> Result<Pages> {
        let step = page_size();
        let start = map_at(
            ptr::null_mut(),
            PAGES * step,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
        )?;
        Ok(Pages { start, step })
    }

    /// The first byte of a page, if there are so many.
    pub(crate) fn byte(&self, number: u32) -> Option<&AtomicU8> {
        let at = usize::try_from(number).ok().filter(|number| *number < PAGES)? * self.step;
        // SAFETY: it lies in the mapping, which has readable and writable bytes for as long as `self` is borrowed.
        Some(unsafe { &*self.start.wrapping_byte_add(at).cast::<AtomicU8>() })
    }

    /// Has this process share no page but this one: the others are its own from here on, and empty.
    pub(crate) fn keep_only(&self, number: u32) -> Result<()> {
        let kept = usize::try_from(number).map_or(PAGES, |number| number.min(PAGES));
        for (begin, end) in [(0, kept), (kept + 1, PAGES)] {
            if begin < end {
                let (start, length) = (self.start.wrapping_byte_add(begin * self.step), (end - begin) * self.step);
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
                // Still there, so that nothing that points to it points nowhere; and it costs nothing.
                map_at(start, length, libc::PROT_READ, flags, -1)?;
            }
        }
        Ok(())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody borrows from it any more.
        unsafe { libc::munmap(self.start, PAGES * self.step) };
    }
}

fn page_size() -> usize {
    // SAFETY: gives a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(SIZE)
}

/// `at` is null, or lies in a mapping of this file's own that is to be replaced.
fn map_at(at: *mut c_void, length: usize, protection: c_int, flags: c_int, fd: c_int) -> Result<*mut c_void> {
    fault::check(Op::Mmap)?;
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory; one that replaces another does so
    // where only atomics in this file's hands are.
    let address = unsafe { libc::mmap(at, length, protection, flags, fd, 0) };
    if address == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(address) }
}
