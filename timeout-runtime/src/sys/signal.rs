//! Signal masks, and the reset of the handlers that a child inherits.

#![expect(unsafe_code, reason = "dispositions are changed for handlers whose type is unknown")]

use std::{mem, ptr};

use nix::{
    libc,
    sys::signal::{SigSet, SigmaskHow},
};

/// Blocks every signal for the calling thread and gives the mask from before.
pub(crate) fn block_all() -> SigSet {
    // Cannot fail: the argument is one of the three that pthread_sigmask(3) knows.
    SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).unwrap_or_else(|_| SigSet::empty())
}

/// Puts a mask back.
pub(crate) fn set_mask(mask: &SigSet) {
    // Cannot fail, as above.
    let _ = mask.thread_set_mask();
}

/// Sets every signal that has a handler back to its default action, and `SIGCHLD` in any case.
///
/// Ignored signals stay ignored, as after an `exec`. `SIGSEGV` and `SIGBUS` keep std's handler, which tells a stack
/// overflow; 32 and 33 belong to the C library. An ignored `SIGCHLD` would make the body's own children vanish unreaped.
///
/// All signals must be blocked from before the fork until this has run: otherwise a signal meant for the child runs the
/// host's handler in the child, which may write into a self-pipe that the host reads.
pub(crate) fn reset_handlers() {
    for signal in 1..=64 {
        if !matches!(signal, libc::SIGKILL | libc::SIGSTOP | libc::SIGSEGV | libc::SIGBUS | 32 | 33) {
            // SAFETY: sigaction is plain data for which all zeroes is a value.
            let mut action: libc::sigaction = unsafe { mem::zeroed() };
            // SAFETY: reads the disposition into `action`.
            if unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) } != 0 {
                continue;
            }
            let has_handler = !matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
            if has_handler || (signal == libc::SIGCHLD && action.sa_sigaction != libc::SIG_DFL) {
                set_default(signal);
            }
        }
    }
}

/// Sets `signal` to its default action. Async-signal-safe.
pub(crate) fn set_default(signal: libc::c_int) {
    // SAFETY: all zeroes is SIG_DFL with no flags and an empty mask.
    let default: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the default action runs no code of this process.
    unsafe { libc::sigaction(signal, &raw const default, ptr::null_mut()) };
}
