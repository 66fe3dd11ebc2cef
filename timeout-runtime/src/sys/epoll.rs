//! Gives a forked child epoll instances of its own in place of those it shares with its parent.
//!
//! An epoll instance is shared by a fork. When the child drops a socket that an event loop had registered, the loop's
//! `EPOLL_CTL_DEL` reaches the *parent's* instance too, and the parent's socket never wakes again. With a private,
//! empty instance under the same number such a drop harms nobody.

#![expect(unsafe_code, reason = "probing descriptors by number has no safe wrapper")]

use std::{
    fs,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
};

use nix::{errno::Errno, libc};

/// Replaces every inherited epoll descriptor; `probe` is any descriptor that no epoll instance watches.
pub(crate) fn make_private(probe: BorrowedFd<'_>) {
    // Since Linux 6.2 the size of the directory is the number of open descriptors; before, it is 0.
    let open = fs::metadata("/proc/self/fd").map_or(0, |directory| directory.size());
    // Descriptors are dense as a rule: probing in order finds all of them soon. Where they are not, ask for the highest.
    let dense = i32::try_from(open).unwrap_or(i32::MAX).saturating_add(16);
    let mut highest = i32::MAX;
    let mut seen = 0;
    let mut fd = 0;
    while seen < open || open == 0 {
        if fd == dense {
            highest = highest_by_listing();
        }
        if fd > highest {
            break;
        }
        match classify(fd, probe) {
            Kind::Closed => {}
            Kind::Other => seen += 1,
            Kind::Epoll => {
                seen += 1;
                replace(fd);
            }
        }
        fd += 1;
    }
}

enum Kind {
    Closed,
    Other,
    Epoll,
}

/// Tells an epoll instance by the error for removing what it does not watch.
fn classify(fd: i32, probe: BorrowedFd<'_>) -> Kind {
    let nothing = std::ptr::null_mut();
    // SAFETY: EPOLL_CTL_DEL takes no event (Linux 2.6.9); the numbers name descriptors or nothing.
    match Errno::result(unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_DEL, probe.as_raw_fd(), nothing) }) {
        Err(Errno::ENOENT) => Kind::Epoll,
        Err(Errno::EBADF) => Kind::Closed,
        _ => Kind::Other,
    }
}

fn replace(fd: i32) {
    // SAFETY: takes and gives numbers only.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    // SAFETY: as above.
    let fresh = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fresh < 0 {
        return;
    }
    let flags = if flags & libc::FD_CLOEXEC == 0 { 0 } else { libc::O_CLOEXEC };
    // SAFETY: whoever owns `fd` in this child keeps owning an epoll descriptor under that number.
    unsafe { libc::dup3(fresh, fd, flags) };
    // SAFETY: `fresh` was opened above and is ours alone.
    unsafe { libc::close(fresh) };
}

fn highest_by_listing() -> i32 {
    let numbers = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max().unwrap_or(-1)
}
