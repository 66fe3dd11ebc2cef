//! Tells whether a crash is an allocation that failed.
//!
//! Rust's answer to a failed allocation is an abort below `handle_alloc_error`, which is then on the stack. Code in other
//! languages gets a null pointer, and follows it or aborts. That is told only where memory is bounded, and so full that
//! not even a little could be mapped: a single request for much more than is left cannot be told from another bug.

#![expect(unsafe_code, reason = "the stack is walked, and a mapping is tried, in a signal handler")]

use std::{
    alloc::{Layout, handle_alloc_error},
    ffi::{c_int, c_void},
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

/// Whether the crash by `signal` that is under way on this thread is a failed allocation. Async-signal-safe, as far as
/// walking a stack is.
pub(crate) fn is_cause_of(signal: c_int, address: Option<u64>, stack_overflow: bool) -> bool {
    /// What the C library asks the kernel for at once when it has nothing left for a small request.
    const SMALL: usize = 1 << 20;
    /// A stack grows by pages.
    const PAGE: usize = 4096;
    /// Where the fields of what should be at address 0 are.
    const NEAR_NULL: u64 = 64 << 10;
    match signal {
        libc::SIGABRT => is_on_stack() || is_full(SMALL),
        libc::SIGSEGV | libc::SIGBUS if stack_overflow => is_full(PAGE),
        libc::SIGSEGV if address.is_some_and(|address| address < NEAR_NULL) => is_full(SMALL),
        _ => false,
    }
}

/// Whether memory is bounded and there is no room for `size` bytes more.
fn is_full(size: usize) -> bool {
    if !IS_BOUNDED.load(Ordering::Relaxed) {
        return false;
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
    let room = unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
    if room == libc::MAP_FAILED {
        return true;
    }
    // SAFETY: it has just been mapped, and nobody else knows it.
    unsafe { libc::munmap(room, size) };
    false
}

// libgcc's or LLVM's, whichever std itself unwinds with.
unsafe extern "C" {
    fn _Unwind_Backtrace(each: extern "C" fn(*mut c_void, *mut c_void) -> c_int, argument: *mut c_void) -> c_int;
    fn _Unwind_GetIP(frame: *mut c_void) -> usize;
    fn _Unwind_FindEnclosingFunction(address: *mut c_void) -> *mut c_void;
}

/// A walk up the stack.
struct Walk {
    frames: u32,
    found: bool,
}

/// Whether `handle_alloc_error` is among the callers.
fn is_on_stack() -> bool {
    let mut walk = Walk { frames: 0, found: false };
    // SAFETY: `look` is called with frames of this thread and the walk, which outlives the call.
    unsafe { _Unwind_Backtrace(look, (&raw mut walk).cast()) };
    walk.found
}

extern "C" fn look(frame: *mut c_void, walk: *mut c_void) -> c_int {
    /// `_URC_NO_REASON`: go on.
    const GO_ON: c_int = 0;
    /// `_URC_NORMAL_STOP`: anything but "go on" ends the walk.
    const STOP: c_int = 4;
    /// It lies some ten frames above the handler. A stack that was overwritten may never end.
    const HIGHEST: u32 = 64;
    // SAFETY: `is_on_stack` passes a `Walk` and does not touch it meanwhile.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    // SAFETY: the unwinder passes a frame that is valid during this call.
    let returns_to = unsafe { _Unwind_GetIP(frame) };
    // A function that does not return may end with its last call: what it returns to is the next function.
    let inside = ptr::without_provenance_mut(returns_to.saturating_sub(1));
    // SAFETY: looks the address up in tables and does not follow it.
    let function = unsafe { _Unwind_FindEnclosingFunction(inside) };
    walk.frames += 1;
    walk.found = function.addr() == (handle_alloc_error as fn(Layout) -> !) as *const () as usize;
    if walk.found || walk.frames == HIGHEST { STOP } else { GO_ON }
}
