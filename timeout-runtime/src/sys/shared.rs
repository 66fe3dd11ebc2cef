//! Memory that a process shares with its children: a child's progress, read without a system call.
//!
//! A host and the children it forks share one page. The workers of a fork server have a page each, and cannot write into
//! another's: what is read there is a part of somebody's answer.

#![expect(unsafe_code, reason = "mmap(2) hands out raw memory")]

use std::{
    ffi::{c_int, c_void},
    ops::Range,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr, slice,
    sync::atomic::{AtomicU8, AtomicUsize, Ordering},
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
    let address = map(SIZE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
    // SAFETY: the mapping has SIZE readable and writable zero bytes, is never unmapped, and is only used through
    // these atomics, in whichever process.
    Ok(unsafe { slice::from_raw_parts(address.cast::<AtomicU8>(), SIZE) })
}

/// A page for each worker of a fork server, in a file that the server and its host map.
pub(crate) struct Pages {
    start: *mut c_void,
    /// How many bytes a page has.
    step: usize,
    /// Those that are mapped here.
    first: AtomicUsize,
    end: AtomicUsize,
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
        let start = map(PAGES * step, libc::MAP_SHARED, file.as_raw_fd())?;
        Ok(Pages { start, step, first: AtomicUsize::new(0), end: AtomicUsize::new(PAGES) })
    }

    fn mapped(&self) -> Range<usize> {
        self.first.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)
    }

    /// The first byte of a page, if it is here.
    pub(crate) fn byte(&self, number: u32) -> Option<&AtomicU8> {
        let at = usize::try_from(number).ok().filter(|number| self.mapped().contains(number))? * self.step;
        // SAFETY: the page is mapped, readable and writable. It stays so as long as `self` is borrowed: the one process that
        // takes pages away is a worker, which has borrowed none but the one that it keeps.
        Some(unsafe { &*self.start.wrapping_byte_add(at).cast::<AtomicU8>() })
    }

    /// Leaves this process, a worker that has just been forked, without any page but this one. It takes no memory: there may
    /// be none left.
    pub(crate) fn keep_only(&self, number: u32) -> Result<()> {
        let kept = usize::try_from(number).map_or(PAGES, |number| number.min(PAGES));
        self.first.store(kept, Ordering::Relaxed);
        self.end.store((kept + 1).min(PAGES), Ordering::Relaxed);
        self.unmap(0..kept)?;
        self.unmap(kept + 1..PAGES)
    }

    fn unmap(&self, pages: Range<usize>) -> Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        let (start, length) = (self.start.wrapping_byte_add(pages.start * self.step), pages.len() * self.step);
        // SAFETY: they are pages of the mapping, which is ours, and nobody borrows them any more.
        Errno::result(unsafe { libc::munmap(start, length) }).map(drop)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = self.unmap(self.mapped());
    }
}

fn page_size() -> usize {
    // SAFETY: gives a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(SIZE)
}

fn map(length: usize, flags: c_int, fd: c_int) -> Result<*mut c_void> {
    fault::check(Op::Mmap)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let address = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, fd, 0) };
    if address == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(address) }
}
