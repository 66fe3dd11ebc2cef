//! Signal masks, and the reset of the handlers that a child inherits.

#![expect(unsafe_code, reason = "dispositions are changed for handlers whose type is unknown")]

use std::{mem, ptr};

use nix::{
    libc,
    sys::signal::{SigSet, SigmaskHow},
};

use super::raw;

/// Blocks every signal for the calling thread and gives the mask from before.
pub(crate) fn block_all() -> SigSet {
    // Cannot fail: the argument is one of the three that pthread_sigmask(3) knows.
    SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).unwrap_or_else(|_| SigSet::empty())
}

/// Puts a mask back.
#[inline]
pub(crate) fn set_mask(mask: &SigSet) {
    let (how, mask) = (libc::SIG_SETMASK as usize, ptr::from_ref(mask).expose_provenance());
    // Cannot fail, as above.
    // SAFETY: the mask is only read, and longer than a kernel's.
    let _ = unsafe { raw::call(libc::SYS_rt_sigprocmask, [how, mask, 0, KERNEL_SET]) };
}

/// The size of the kernel's `sigset_t`, a bit for each of 64 signals.
const KERNEL_SET: usize = 8;

/// Sets every signal that has a handler back to its default action, and `SIGCHLD` in any case.
///
/// Ignored signals stay ignored, as after an `exec`. `SIGSEGV` and `SIGBUS` keep std's handler, which tells a stack
/// overflow; 32 and 33 belong to the C library. An ignored `SIGCHLD` would make the body's own children vanish unreaped.
///
/// All signals must be blocked from before the fork until this has run: otherwise a signal meant for the child runs the
/// host's handler in the child, which may write into a self-pipe that the host reads.
#[inline]
pub(crate) fn reset_handlers() {
    for signal in 1..=64 {
        if !matches!(signal, libc::SIGKILL | libc::SIGSTOP | libc::SIGSEGV | libc::SIGBUS | 32 | 33) {
            match handler_of(signal) {
                None | Some(libc::SIG_DFL) => {}
                Some(libc::SIG_IGN) if signal != libc::SIGCHLD => {}
                Some(_) => set_default(signal),
            }
        }
    }
}

/// What is done when `signal` comes: a handler, `SIG_DFL` or `SIG_IGN`. Async-signal-safe.
pub(crate) fn handler_of(signal: libc::c_int) -> Option<libc::sighandler_t> {
    // The handler is the first field of the kernel's own structure, which is smaller than the C library's.
    let mut action: [libc::sighandler_t; _] = [0; size_of::<libc::sigaction>() / size_of::<libc::sighandler_t>()];
    let (signal, action_is) = (usize::try_from(signal).ok()?, (&raw mut action).expose_provenance());
    // SAFETY: reads the disposition into `action`.
    unsafe { raw::call(libc::SYS_rt_sigaction, [signal, 0, action_is, KERNEL_SET]) }.ok()?;
    Some(action[0])
}

/// Sets `signal` to its default action. Async-signal-safe.
pub(crate) fn set_default(signal: libc::c_int) {
    // SAFETY: all zeroes is SIG_DFL with no flags and an empty mask.
    let default: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the default action runs no code of this process.
    unsafe { libc::sigaction(signal, &raw const default, ptr::null_mut()) };
}
