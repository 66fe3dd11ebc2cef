//! Keeps our descriptors away from the numbers of the standard streams.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::{
    Result,
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

/// Gives the same file under a number from 3 on. In a host that has closed a standard stream a new descriptor takes its
/// number, and whatever the body prints would go there.
#[expect(unsafe_code, reason = "fcntl gives a number")]
pub(crate) fn above_stdio(fd: OwnedFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    let moved = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// Takes over a descriptor that this process was started with.
#[expect(unsafe_code, reason = "a descriptor by its number")]
pub(crate) fn inherited(number: i32) -> Result<OwnedFd> {
    // SAFETY: takes and gives a number.
    let flags = Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: as above.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and at the start of a program nobody else has taken it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether the descriptor with this number is open.
#[expect(unsafe_code, reason = "a descriptor by its number")]
pub(crate) fn is_open(number: i32) -> bool {
    // SAFETY: takes and gives numbers.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// Puts a copy of `fd`, or nothing, under one of the numbers of the standard streams.
#[expect(unsafe_code, reason = "a descriptor by its number")]
pub(crate) fn put_at(fd: Option<&OwnedFd>, number: i32) -> Result<()> {
    match fd {
        // SAFETY: takes numbers; what had that number is a standard stream, which nobody in this process uses yet.
        Some(fd) => Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop),
        None => {
            super::process::close(number);
            Ok(())
        }
    }
}

/// Closes some descriptors, with one system call if the kernel has given them numbers in a row.
pub(crate) fn close_together(fds: Vec<OwnedFd>) {
    let numbers: Vec<_> = fds.iter().map(number).collect();
    let are_in_a_row = numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    if let (true, Some(first), Some(last)) = (are_in_a_row, numbers.first(), numbers.last())
        && super::process::close_row(*first, *last)
    {
        fds.into_iter().for_each(std::mem::forget);
    }
}

/// The number of a descriptor, for messages and children.
pub(crate) fn number(fd: &OwnedFd) -> i32 {
    fd.as_raw_fd()
}
