//! Return addresses of a stack, found by the unwinder that std links in any case.
//!
//! A walk allocates nothing and may be made by a signal handler. What it finds are addresses only: names cost a
//! thousand times as much and are looked up by whoever shows them, if anybody does.

#![expect(unsafe_code, reason = "the unwinder's C interface")]

use std::{
    ffi::{c_int, c_void},
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use nix::{
    libc,
    unistd::{getpid, gettid},
};

unsafe extern "C" {
    fn _Unwind_Backtrace(visit: extern "C" fn(*mut c_void, *mut c_void) -> c_int, argument: *mut c_void) -> c_int;
    fn _Unwind_GetIPInfo(context: *mut c_void, is_exact: *mut c_int) -> usize;
    fn _Unwind_GetCFA(context: *mut c_void) -> usize;
    fn _Unwind_FindEnclosingFunction(address: *mut c_void) -> *mut c_void;
}

/// Where the unwinder's own code lies.
pub(super) fn code() -> usize {
    _Unwind_Backtrace as *const () as usize
}

/// The innermost frames of a stack, each by an address inside the instruction that is under way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frames {
    length: usize,
    addresses: [u64; Frames::MOST],
}

impl Frames {
    /// As many as a crash's record can hold and still be written by one call.
    pub(crate) const MOST: usize = 56;

    pub(crate) const NONE: Frames = Frames { length: 0, addresses: [0; Frames::MOST] };

    pub(crate) fn as_slice(&self) -> &[u64] {
        &self.addresses[..self.length]
    }

    /// Takes one more in; `false` says that it was the last there is room for.
    fn push(&mut self, address: u64) -> bool {
        if let Some(slot) = self.addresses.get_mut(self.length) {
            *slot = address;
            self.length += 1;
        }
        self.length < Frames::MOST
    }
}

impl FromIterator<u64> for Frames {
    /// The first of them, as many as there is room for.
    fn from_iter<I: IntoIterator<Item = u64>>(addresses: I) -> Frames {
        let mut frames = Frames::NONE;
        let mut addresses = addresses.into_iter();
        while addresses.next().is_some_and(|address| frames.push(address)) {}
        frames
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x?}", self.as_slice())
    }
}

/// Where the body's stack begins; 0 before that.
static BOTTOM: AtomicUsize = AtomicUsize::new(0);

/// Takes the place of `marker` for the outer end of the body's stack. What lies beyond is a copy of the caller's.
#[inline]
pub(crate) fn begin_at(marker: &u8) {
    BOTTOM.store(std::ptr::from_ref(marker).addr(), Ordering::Relaxed);
}

/// Forgets the outer end that a forked process has inherited.
#[inline]
pub(crate) fn forget_bottom() {
    BOTTOM.store(0, Ordering::Relaxed);
}

/// The calling thread's own frames, that of the caller of this function among the first.
#[inline(never)]
pub(crate) fn here() -> Frames {
    let mut frames = Frames::NONE;
    walk(None, &mut |address| frames.push(address));
    frames
}

/// Does once what every walk needs, in this process and for all that it forks. A handler must not be the first to call the
/// unwinder: the dynamic linker then binds what it calls, under locks, which takes longer than a walk.
pub(crate) fn rehearse() {
    let mut left = 3;
    walk(None, &mut |address| {
        enclosing_function(address);
        left -= 1;
        left > 0
    });
}

/// The frames of what a signal interrupted, without the handler's. Async-signal-safe.
pub(crate) fn interrupted(context: &libc::ucontext_t) -> Frames {
    let mut frames = Frames::NONE;
    let pc = program_counter(context);
    walk(pc, &mut |address| frames.push(address));
    // Not every unwinder gets past the frame that the kernel made (static musl), nor to where nothing is (a wild jump).
    if let (0, Some(pc)) = (frames.length, pc) {
        frames.push(pc as u64);
    }
    frames
}

/// Whether a frame of `frames` belongs to the function that begins at `function`. Async-signal-safe.
pub(crate) fn is_within(frames: &Frames, function: usize) -> bool {
    let wanted = enclosing_function(function as u64).unwrap_or(function);
    frames.as_slice().iter().any(|address| enclosing_function(*address) == Some(wanted))
}

