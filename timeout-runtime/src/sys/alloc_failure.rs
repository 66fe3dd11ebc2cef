//! Tells whether a crash is an allocation that failed.
//!
//! Rust's answer to a failed allocation is an abort below `handle_alloc_error`, which is then on the stack: that is seen by
//! whoever walks it. Code in other languages gets a null pointer, and follows it or aborts. That is told only where memory
//! is bounded, and so full that not even a little could be mapped: a single request for much more than is left cannot be
//! told from another bug.

#![expect(unsafe_code, reason = "a mapping is tried in a signal handler")]

use std::{
    ffi::c_int,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::libc;

/// Whether a full address space is the doing of a bound.
static IS_BOUNDED: AtomicBool = AtomicBool::new(false);

/// Has full memory taken for the cause of crashes that can come of it.
pub(crate) fn memory_is_bounded() {
    IS_BOUNDED.store(true, Ordering::Relaxed);
}

/// Whether the crash by `signal` that is under way on this thread can come of full memory. Async-signal-safe.
pub(crate) fn is_likely_cause_of(signal: c_int, address: Option<u64>, stack_overflow: bool) -> bool {
    /// What the C library asks the kernel for at once when it has nothing left for a small request.
    const SMALL: usize = 1 << 20;
    /// A stack grows by pages.
    const PAGE: usize = 4096;
    /// Where the fields of what should be at address 0 are.
    const NEAR_NULL: u64 = 64 << 10;
    match signal {
        libc::SIGABRT => is_full(SMALL),
        libc::SIGSEGV if stack_overflow => is_full(PAGE),
        libc::SIGSEGV if address.is_some_and(|address| address < NEAR_NULL) => is_full(SMALL),
        _ => false,
    }
}

/// Whether memory is bounded and there is no room for `size` bytes more.
fn is_full(size: usize) -> bool {
    if !IS_BOUNDED.load(Ordering::Relaxed) {
        return false;
    }
    // Writable, as only that counts for every bound on memory.
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
    let room = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
    if room == libc::MAP_FAILED {
        return true;
    }
    // SAFETY: it has just been mapped, and nobody else knows it.
    unsafe { libc::munmap(room, size) };
    false
}
