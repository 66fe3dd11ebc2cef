//! A call on another stack, for a handler that has too little of its own.
//!
//! std gives each thread an alternate stack of some kilobytes, on which no stack can be walked. The switch is described
//! to the unwinder, so that a walk that begins behind it finds its way back.

#![expect(unsafe_code, reason = "there is no other way to change stacks")]

use std::{ffi::c_void, ptr};

use nix::libc;

/// The size of each of the stacks here: room for a walk and for sending what it found.
pub(crate) const SIZE: usize = 128 << 10;

/// Maps `count` stacks next to each other; gives the lowest address, null if the kernel refuses.
pub(crate) fn map(count: usize) -> *mut c_void {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
    let address = unsafe { libc::mmap(ptr::null_mut(), count * SIZE, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED { ptr::null_mut() } else { address }
}

/// Has the next pages of the calling thread's stack there before they are needed.
#[inline(never)]
pub(crate) fn touch() {
    std::hint::black_box(&mut [0u8; 24 << 10]);
}

/// Whether [`call_on`] works on this architecture.
pub(crate) const CAN_SWITCH: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// Calls `function` with `argument` on the stack that ends at `top`, and comes back. Async-signal-safe.
///
/// # Safety
/// Below `top`, which is a multiple of 16, lie [`SIZE`] bytes that nobody else uses; `function` does not unwind.
pub(crate) unsafe fn call_on(top: *mut c_void, function: extern "C" fn(*mut c_void), argument: *mut c_void) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: as the caller promises; the switch keeps every register that a C function has to keep.
    unsafe {
        switch(top, function, argument);
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = (top, function, argument);
}

#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn switch(top: *mut c_void, function: extern "C" fn(*mut c_void), argument: *mut c_void) {
    std::arch::naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}

#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn switch(top: *mut c_void, function: extern "C" fn(*mut c_void), argument: *mut c_void) {
    std::arch::naked_asm!(
        ".cfi_startproc",
        "stp x29, x30, [sp, #-16]!",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset x29, -16",
        ".cfi_offset x30, -8",
        "mov x29, sp",
        ".cfi_def_cfa x29, 16",
        "mov sp, x0",
        "mov x0, x2",
        "blr x1",
        "mov sp, x29",
        "ldp x29, x30, [sp], #16",
        ".cfi_def_cfa sp, 0",
        "ret",
        ".cfi_endproc",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::unwind::{self, Frames};

    struct Seen {
        here: usize,
        frames: Frames,
    }

    extern "C" fn look(seen: *mut c_void) {
        // SAFETY: the test passes a `Seen`.
        let seen = unsafe { &mut *seen.cast::<Seen>() };
        // Of the reference, which is on the stack that is in use; what it points to is not.
        seen.here = (&raw const seen).addr();
        seen.frames = unwind::here();
    }

    #[inline(never)]
    fn across(seen: &mut Seen, top: *mut c_void) {
        // SAFETY: the stack was mapped for this test.
        unsafe { call_on(top, look, ptr::from_mut(seen).cast()) };
    }

    #[test]
    fn a_walk_finds_its_way_back_across_the_switch() {
        if CAN_SWITCH {
            let bottom = map(1);
            let mut seen = Seen { here: 0, frames: Frames::NONE };
            across(&mut seen, bottom.wrapping_byte_add(SIZE));
            assert!((bottom.addr()..bottom.addr() + SIZE).contains(&seen.here));
            assert!(unwind::is_within(&seen.frames, look as *const () as usize), "{:?}", seen.frames);
            assert!(unwind::is_within(&seen.frames, across as *const () as usize), "{:?}", seen.frames);
        }
    }
}
