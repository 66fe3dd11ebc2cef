//! Starts this program once more, as nobody's child: the host's `SIGCHLD` and `waitpid(-1)` never hear of it.
//!
//! What exec runs sends SIGCHLD to its parent in the end, whatever its parent asked for. So the parent is a process in
//! between, which is gone at once and sends nothing itself: a clone without an exit signal is not waited for by `waitpid`
//! (`__WCLONE`, wait(2)). Both share the memory of the host until the exec, as `vfork` does: the cost does not depend on the
//! host's size. They make system calls only, on stacks of their own, with all signals blocked.

#![expect(unsafe_code, reason = "clone(2) and exec(3) with descriptors put in place")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fs,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use nix::{
    Result,
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
    unistd::Pid,
};

use super::{
    fault::{self, Op},
    fd::above_stdio,
    signal,
};

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

/// How many descriptors a program can be given.
pub(crate) const GIVEN: usize = 6;

/// What the two processes need, and what they tell.
struct Plan {
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    given: [c_int; GIVEN],
    /// The highest descriptor of the host, where they have to be closed one by one; else less than any.
    highest: c_int,
    inner_stack: *mut c_void,
    pid: c_int,
    pidfd: c_int,
    error: c_int,
}

/// Runs `program` with `name` as its only argument, and with `given` as its descriptors from 0 on; it has no others.
pub(crate) fn detached(
    program: &CStr,
    name: &CStr,
    environment: &[CString],
    given: [BorrowedFd<'_>; GIVEN],
) -> Result<Spawned> {
    fault::check(Op::Fork)?;
    // Out of the way of the numbers they are to have.
    let moved = given.map(|fd| duplicate_above(fd));
    let mut numbers = [0; GIVEN];
    for (number, fd) in numbers.iter_mut().zip(&moved) {
        *number = fd.as_ref().map_err(|errno| *errno)?.as_raw_fd();
    }
    let arguments = [name.as_ptr(), ptr::null()];
    let environment: Vec<_> = environment.iter().map(|entry| entry.as_ptr()).chain([ptr::null()]).collect();
    let (outer, inner) = (Stack::new()?, Stack::new()?);
    let mut plan = Plan {
        program: program.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        given: numbers,
        // Asked about a number that nobody has. Before Linux 5.9, or by a filter, there is no such call.
        highest: if super::process::close_row(c_int::MAX, c_int::MAX) { -1 } else { highest_descriptor() },
        inner_stack: inner.top(),
        pid: -1,
        pidfd: -1,
        error: 0,
    };
    let mask = signal::block_all();
    let between = clone_between(&outer, &mut plan);
    signal::set_mask(&mask);
    reap_between(between?);
    let pidfd = (plan.pidfd >= 0).then(|| {
        // SAFETY: the kernel has opened it for the clone, in the table of descriptors that the process in between shared.
        unsafe { OwnedFd::from_raw_fd(plan.pidfd) }
    });
    match (plan.error, pidfd) {
        (0, Some(pidfd)) => Ok(Spawned { pid: Pid::from_raw(plan.pid), pidfd: above_stdio(pidfd)? }),
        // A kernel before Linux 5.2 takes the flag for nothing.
        (0, None) => Err(Errno::ENOSYS),
        (error, _) => Err(Errno::from_raw(error)),
    }
}

/// The highest descriptor that is open, and some room for what other threads open meanwhile.
fn highest_descriptor() -> c_int {
    const ROOM: c_int = 64;
    let numbers = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let highest: Option<c_int> = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max();
    highest.unwrap_or(0).saturating_add(ROOM)
}

fn duplicate_above(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(16))?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn clone_between(stack: &Stack, plan: &mut Plan) -> Result<c_int> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES;
    let plan = ptr::from_mut(plan).cast::<c_void>();
    // SAFETY: this thread sleeps until the process is gone, so that its stack and the plan outlive it; it runs `between`,
    // which touches nothing else.
    Errno::result(unsafe { libc::clone(between, stack.top(), flags, plan) })
}

extern "C" fn between(plan: *mut c_void) -> c_int {
    // SAFETY: `clone_between` passes a plan that nobody else touches meanwhile.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let (stack, pidfd, argument) = (plan.inner_stack, &raw mut plan.pidfd, ptr::from_mut(plan).cast::<c_void>());
    // SAFETY: as for `clone_between`: this process sleeps until the other one has run exec or is gone.
    let pid = unsafe { libc::clone(run, stack, flags, argument, pidfd) };
    match pid {
        ..0 => plan.error = Errno::last_raw(),
        pid => plan.pid = pid,
    }
    super::process::exit_now(0)
}

extern "C" fn run(plan: *mut c_void) -> c_int {
    // SAFETY: as in `between`, which sleeps.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    let mut number = 0;
    for fd in plan.given {
        // SAFETY: takes numbers; this process has a table of descriptors of its own.
        if unsafe { libc::dup2(fd, number) } < 0 {
            plan.error = Errno::last_raw();
            super::process::exit_now(127);
        }
        number += 1;
    }
    super::process::close_row(number, c_int::MAX);
    for left in number..=plan.highest {
        super::process::close(left);
    }
    // SAFETY: C strings, and arrays of them that end in null, which the sleeping host keeps.
    unsafe { libc::execve(plan.program, plan.arguments, plan.environment) };
    plan.error = Errno::last_raw();
    super::process::exit_now(127)
}

/// Nobody else waits for it: that takes `__WCLONE` or `__WALL`. Who does all the same has done it for us.
fn reap_between(pid: c_int) {
    loop {
        // SAFETY: without a place for the status, the call touches no memory.
        let reaped = unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WCLONE) };
        if reaped >= 0 || Errno::last() != Errno::EINTR {
            return;
        }
    }
}

/// A stack for one of the two.
struct Stack(*mut c_void);

impl Stack {
    /// More than a few system calls take, even where nothing is optimized.
    const SIZE: usize = 64 << 10;

    fn new() -> Result<Stack> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let stack = unsafe { libc::mmap(ptr::null_mut(), Stack::SIZE, protection, flags | libc::MAP_STACK, -1, 0) };
        if stack == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(Stack(stack)) }
    }

    fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(Stack::SIZE)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever ran on it is gone or has another memory.
        unsafe { libc::munmap(self.0, Stack::SIZE) };
    }
}
