//! Forking, leaving, and the few process attributes a child sets on itself.

#![expect(unsafe_code, reason = "fork(2) and its surroundings have no safe wrapper")]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicU8, Ordering},
};

use nix::{
    Result,
    errno::Errno,
    fcntl::{OFlag, open},
    libc,
    sys::{
        resource::{UsageWho, getrusage},
        stat::Mode,
    },
    unistd::{self, ForkResult, Pid},
};

use super::{
    fault::{self, Op},
    raw,
};
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
#[inline]
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: takes a number.
    let _ = unsafe { raw::call(libc::SYS_exit_group, [code.cast_unsigned() as usize]) };
    // SAFETY: `_exit` has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Puts the process into a session and process group of its own.
#[inline]
pub(crate) fn new_session() -> Result<()> {
    fault::check(Op::Setsid)?;
    rustix::process::setsid().map(drop).map_err(errno)
}

/// Puts the process into a process group of its own, in the session of its parent.
#[inline]
pub(crate) fn new_group() -> Result<()> {
    fault::check(Op::Setpgid)?;
    rustix::process::setpgid(None, None).map_err(errno)
}

/// Whether this process has a controlling terminal, or may have one.
pub(crate) fn has_terminal() -> bool {
    // By this name a process opens its own terminal, and without one there is no such device (tty(4)).
    let flags = OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let opened = fault::check(Op::Terminal).and_then(|()| open("/dev/tty", flags, Mode::empty()));
    opened.map_or_else(|errno| errno != Errno::ENXIO, |_| true)
}

/// Makes orphaned descendants children of this process, where they can be found.
#[inline]
pub(crate) fn adopt_orphans() -> Result<()> {
    fault::check(Op::Subreaper)?;
    // Any number but 0 is this process.
    rustix::process::set_child_subreaper(Some(rustix::process::Pid::INIT)).map_err(errno)
}

/// Keeps a crash from writing a core file or waking a core-dump handler, either of which would delay the death.
///
/// A soft limit of exactly 1 does both: it is too small for a file, and the kernel takes it as "do not pipe to a
/// handler" (core(5); `fs/coredump.c`). 0 would not stop a handler.
#[inline]
pub(crate) fn no_core_dump() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
    if limit.maximum != Some(0) {
        let limit = rustix::process::Rlimit { current: Some(1), ..limit };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Core, limit);
    }
}

/// Whether the program was started with more rights than its user has: by set-uid, set-gid or file capabilities
/// (`AT_SECURE`, getauxval(3)).
pub(crate) fn has_foreign_rights() -> bool {
    // SAFETY: looks a number up in a table that the kernel has made.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Whether this process has any child, living or dead. For a subreaper that means: any descendant at all.
#[inline]
pub(crate) fn has_children() -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: no place for an answer is given, which Linux allows; WNOWAIT leaves every child as it was.
    let result = unsafe { raw::call(libc::SYS_waitid, [libc::P_ALL as usize, 0, 0, flags as usize]) };
    result != Err(libc::ECHILD)
}

/// What this process and those of its children that it has waited for have used so far. Async-signal-safe.
pub(crate) fn usage() -> Option<Usage> {
    let of = |who| getrusage(who).ok().map(|usage| Usage::from(usage.as_ref()));
    Some(of(UsageWho::RUSAGE_SELF)?.with(of(UsageWho::RUSAGE_CHILDREN)?))
}

/// Tells whether the C library has never started a thread in this process: glibc keeps that in a variable (2.32,
/// libc_single_threaded(3)), which is read in no time.
#[derive(Clone, Copy)]
pub(crate) struct AloneFlag(Option<&'static AtomicU8>);

impl AloneFlag {
    pub(crate) fn find() -> AloneFlag {
        // SAFETY: looks a name up; both arguments are valid.
        let flag = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__libc_single_threaded".as_ptr()) };
        // SAFETY: null, or a `char` of the C library that stays for the life of the process and is only ever read here.
        AloneFlag(unsafe { flag.cast::<AtomicU8>().as_ref() })
    }

    /// `false` also where the C library does not tell.
    pub(crate) fn is_set(self) -> bool {
        self.0.is_some_and(|flag| flag.load(Ordering::Relaxed) != 0)
    }
}

/// How many threads this process has; 1 if that cannot be told.
pub(crate) fn thread_count() -> usize {
    // One link per task and two for the directory itself: one system call where reading a status file takes several.
    let links = fs::metadata("/proc/self/task").map_or(0, |directory| directory.nlink());
    usize::try_from(links).unwrap_or(usize::MAX).saturating_sub(2).max(1)
}

/// Whether this process is a copy of another that has not run a program of its own since; `true` if that cannot be told.
pub(crate) fn is_copy() -> bool {
    /// `PF_FORKNOEXEC` of linux/sched.h; the flags are the field behind the terminal's group in proc_pid_stat(5).
    const FORKED_NO_EXEC: u32 = 0x40;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let flags = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(6)?.parse::<u32>().ok());
    flags.is_none_or(|flags| flags & FORKED_NO_EXEC != 0)
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// The number of this process, asked for without the C library.
#[inline]
pub(crate) fn id() -> Pid {
    Pid::from_raw(rustix::process::Pid::as_raw(Some(rustix::process::getpid())))
}

/// Closes an inherited descriptor by its number.
#[inline]
pub(crate) fn close(fd: i32) {
    // SAFETY: as for `close_range` below: used by a child on what its host alone goes on using.
    let _ = unsafe { rustix::io::try_close(fd) };
}

/// Closes every descriptor from 3 on except `kept`, for the calling thread only: other threads of the process keep theirs,
/// as they may still run and would find their files closed, or other files under their numbers.
///
/// Kernels before Linux 5.9 do not have the call: then nothing happens.
#[inline]
pub(crate) fn close_all_but(kept: i32) {
    let Ok(kept) = u32::try_from(kept) else { return };
    close_range(3, kept.saturating_sub(1));
    close_range(kept.saturating_add(1), u32::MAX);
}

/// Closes the inherited or received descriptors from `first` to `last`; `false` where the kernel does not have the call.
pub(super) fn close_row(first: i32, last: i32) -> bool {
    // SAFETY: as for `close`: who calls this owns them all.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}

#[inline]
fn close_range(first: u32, last: u32) {
    if first <= last {
        // SAFETY: closing what somebody in this process still counts on would be wrong; the one caller does it when
        // only the last frame is left to be written by this thread and `_exit` to be called.
        let _ = unsafe {
            raw::call(libc::SYS_close_range, [first, last, libc::CLOSE_RANGE_UNSHARE].map(|number| number as usize))
        };
    }
}
