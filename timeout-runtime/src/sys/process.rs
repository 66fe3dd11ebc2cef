//! Forking, leaving, and the few process attributes a child sets on itself.

#![expect(unsafe_code, reason = "fork(2) and its surroundings have no safe wrapper")]

use std::{ffi::CStr, mem::MaybeUninit};

use nix::{
    Result,
    errno::Errno,
    libc,
    sys::{
        prctl,
        resource::{UsageWho, getrusage},
    },
    unistd::{self, ForkResult, Pid},
};

use super::fault::{self, Op};
use crate::report::Usage;

/// Forks; the child runs `child` and nothing else, whether that returns, unwinds or neither.
///
/// The C library's `fork` is used, never a raw `clone`: allocators rely on its fork handlers, without which a child of
/// a threaded process hangs at its first allocation.
pub(crate) fn fork(child: impl FnOnce()) -> Result<Pid> {
    fault::check(Op::Fork)?;
    // SAFETY: the child never leaves this function: it ends behind `child`, or in `Bomb` if that unwinds. That code which is not async-signal-safe runs there although other threads are gone is
    // the nature of this crate, and told in its documentation: such code may wait for a lock for ever and is then cut.
    match unsafe { unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let _bomb = Bomb;
            child();
            exit_now(0)
        }
    }
}

/// Ends a child that tries to unwind into the copied caller, where it would go on as a second host.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        exit_now(101);
    }
}

/// Ends the process at once: no destructors, no `atexit` handlers, no flushing.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Puts the process into a session and process group of its own.
pub(crate) fn new_session() -> Result<()> {
    fault::check(Op::Setsid)?;
    unistd::setsid().map(drop)
}

/// Makes orphaned descendants children of this process, where they can be found.
pub(crate) fn adopt_orphans() -> Result<()> {
    fault::check(Op::Subreaper)?;
    prctl::set_child_subreaper(true)
}

/// Keeps a crash from writing a core file or waking a core-dump handler, either of which would delay the death.
///
/// A soft limit of exactly 1 does both: it is too small for a file, and the kernel takes it as "do not pipe to a
/// handler" (core(5); `fs/coredump.c`). 0 would not stop a handler.
pub(crate) fn no_core_dump() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit to write to.
    if unsafe { libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit) } == 0 && limit.rlim_max >= 1 {
        limit.rlim_cur = 1;
        // SAFETY: `limit` is a valid rlimit to read.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) };
    }
}

/// Whether this process has any child, living or dead. For a subreaper that means: any descendant at all.
pub(crate) fn has_children() -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: a null siginfo is allowed by Linux; WNOWAIT leaves every child as it was.
    let result = unsafe { libc::syscall(libc::SYS_waitid, libc::P_ALL, 0, std::ptr::null_mut::<u8>(), flags, 0) };
    result == 0 || Errno::last() != Errno::ECHILD
}

/// What this process and those of its children that it has waited for have used so far. Async-signal-safe.
pub(crate) fn usage() -> Option<Usage> {
    let of = |who| getrusage(who).ok().map(|usage| Usage::from(usage.as_ref()));
    Some(of(UsageWho::RUSAGE_SELF)?.with(of(UsageWho::RUSAGE_CHILDREN)?))
}

/// How many descriptors this process has; 0 where the kernel does not tell at once (before Linux 6.2).
pub(crate) fn descriptor_count() -> u64 {
    stat(c"/proc/self/fd").map_or(0, |directory| directory.st_size.unsigned_abs())
}

/// stat(2), without the allocation and the code pages that std's takes: a child pays for every page it touches.
fn stat(path: &CStr) -> Option<libc::stat> {
    let mut stat = MaybeUninit::uninit();
    // SAFETY: the path is a C string and `stat` has room for the answer.
    let result = unsafe { libc::stat(path.as_ptr(), stat.as_mut_ptr()) };
    // SAFETY: on success the kernel has filled it in.
    (result == 0).then(|| unsafe { stat.assume_init() })
}

/// How many threads this process has; 1 if that cannot be told.
pub(crate) fn thread_count() -> usize {
    // One link per task and two for the directory itself: one system call where reading a status file takes several.
    let links = stat(c"/proc/self/task").map_or(0, |directory| directory.st_nlink);
    usize::try_from(links).unwrap_or(usize::MAX).saturating_sub(2).max(1)
}

/// Closes an inherited descriptor by its number.
pub(crate) fn close(fd: i32) {
    // SAFETY: as for `close_range` below: used by a child on what its host alone goes on using.
    unsafe { libc::close(fd) };
}

/// Closes every descriptor from 3 on except `kept`, for the calling thread only: other threads of the process keep theirs,
/// as they may still run and would find their files closed, or other files under their numbers.
///
/// Kernels before Linux 5.9 do not have the call: then nothing happens.
pub(crate) fn close_all_but(kept: i32) {
    let Ok(kept) = u32::try_from(kept) else { return };
    close_range(3, kept.saturating_sub(1));
    close_range(kept.saturating_add(1), u32::MAX);
}

fn close_range(first: u32, last: u32) {
    if first <= last {
        // SAFETY: closing what somebody in this process still counts on would be wrong; the one caller does it when
        // only the last frame is left to be written by this thread and `_exit` to be called.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_UNSHARE) };
    }
}
