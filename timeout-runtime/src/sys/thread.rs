//! Small threads that no signal handler of the host ever runs on, for chores that must not hold up a call.
//!
//! Not std's: those come with a name, a handle and an alternate stack, which a chore of some microseconds does not need,
//! and every page they touch is copied once more by the next fork.

#![expect(unsafe_code, reason = "pthread_create(3) takes a C function")]

use std::{
    ffi::c_void,
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

use nix::{Result, errno::Errno, libc};

use super::{
    fault::{self, Op},
    signal,
};

/// Room for a few calls and for the thread-local variables of the host, which the C library puts there too.
const STACK: usize = 128 << 10;

/// Something to be done on a thread of its own.
pub(crate) trait Chore: Sync + 'static {
    fn run(&'static self);
}

/// How many of these threads there are, in this process or in the one that forked it.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// How many threads of ours this process may have. A process that the host has forked by itself has fewer.
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Starts a detached thread with all signals blocked, which runs `chore`.
pub(crate) fn spawn<C: Chore>(chore: &'static C) -> Result<()> {
    fault::check(Op::SpawnThread)?;
    let mask = signal::block_all();
    COUNT.fetch_add(1, Ordering::Relaxed);
    let result = create(chore);
    if result.is_err() {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
    signal::set_mask(&mask);
    result
}

fn create<C: Chore>(chore: &'static C) -> Result<()> {
    let mut attributes = MaybeUninit::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: the pointer is to room for the attributes, which this call fills in.
    check(unsafe { libc::pthread_attr_init(attributes) })?;
    // SAFETY: the attributes are filled in. A host with more thread-local variables than that gets the default size.
    unsafe { libc::pthread_attr_setstacksize(attributes, STACK) };
    // SAFETY: as above.
    unsafe { libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED) };
    let mut thread = MaybeUninit::uninit();
    let argument = ptr::from_ref(chore).cast_mut().cast::<c_void>();
    // SAFETY: `run` is a thread function whose argument is the chore, which lives as long as the program.
    let created = unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes, run::<C>, argument) };
    // SAFETY: the attributes are not used after this.
    unsafe { libc::pthread_attr_destroy(attributes) };
    check(created)
}

extern "C" fn run<C: Chore>(chore: *mut c_void) -> *mut c_void {
    // SAFETY: `create` passes a shared reference to a `C` that is never freed, and a `C` may be shared by threads.
    let chore = unsafe { &*chore.cast::<C>() };
    chore.run();
    COUNT.fetch_sub(1, Ordering::Relaxed);
    ptr::null_mut()
}

/// pthread functions return the error instead of setting `errno`.
fn check(result: libc::c_int) -> Result<()> {
    if result == 0 { Ok(()) } else { Err(Errno::from_raw(result)) }
}
