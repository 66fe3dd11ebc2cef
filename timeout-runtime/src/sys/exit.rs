//! Runs a function instead of the host's exit handlers when the body ends its process.

#![expect(unsafe_code, reason = "on_exit(3) and atexit(3) take a C function")]

use std::{
    ffi::{c_int, c_void},
    sync::atomic::{AtomicPtr, Ordering},
};

/// Called with the exit code; ends the process if the handlers of others are not to run.
pub(crate) type Handler = fn(i32);

static HANDLER: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Has `handler` run first of all exit handlers, as they run last in, first out.
///
/// Only glibc tells a handler the code. Elsewhere the host's handlers run in the child, as after any fork.
#[inline]
pub(crate) fn instead_of_exit_handlers(handler: Handler) {
    HANDLER.store(handler as *mut c_void, Ordering::Relaxed);
    register();
}

#[cfg(target_env = "gnu")]
fn register() {
    unsafe extern "C" {
        fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }
    // SAFETY: `run` is a C function of the type asked for and lives as long as the program.
    unsafe { on_exit(run, std::ptr::null_mut()) };
}

#[cfg(not(target_env = "gnu"))]
fn register() {
    let _ = run;
}

extern "C" fn run(code: c_int, _argument: *mut c_void) {
    let handler = HANDLER.load(Ordering::Relaxed);
    if !handler.is_null() {
        // SAFETY: the only non-null value ever stored is a `Handler`.
        let handler = unsafe { std::mem::transmute::<*mut c_void, Handler>(handler) };
        handler(code);
    }
}
