//! Keeps a child that is asked to end in place until everything it started has ended, too.
//!
//! A child that died of SIGTERM at once would leave its own children to init, where nobody finds them any more. With
//! this handler it goes when they are gone, or when the grace is over and it is killed together with them.

#![expect(unsafe_code, reason = "signal handlers")]

use std::{ffi::c_int, mem, ptr};

use nix::{errno::Errno, libc};

use super::signal::{self, handler_of};

/// Has this process outlive its descendants when SIGTERM comes, unless SIGTERM is ignored.
pub(crate) fn last() {
    if handler_of(libc::SIGTERM) == Some(libc::SIG_DFL) {
        // SAFETY: all zeroes is a valid sigaction.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = on_terminate as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        // SAFETY: `on_terminate` has the signature of a plain handler and only calls what is async-signal-safe.
        unsafe { libc::sigaction(libc::SIGTERM, &raw const action, ptr::null_mut()) };
    }
}

extern "C" fn on_terminate(signal: c_int) {
    let errno = Errno::last_raw();
    // A handler that the body has installed since may call the one it found: then what is to happen is its affair.
    if handler_of(signal) == Some(on_terminate as *const () as usize) {
        reap_all();
        signal::set_default(signal);
        // SAFETY: async-signal-safe; the signal stays pending until this handler returns.
        unsafe { libc::raise(signal) };
    }
    Errno::set_raw(errno);
}

/// Waits until no child is left, adopted ones included.
fn reap_all() {
    loop {
        // SAFETY: without a place for the status, the call touches no memory.
        let reaped = unsafe { libc::waitpid(-1, ptr::null_mut(), libc::__WALL) };
        if reaped < 0 && Errno::last() != Errno::EINTR {
            return;
        }
    }
}
