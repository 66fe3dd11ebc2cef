//! Keeps our descriptors away from the numbers of the standard streams.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::{
    Result,
    fcntl::{FcntlArg, fcntl},
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
