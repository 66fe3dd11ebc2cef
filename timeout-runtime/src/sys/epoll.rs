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

/// Replaces every inherited epoll descriptor; `probe` is any descriptor that no epoll instance watches.
pub(crate) fn make_private(probe: BorrowedFd<'_>) {
    for first in (0..LAST).step_by(CHUNK) {
        if first > 0 && !any_from(first) {
            return;
        }
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
            if is_epoll(open.fd, probe) {
                replace(open.fd);
            }
        }
    }
    // A low limit, or descriptors with very high numbers.
    let listing = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<i32> = listing.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.into_iter().filter(|fd| is_epoll(*fd, probe)).for_each(replace);
}

/// How many descriptors are looked at by one poll(2), which tells the open ones among them: a system call for each would
/// take longer than the rest of a child's setup.
const CHUNK: usize = 64;

/// Beyond this the numbers are listed rather than tried.
const LAST: i32 = 4096;

/// Whether this process may have a descriptor from `first`, a multiple of 64, on.
///
/// A fork makes the child's table as large as its highest number demands, and select(2) is silent on numbers beyond the
/// table, while those in it that are not open are an error. A look at `/proc` tells as much and takes a new process longer than the rest of its setup.
fn any_from(first: i32) -> bool {
    let mut asked = [0u64; LAST as usize / 64];
    asked.iter_mut().skip(first.unsigned_abs() as usize / 64).for_each(|word| *word = u64::MAX);
    let (set, none) = (asked.as_mut_ptr().cast::<libc::fd_set>(), std::ptr::null_mut());
    let mut at_once = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: the kernel reads and writes LAST bits at most, which is what `asked` has.
    unsafe { libc::select(LAST, set, none, none, &raw mut at_once) != 0 }
}

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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::{
        sys::{
            epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
            wait::{WaitStatus, waitpid},
        },
        unistd::pipe,
    };

    use super::*;
    use crate::sys::process;

    /// Whether the instance under `number` watches what it watched in the host, as a forked child sees it.
    fn is_shared_in_a_child(number: i32, setup: fn(BorrowedFd<'_>)) -> bool {
        let (watched, _held) = pipe().unwrap();
        let (probe, _other) = pipe().unwrap();
        let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
        epoll.add(&watched, EpollEvent::new(EpollFlags::EPOLLIN, 0)).unwrap();
        // SAFETY: takes numbers; `number` is one that nothing else in this process has.
        assert_eq!(unsafe { libc::dup2(epoll.0.as_raw_fd(), number) }, number);
        let child = process::fork(|| {
            setup(probe.as_fd());
            // What an instance watches cannot be added once more.
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: takes numbers and a valid event.
            let added = unsafe { libc::epoll_ctl(number, libc::EPOLL_CTL_ADD, watched.as_raw_fd(), &raw mut event) };
            process::exit_now(i32::from(Errno::result(added) == Err(Errno::EEXIST)));
        });
        // SAFETY: `number` was opened above.
        unsafe { libc::close(number) };
        match waitpid(child.unwrap(), None).unwrap() {
            WaitStatus::Exited(_, code) => code == 1,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_instance_is_private_whatever_its_number() {
        // SAFETY: takes a number.
        let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
        let numbers = [60, 63, 64, 65, 127, 128, 200, 250, LAST - 1, LAST, LAST + 900];
        for number in numbers.into_iter().filter(|number| i64::from(*number) < limit) {
            assert!(is_shared_in_a_child(number, |_| {}), "{number}: nothing to be mended");
            assert!(!is_shared_in_a_child(number, make_private), "{number}");
        }
    }
}
