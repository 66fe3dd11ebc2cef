//! Processes by descriptor: a pidfd means the same process for ever, whatever happens to its number.

#![expect(unsafe_code, reason = "pidfd calls have no safe wrapper")]

use std::{
    mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::{Result, errno::Errno, libc, sys::signal::Signal, unistd::Pid};

use super::{
    fault::{self, Op},
    fd::above_stdio,
};
use crate::report::Usage;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It called `exit` with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// It is gone, and somebody else took its status.
    Unknown,
    /// It was a child of the fork server, which is gone and took it along.
    Orphaned,
}

/// Opens a descriptor for the process `pid` (Linux 5.3).
pub(crate) fn open(pid: Pid) -> Result<OwnedFd> {
    fault::check(Op::PidfdOpen)?;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // The kernel hands out descriptors within i32.
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just opened this descriptor for us; it is close-on-exec and nobody else owns it.
    above_stdio(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends `signal` to the process.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: Signal) -> Result<()> {
    fault::check(Op::PidfdSignal)?;
    send(pidfd, signal, 0)
}

/// Sends `signal` to the process group that the process leads (Linux 6.9; `EINVAL` before).
pub(crate) fn signal_group(pidfd: BorrowedFd<'_>, signal: Signal) -> Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    fault::check(Op::PidfdSignal)?;
    send(pidfd, signal, PIDFD_SIGNAL_PROCESS_GROUP)
}

fn send(pidfd: BorrowedFd<'_>, signal: Signal, flags: libc::c_uint) -> Result<()> {
    let (fd, signal, info) = (pidfd.as_raw_fd(), signal as libc::c_int, std::ptr::null::<libc::siginfo_t>());
    // SAFETY: a null siginfo asks for the one that `kill` would make; the rest are numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, flags) }).map(drop)
}

/// Which processes a wait is for.
#[derive(Clone, Copy)]
pub(crate) enum Whom<'a> {
    Descriptor(BorrowedFd<'a>),
    /// An own child that has not been reaped.
    Number(Pid),
}

impl Whom<'_> {
    fn raw(self) -> (libc::idtype_t, libc::id_t) {
        match self {
            // Neither number is ever negative.
            Whom::Descriptor(fd) => (libc::P_PIDFD, fd.as_raw_fd().cast_unsigned()),
            Whom::Number(pid) => (libc::P_PID, pid.as_raw().cast_unsigned()),
        }
    }
}

/// Takes the status of a dead child and frees its number. `None` while it lives, `ECHILD` when it is not ours to take.
pub(crate) fn reap(whom: Whom<'_>) -> Result<Option<(Status, Usage)>> {
    status(whom, libc::WEXITED | libc::WNOHANG)
}

/// Reads the status of a dead child, whose number stays taken. `None` while it lives.
pub(crate) fn look_at(whom: Whom<'_>) -> Result<Option<(Status, Usage)>> {
    status(whom, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

fn status(whom: Whom<'_>, flags: libc::c_int) -> Result<Option<(Status, Usage)>> {
    let Some((info, usage)) = wait(whom, flags)? else { return Ok(None) };
    // SAFETY: waitid reported an event, so the fields of the SIGCHLD layout are filled in.
    let status = unsafe { info.si_status() };
    let status = match info.si_code {
        libc::CLD_EXITED => Status::Exited(status),
        _ => Status::Signaled(status),
    };
    Ok(Some((status, usage)))
}

/// Whether the child is stopped, or dead, so that no code of it runs. Takes nothing: both can be waited for later.
pub(crate) fn is_halted(whom: Whom<'_>) -> Result<bool> {
    let flags = libc::WSTOPPED | libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    Ok(wait(whom, flags)?.is_some())
}

/// Whether the child lives; `ECHILD` when there is no such child, or no more. Takes nothing.
pub(crate) fn is_alive(whom: Whom<'_>) -> Result<bool> {
    Ok(wait(whom, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)?.is_none())
}

/// waitid(2) as the kernel has it: the C library's wrapper leaves out the last argument, the usage.
fn wait(whom: Whom<'_>, flags: libc::c_int) -> Result<Option<(libc::siginfo_t, Usage)>> {
    let (kind, id) = whom.raw();
    // SAFETY: siginfo_t is plain data for which all zeroes is a value.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: so is rusage.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    loop {
        let result = fault::check(Op::Wait).and_then(|()| {
            // SAFETY: `info` and `usage` are valid places to write to.
            Errno::result(unsafe { libc::syscall(libc::SYS_waitid, kind, id, &raw mut info, flags, &raw mut usage) })
        });
        match result {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            // With WNOHANG and no event the call succeeds and leaves the zeroes.
            Ok(_) if info.si_signo == 0 => return Ok(None),
            Ok(_) => return Ok(Some((info, Usage::from(&usage)))),
        }
    }
}

/// Asks the kernel how a process that somebody else reaped had ended (Linux 6.15; an error before).
pub(crate) fn exit_info(pidfd: BorrowedFd<'_>) -> Result<Status> {
    /// `struct pidfd_info` of linux/pidfd.h, first version.
    #[repr(C)]
    struct PidfdInfo {
        mask: u64,
        cgroupid: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;

    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, cgroupid: 0, ids: [0; 11], exit_code: 0 };
    let get_info = nix::request_code_readwrite!(0xFF, 11, size_of::<PidfdInfo>());
    // SAFETY: the request number carries the size of `info`, which the kernel does not write beyond.
    Errno::result(unsafe { libc::ioctl(pidfd.as_raw_fd(), get_info, &raw mut info) })?;
    if info.mask & PIDFD_INFO_EXIT == 0 {
        return Err(Errno::ENODATA);
    }
    Ok(of_code(info.exit_code))
}

/// What a code as wait(2) gives it means.
pub(crate) fn of_code(code: i32) -> Status {
    match (libc::WIFEXITED(code), libc::WIFSIGNALED(code)) {
        (true, _) => Status::Exited(libc::WEXITSTATUS(code)),
        (_, true) => Status::Signaled(libc::WTERMSIG(code)),
        _ => Status::Unknown,
    }
}

/// Asks whether the process has not been reaped: its number is not given away while that is so.
pub(crate) fn keeps_number(pidfd: BorrowedFd<'_>) -> bool {
    let (fd, info) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: signal 0 is sent to nobody; the rest are numbers.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, 0, info, 0) == 0 }
}