/// Where the function begins that `address` is in; `None` if nothing is known about that address in this process.
pub(crate) fn enclosing_function(address: u64) -> Option<usize> {
    // GCC's unwinder takes what it is given for a return address and looks one byte before it; LLVM's does not.
    let behind = usize::from(!cfg!(target_env = "musl"));
    let address = usize::try_from(address).ok()?.checked_add(behind)?;
    // SAFETY: the address is only compared with those of known code, never read from.
    let function = unsafe { _Unwind_FindEnclosingFunction(std::ptr::without_provenance_mut(address)) };
    (!function.is_null()).then(|| function.addr())
}

struct Walk<'a> {
    /// The frames before the one with this address are the handler's.
    skip_to: Option<usize>,
    /// No stack of ours lies above this address.
    bottom: usize,
    visit: &'a mut dyn FnMut(u64) -> bool,
}

fn walk(skip_to: Option<usize>, visit: &mut dyn FnMut(u64) -> bool) {
    // The body runs on the main thread of its process; the stacks of others may be anywhere.
    let bottom = if gettid() == getpid() { BOTTOM.load(Ordering::Relaxed) } else { 0 };
    let bottom = if bottom == 0 { usize::MAX } else { bottom };
    let mut walk = Walk { skip_to, bottom, visit };
    // SAFETY: `step` has the type asked for, and its argument lives for the whole call.
    unsafe { _Unwind_Backtrace(step, (&raw mut walk).cast()) };
}

extern "C" fn step(context: *mut c_void, argument: *mut c_void) -> c_int {
    const GO_ON: c_int = 0;
    const STOP: c_int = 4;
    // SAFETY: `walk` passes a `Walk` that it does not touch meanwhile.
    let walk = unsafe { &mut *argument.cast::<Walk<'_>>() };
    let mut is_exact = 0;
    // SAFETY: the unwinder passes a valid context; the flag is a place to write to.
    let address = unsafe { _Unwind_GetIPInfo(context, &raw mut is_exact) };
    if walk.skip_to.is_some_and(|pc| pc != address) {
        return GO_ON;
    }
    walk.skip_to = None;
    // SAFETY: as above.
    let stack_pointer = unsafe { _Unwind_GetCFA(context) };
    if address == 0 || stack_pointer > walk.bottom {
        return STOP;
    }
    // A return address may already belong to the next line, or to the next function.
    let inside = if is_exact == 0 { address - 1 } else { address };
    if (walk.visit)(inside as u64) { GO_ON } else { STOP }
}

#[cfg(target_arch = "x86_64")]
fn program_counter(context: &libc::ucontext_t) -> Option<usize> {
    // REG_RIP is 16; neither conversion fails for any value of it.
    let register = usize::try_from(libc::REG_RIP).ok()?;
    usize::try_from(context.uc_mcontext.gregs[register].cast_unsigned()).ok()
}

#[cfg(target_arch = "aarch64")]
fn program_counter(context: &libc::ucontext_t) -> Option<usize> {
    usize::try_from(context.uc_mcontext.pc).ok()
}

/// Elsewhere the handler's own frames are shown, too.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn program_counter(_context: &libc::ucontext_t) -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn caller_of_here() -> Frames {
        std::hint::black_box(here())
    }

    #[test]
    fn the_caller_is_among_the_first_frames() {
        let frames = caller_of_here();
        assert!(is_within(&frames, caller_of_here as *const () as usize), "{frames:?}");
        assert!(!is_within(&frames, begin_at as *const () as usize), "{frames:?}");
        for function in [caller_of_here as *const (), is_within as *const ()].map(|function| function as usize) {
            assert_eq!(enclosing_function(function as u64), Some(function));
        }
    }

    #[test]
    fn a_deep_stack_is_cut() {
        fn deep(depth: usize) -> Frames {
            let frames = if depth == 0 { here() } else { deep(depth - 1) };
            std::hint::black_box(frames)
        }
        assert_eq!(deep(1000).as_slice().len(), Frames::MOST);
    }

    #[test]
    fn nothing_is_known_about_what_is_no_code() {
        let data = 7u8;
        assert_eq!(enclosing_function(std::ptr::from_ref(&data).addr() as u64), None);
        assert_eq!(enclosing_function(u64::MAX), None);
    }
}
