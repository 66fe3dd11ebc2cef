//! Ties a child and its process group to the life of its host, in two ways that cover for each other.
//!
//! The kernel kills the group when the last reading end of the result pipe is closed, whoever closed it (`O_ASYNC`,
//! `F_SETSIG`): it needs no handler, but a process that the host forked otherwise may hold that end. The parent-death
//! signal comes when the thread that forked ends (prctl(2)); its handler looks whether the host is really gone, and takes
//! the group along: as a plain SIGKILL it would end the child alone, before the pipe is closed and the group is told.

#![expect(unsafe_code, reason = "F_SETSIG, F_SETOWN and a signal handler")]

use std::{
    ffi::c_int,
    mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    ptr,
    sync::atomic::{AtomicI32, Ordering},
};

use nix::{
    Result,
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::Pid,
};

use super::{
    fault::{self, Op},
    raw,
};

/// The number of the host, as this process sees it.
static HOST: AtomicI32 = AtomicI32::new(0);

/// The group that this process leads.
static GROUP: AtomicI32 = AtomicI32::new(0);

/// Ties this process, the leader of `group`, to `host`. Until [`disarm`] nothing may be written to `pipe`: a read by the
/// other side signals as well.
///
/// Where a sandbox forbids one way, the other holds. `false` says that the host is gone already.
#[inline]
pub(crate) fn arm(pipe: BorrowedFd<'_>, group: Pid, host: Pid) -> bool {
    // A host outside our pid namespace shows as 0, now and later.
    let parent = parent();
    HOST.store(parent.as_raw(), Ordering::Relaxed);
    GROUP.store(group.as_raw(), Ordering::Relaxed);
    let _ = die_with_thread();
    let _ = die_with_pipe(pipe, group);
    parent == self::parent() && (parent == host || parent.as_raw() == 0)
}

/// Ties this process, the leader of `group`, to whoever has the reading end of `pipe`, which is for nothing else. It works
/// on a stopped process, too.
pub(crate) fn tie(pipe: BorrowedFd<'_>, group: Pid) {
    let _ = die_with_pipe(pipe, group);
}

/// Makes the pipe writable, and writing wait for the reader. Async-signal-safe.
#[inline]
pub(crate) fn disarm(pipe: BorrowedFd<'_>) {
    let _ = set(pipe.as_raw_fd(), libc::F_SETFL, 0);
}

/// Sleeps until the host kills this process, or is gone; then the group ends.
pub(crate) fn wait_to_be_killed(pipe: BorrowedFd<'_>) -> ! {
    loop {
        // Without an event to wait for, poll still tells that no reading end is left.
        let mut reader_gone = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
        if poll(&mut reader_gone, PollTimeout::NONE) != Err(Errno::EINTR) {
            end_group();
        }
    }
}

#[inline]
fn die_with_pipe(pipe: BorrowedFd<'_>, group: Pid) -> Result<()> {
    /// fcntl(2); the C library's headers hide it, and it is 10 on every architecture.
    const F_SETSIG: c_int = 10;
    fault::check(Op::Lifeline)?;
    let fd = pipe.as_raw_fd();
    set(fd, libc::F_SETOWN, -group.as_raw())?;
    set(fd, F_SETSIG, libc::SIGKILL)?;
    set(fd, libc::F_SETFL, libc::O_ASYNC)
}

/// Sets a number on a descriptor, by fcntl(2).
#[inline]
fn set(fd: i32, what: c_int, value: c_int) -> Result<()> {
    let arguments = [fd, what, value].map(|number| number.cast_unsigned() as usize);
    // SAFETY: takes numbers; the descriptor is open for the call.
    unsafe { raw::call(libc::SYS_fcntl, arguments) }.map(drop).map_err(Errno::from_raw)
}

#[inline]
fn die_with_thread() -> Result<()> {
    fault::check(Op::DeathSignal)?;
    let signal = libc::SIGRTMAX();
    // SAFETY: all zeroes is a valid sigaction.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = on_thread_end as *const () as usize;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: `on_thread_end` has the signature of a plain handler and only calls what is async-signal-safe.
    Errno::result(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })?;
    let arguments = [libc::PR_SET_PDEATHSIG, signal].map(|number| number as usize);
    // SAFETY: sets a number on this process.
    unsafe { raw::call(libc::SYS_prctl, arguments) }.map(drop).map_err(Errno::from_raw)
}

extern "C" fn on_thread_end(_signal: c_int) {
    let errno = Errno::last_raw();
    if parent().as_raw() != HOST.load(Ordering::Relaxed) {
        end_group();
    }
    Errno::set_raw(errno);
}

fn parent() -> Pid {
    Pid::from_raw(rustix::process::Pid::as_raw(rustix::process::getppid()))
}

/// Kills the process group that this process has led since [`arm`], and this process, which may have left it.
fn end_group() -> ! {
    // SAFETY: the number is in use as long as this process is, or anybody in its group.
    unsafe { libc::kill(-GROUP.load(Ordering::Relaxed), libc::SIGKILL) };
    super::process::exit_now(0)
}
