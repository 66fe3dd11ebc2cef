//! Gives a forked child epoll instances of its own in place of those it shares with its parent.
//!
//! An epoll instance is shared by a fork. When the child drops a socket that an event loop had registered, the loop's
//! `EPOLL_CTL_DEL` reaches the *parent's* instance too, and the parent's socket never wakes again. With a private,
//! empty instance under the same number such a drop harms nobody.

#![expect(unsafe_code, reason = "probing descriptors by number has no safe wrapper")]

use std::{
    fs,
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::{errno::Errno, libc};

/// Replaces every inherited epoll descriptor; `probe` is any descriptor that no epoll instance watches, and `expected`
/// about how many there are, 0 if that is not known.
///
/// The parent counts them, as the first look at `/proc` costs a new process more than the rest of its setup.
pub(crate) fn make_private(probe: BorrowedFd<'_>, expected: u64) {
    let mut seen = 0;
    for first in (0..4096).step_by(CHUNK) {
        let mut fd = first;
        let mut polled = [(); CHUNK].map(|()| {
            fd += 1;
            libc::pollfd { fd: fd - 1, events: 0, revents: 0 }
        });
        // SAFETY: `polled` has CHUNK entries; numbers that name nothing are answered with POLLNVAL.
        if unsafe { libc::poll(polled.as_mut_ptr(), CHUNK as libc::nfds_t, 0) } < 0 {
            break;
        }
        for open in polled.iter().filter(|entry| entry.revents & libc::POLLNVAL == 0) {
            seen += 1;
            if is_epoll(open.fd, probe) {
                replace(open.fd);
            }
        }
        // Numbers are given out from the lowest on: what was opened after the counting is in this chunk, too.
        if expected != 0 && seen >= expected {
            return;
        }
    }
    // An old kernel, a low limit, or descriptors with very high numbers.
    let listing = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<i32> = listing.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.into_iter().filter(|fd| is_epoll(*fd, probe)).for_each(replace);
}

/// How many descriptors are looked at by one poll(2), which tells the open ones among them: a system call for each would
/// take longer than the rest of a child's setup.
const CHUNK: usize = 64;

/// Tells an epoll instance by the error for removing what it does not watch.
fn is_epoll(fd: i32, probe: BorrowedFd<'_>) -> bool {
    let nothing = std::ptr::null_mut();
    // SAFETY: EPOLL_CTL_DEL takes no event (Linux 2.6.9); the numbers name descriptors or nothing.
    let removed = unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_DEL, probe.as_raw_fd(), nothing) };
    Errno::result(removed) == Err(Errno::ENOENT)
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
