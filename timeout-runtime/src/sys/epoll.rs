//! Gives a forked child epoll instances of its own in place of those it shares with its parent.
//!
//! An epoll instance is shared by a fork. When the child drops a socket that an event loop had registered, the loop's
//! `EPOLL_CTL_DEL` reaches the *parent's* instance too, and the parent's socket never wakes again. With a private,
//! empty instance under the same number such a drop harms nobody.
//!
//! It all goes past the C library, as each page of it that a new process comes to costs more than a system call.

#![expect(unsafe_code, reason = "probing descriptors by number has no safe wrapper")]

use std::{
    fs,
    hint::black_box,
    mem::{ManuallyDrop, MaybeUninit},
    os::fd::{BorrowedFd, FromRawFd, OwnedFd},
};

use nix::libc;
use rustix::{
    event::epoll,
    io::{DupFlags, Errno, FdFlags, dup3, fcntl_getfd},
};

use super::raw;

/// Replaces every inherited epoll descriptor; `probe` is any descriptor that no epoll instance watches.
#[inline]
pub(crate) fn make_private(probe: BorrowedFd<'_>) {
    for first in (0..LAST).step_by(CHUNK) {
        if first > 0 && !any_from(first) {
            return;
        }
        let mut polled = [const { MaybeUninit::uninit() }; CHUNK];
        for (fd, entry) in (first..).zip(&mut polled) {
            // Hidden from the optimizer, which would count by vectors of constants, and they lie in a page of their own.
            entry.write(libc::pollfd { fd: black_box(fd), events: 0, revents: 0 });
        }
        let at_once = AT_ONCE;
        let arguments = [polled.as_mut_ptr().expose_provenance(), CHUNK, (&raw const at_once).expose_provenance(), 0];
        // SAFETY: as many entries as are told, and a time.
        if unsafe { raw::call(libc::SYS_ppoll, arguments) }.is_err() {
            break;
        }
        for entry in &polled {
            // SAFETY: each was written above.
            let entry = unsafe { entry.assume_init_ref() };
            if entry.revents & libc::POLLNVAL == 0 && is_epoll(entry.fd, probe) {
                replace(entry.fd);
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

const AT_ONCE: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };

/// What has this number; perhaps nothing.
fn by_number(fd: i32) -> BorrowedFd<'static> {
    // SAFETY: nothing is closed while the borrow is used, and the calls it is used for answer numbers that name nothing
    // with an error.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Whether this process may have a descriptor from `first`, a multiple of 64, on.
///
/// A fork makes the child's table as large as its highest number demands, in steps of 64. In the table, select(2) fails on
/// a number that is not open and takes one that is off the list; what is beyond it stays untouched. A look at `/proc` tells
/// as much and takes a new process longer than the rest of its setup.
#[inline(always)]
fn any_from(first: i32) -> bool {
    const WORD: i32 = u64::BITS.cast_signed();
    let mut few = [0u64; 5];
    let mut many = Vec::new();
    let asked = match usize::try_from(first / WORD + 1).unwrap_or_default() {
        needed if needed <= few.len() => &mut few[..needed],
        needed => {
            many.resize(needed, 0);
            &mut many[..]
        }
    };
    let Some(last) = asked.last_mut() else { return false };
    *last = 1;
    let (number, asked_at) = ((first + 1).cast_unsigned() as usize, asked.as_mut_ptr().expose_provenance());
    let at_once = AT_ONCE;
    let arguments = [number, 0, 0, asked_at, (&raw const at_once).expose_provenance(), 0];
    // SAFETY: the set has a bit for each number up to `first`; what is not open is only ever asked about.
    let exceptions = unsafe { raw::call(libc::SYS_pselect6, arguments) };
    exceptions != Ok(0) || asked.last() == Some(&0)
}

/// Tells an epoll instance by the error for removing what it does not watch.
fn is_epoll(fd: i32, probe: BorrowedFd<'_>) -> bool {
    epoll::delete(by_number(fd), probe) == Err(Errno::NOENT)
}

fn replace(fd: i32) {
    let flags = fcntl_getfd(by_number(fd)).unwrap_or(FdFlags::empty());
    let flags = if flags.contains(FdFlags::CLOEXEC) { DupFlags::CLOEXEC } else { DupFlags::empty() };
    let Ok(fresh) = epoll::create(epoll::CreateFlags::CLOEXEC) else { return };
    // SAFETY: whoever owns `fd` in this child keeps owning an epoll descriptor under that number.
    let mut owned = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(fd) });
    let _ = dup3(&fresh, &mut owned, flags);
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};

    use nix::{
        errno::Errno,
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
