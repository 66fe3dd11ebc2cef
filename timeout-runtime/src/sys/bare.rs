//! A thread of the kernel's that the C library does not know of, and the few system calls it may make.
//!
//! A program's first `pthread_create` changes it for good: from then on the C library locks in `malloc` and around every
//! `fork`, and each child copies the pages that these locks are in. A host of one thread must not pay that for a chore of
//! ours, so the chore runs on a bare clone(2).
//!
//! Such a thread shares the thread-local variables of the one that started it. What runs on it must never touch any: no
//! `errno`, no allocation, no lock of std's, no panic. So its system calls go through rustix, which has no `errno`.

#![expect(unsafe_code, reason = "clone(2) on a stack of our own, and descriptors by number")]

use std::{
    ffi::{c_int, c_void},
    os::fd::BorrowedFd,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
    time::Duration,
};

use nix::{Result, errno::Errno, libc, unistd::Pid};
use rustix::{
    process::{WaitId, WaitIdOptions},
    thread::Timespec,
};

use super::{
    fault::{self, Op},
    signal,
    thread::{self, Chore},
};

/// A place for one bare thread at a time.
#[derive(Default)]
pub(crate) struct Bare {
    /// The thread's number; the kernel clears it when the thread is gone and its stack free.
    thread: AtomicU32,
    /// Made for the first thread, and kept.
    stack: AtomicPtr<c_void>,
}

/// Far more than a chore uses, even where nothing is optimized; what is not touched costs nothing.
const STACK: usize = 64 << 10;

impl Bare {
    /// Whether the place is free.
    pub(crate) fn is_free(&self) -> bool {
        self.thread.load(Ordering::Acquire) == 0
    }

    /// Runs `chore` on a bare thread with all signals blocked. For one caller at a time, when the place is free.
    pub(crate) fn start<C: Chore>(&self, chore: &'static C) -> Result<()> {
        fault::check(Op::SpawnThread)?;
        if !ARE_POSSIBLE {
            return thread::spawn(chore);
        }
        let top = self.top_of_stack()?;
        let mask = signal::block_all();
        let result = clone(top, &self.thread, chore);
        signal::set_mask(&mask);
        result
    }

    /// Gives the end of the stack, where the first frame goes.
    fn top_of_stack(&self) -> Result<*mut c_void> {
        let mut stack = self.stack.load(Ordering::Acquire);
        if stack.is_null() {
            let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
            stack = unsafe { libc::mmap(ptr::null_mut(), STACK, protection, flags | libc::MAP_STACK, -1, 0) };
            if stack == libc::MAP_FAILED {
                return Err(Errno::last());
            }
            self.stack.store(stack, Ordering::Release);
        }
        Ok(stack.wrapping_byte_add(STACK))
    }
}

/// Whether there can be bare threads: where rustix makes system calls itself, and the C library's clone(2) starts threads
/// (musl's refuses to). Elsewhere the chore gets an ordinary thread.
const ARE_POSSIBLE: bool = cfg!(all(
    not(target_env = "musl"),
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86")
));

/// Everything is shared with the calling thread, the C library's registers included.
const SHARED: c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

fn clone<C: Chore>(top_of_stack: *mut c_void, number: &AtomicU32, chore: &'static C) -> Result<()> {
    let argument = ptr::from_ref(chore).cast_mut().cast::<c_void>();
    let (number, no_registers) = (number.as_ptr(), ptr::null_mut::<c_void>());
    // SAFETY: the stack is nobody else's until the kernel clears `number`; `run` never returns into it from elsewhere,
    // touches no thread-local variable, and its argument lives as long as the program, as does `number`.
    let started = unsafe { libc::clone(run::<C>, top_of_stack, SHARED, argument, number, no_registers, number) };
    Errno::result(started).map(drop)
}

extern "C" fn run<C: Chore>(chore: *mut c_void) -> c_int {
    // SAFETY: `clone` passes a shared reference to a `C` that is never freed, and a `C` may be shared by threads.
    let chore = unsafe { &*chore.cast::<C>() };
    chore.run();
    0
}

/// Sleeps. For bare threads.
pub(crate) fn sleep(pause: Duration) {
    let pause = Timespec { tv_sec: 0, tv_nsec: pause.subsec_nanos().into() };
    let _ = rustix::thread::nanosleep(&pause);
}

/// The time since some moment in the past. For bare threads.
pub(crate) fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Neither is negative, and a second has less nanoseconds.
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Reaps a child if it is dead; tells whether it is gone, by us or by others. For bare threads.
pub(crate) fn reap(pid: Pid, pidfd: Option<i32>) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    if let Some(pidfd) = pidfd {
        // SAFETY: the caller keeps the descriptor open.
        let pidfd = unsafe { BorrowedFd::borrow_raw(pidfd) };
        match rustix::process::waitid(WaitId::PidFd(pidfd), options) {
            Ok(status) => return status.is_some(),
            // The kernel gives out pidfds, but does not let us wait for one (before 5.4, or by a filter).
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM | rustix::io::Errno::NOSYS) => {}
            Err(_) => return true,
        }
    }
    let Some(pid) = rustix::process::Pid::from_raw(pid.as_raw()) else { return true };
    rustix::process::waitid(WaitId::Pid(pid), options).map_or(true, |status| status.is_some())
}

/// Closes a descriptor by its number. For bare threads.
pub(crate) fn close(fd: i32) {
    // SAFETY: the caller owns the descriptor and does not use it again.
    let _ = unsafe { rustix::io::try_close(fd) };
}
