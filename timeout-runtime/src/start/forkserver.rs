//! The start method `forkserver`: the child is a fresh process that another one has forked ahead.
//!
//! The caller takes a worker that waits, and gives it its order: which function, how, and with which arguments. Nothing
//! of the caller is copied but that, so the cost does not depend on the caller's size or threads.

use std::{
    io,
    os::fd::{BorrowedFd, RawFd},
    sync::Arc,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        signal::{SigSet, SigmaskHow},
        stat::Mode,
        time::TimeSpec,
    },
};

use super::{NoChild, fork::new_token};
use crate::{
    Cancel,
    child::Options,
    deadline::Deadline,
    parent::{
        host::Host,
        worker::Worker,
        zygote::{NoWorker, Waiting, Zygote},
    },
    sys::{fd, fdpass, image, sched},
    wire::{
        order::{Description, Head},
        parcel::Parcel,
    },
};

/// What a worker is to run, made ready by whoever knows the types.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) thunk: image::Thunk,
    /// The arguments for the thunk; or why they cannot travel.
    pub(crate) arguments: Result<Parcel, String>,
}

/// So many servers may end before a call has a worker.
const ATTEMPTS: u32 = 3;

/// So many workers may die before one has its order.
const MOST_LOST: u32 = 100;

/// Arguments up to this size go in one message with the rest.
const SMALL: u64 = 16 << 10;

/// Within so short a limit a worker starts on a core of its own, if there is one: should its body spin, it does not hold up
/// the caller.
const ALONE: Duration = Duration::from_millis(10);

/// Gives `order` to a worker.
pub(crate) fn start(
    host: &'static Host,
    deadline: Deadline,
    options: Options,
    order: &Order,
    cancel: Option<&Cancel>,
) -> Result<Worker, NoChild> {
    let arguments = order.arguments.as_ref().map_err(|why| invalid(format!("an argument cannot travel: {why}")))?;
    let thunk = image::number_of(order.thunk).ok_or_else(|| {
        invalid("the function is not in the program's own file, where the fork server could find it".into())
    })?;
    host.streams.flush_if_alone(host.threads());
    let (mut ended, mut lost) = (0, 0);
    loop {
        let zygote = host.zygotes.get(&host.flights, deadline).map_err(NoChild::Failed)?.ok_or(NoChild::Late)?;
        let waiting = match zygote.take(deadline) {
            Ok(waiting) => waiting,
            Err(NoWorker::Late) => return Err(NoChild::Late),
            Err(NoWorker::Failed(error)) => return Err(NoChild::Failed(error)),
            Err(NoWorker::Refused(error)) => {
                host.zygotes.forget(&zygote);
                return Err(NoChild::Failed(error));
            }
            Err(NoWorker::Gone) => {
                host.zygotes.forget(&zygote);
                ended += 1;
                if ended == ATTEMPTS {
                    return Err(NoChild::Failed(ended_too_often()));
                }
                continue;
            }
        };
        match send(host, deadline, options, thunk, arguments, waiting, &zygote, cancel)? {
            Some(worker) => return Ok(worker),
            None if lost == MOST_LOST => {
                let why = "the workers of the fork server end before they have their orders";
                return Err(NoChild::Failed(io::Error::other(why)));
            }
            None => lost += 1,
        }
    }
}

/// Sends the whole order; `None` if the worker died before it had all of it.
#[expect(clippy::too_many_arguments, reason = "all of it is used once")]
fn send(
    host: &'static Host,
    deadline: Deadline,
    options: Options,
    thunk: u64,
    arguments: &Parcel,
    waiting: Waiting,
    zygote: &Arc<Zygote>,
    cancel: Option<&Cancel>,
) -> Result<Option<Worker>, NoChild> {
    let token = new_token(host);
    let directory = working_directory().map_err(|errno| NoChild::failed("the working directory", errno))?;
    let streams = [0, 1, 2].map(fd::is_open);
    let is_small = arguments.pieces() <= 1 && arguments.length() <= SMALL;
    let is_far = deadline.left().is_none_or(|left| left > ALONE);
    // This thread is about to sleep, and its core is awake.
    let is_called = is_small && is_far && sched::call_here(waiting.pid);
    let (mask, environment) = (own_mask(), zygote.changed_environment());
    let description = Description { thunk, options, mask, environment, is_called, streams };
    let description = description.to_bytes().map_err(invalid)?;
    // Lengths in memory fit into 64 bits.
    let head = Head { token, description: description.len() as u64, arguments: arguments.length() };
    let open_streams = (0..3).zip(streams).filter(|(_, is_open)| *is_open).map(|(number, _)| number);
    let fds: Vec<_> = [fd::number(&directory)].into_iter().chain(open_streams).collect();
    // A small order in one piece: the worker wakes once.
    let mut first = [&head.to_bytes()[..], &description].concat();
    if is_small {
        arguments.with(0, |bytes| first.extend_from_slice(bytes));
    }
    let worker = Worker::of_zygote(waiting, Arc::clone(zygote), &host.flights, token);
    let mut sent = send_all(&worker, &first, &fds, deadline, cancel)?;
    for piece in 0..if is_small { 0 } else { arguments.pieces() } {
        if sent == Sent::Whole {
            let send = |bytes: &[u8]| send_all(&worker, bytes, &[], deadline, cancel);
            sent = arguments.with(piece, send).unwrap_or(Ok(Sent::Whole))?;
        }
    }
    Ok((sent != Sent::Nowhere).then_some(worker))
}

/// What became of a part of an order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Whole,
    /// The worker died before it had read all. What it had to say is on its pipe.
    Unread,
    /// There is nobody on the line.
    Nowhere,
}

/// Sends some of the order.
fn send_all(
    worker: &Worker,
    mut bytes: &[u8],
    mut fds: &[RawFd],
    deadline: Deadline,
    cancel: Option<&Cancel>,
) -> Result<Sent, NoChild> {
    let Some((line, pidfd)) = worker.line() else { return Ok(Sent::Nowhere) };
    while !bytes.is_empty() {
        match fdpass::send(line, bytes, fds) {
            Ok(sent) => (bytes, fds) = (&bytes[sent..], &[]),
            Err(Errno::EAGAIN) if !has_room(line, pidfd, deadline, cancel)? => return Ok(Sent::Unread),
            Err(Errno::EAGAIN) => {}
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(Sent::Nowhere),
            Err(errno) => return Err(NoChild::failed("sending the arguments", errno)),
        }
    }
    Ok(Sent::Whole)
}

/// Waits until the worker has read some of it; `false` if it is dead and reads no more. Its line is not hung up then, as
/// its server has an end of it.
fn has_room(
    line: BorrowedFd<'_>,
    pidfd: BorrowedFd<'_>,
    deadline: Deadline,
    cancel: Option<&Cancel>,
) -> Result<bool, NoChild> {
    let left = deadline.left();
    if left.is_some_and(|left| left.is_zero()) {
        return Err(NoChild::Late);
    }
    if cancel.is_some_and(Cancel::is_cancelled) {
        return Err(NoChild::Cancelled);
    }
    let bell = cancel.and_then(|cancel| cancel.bell().ok());
    let mut polled = vec![PollFd::new(line, PollFlags::POLLOUT), PollFd::new(pidfd, PollFlags::POLLIN)];
    polled.extend(bell.map(|bell| PollFd::new(bell, PollFlags::POLLIN)));
    let timeout = left.map(|left| left.min(Duration::from_secs(1)));
    match ppoll(&mut polled, timeout.map(TimeSpec::from), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(polled[1].any() != Some(true)),
        Err(errno) => Err(NoChild::failed("poll", errno)),
    }
}

/// Where the host is, as a descriptor. It need not be a place with a name any more.
fn working_directory() -> nix::Result<std::os::fd::OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = open(".", flags, Mode::empty()).or_else(|_| open("/proc/self/cwd", flags, Mode::empty()))?;
    fd::above_stdio(directory)
}

/// The signals that this thread blocks, a bit for each.
fn own_mask() -> u64 {
    let mut mask = SigSet::empty();
    if nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_BLOCK, None, Some(&mut mask)).is_err() {
        return 0;
    }
    mask.iter().fold(0, |bits, signal| bits | 1 << (signal as i32 - 1))
}

fn invalid(why: String) -> NoChild {
    NoChild::Failed(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Starts the server if there is none, and waits until it has a worker ready or `deadline` is over.
pub(crate) fn warm_up(host: &'static Host, deadline: Deadline) -> io::Result<()> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the fork server was not ready in time");
    for _ in 0..ATTEMPTS {
        let zygote = host.zygotes.get(&host.flights, deadline)?.ok_or_else(late)?;
        match zygote.wait_until_ready(deadline) {
            Ok(()) => return Ok(()),
            Err(NoWorker::Late) => return Err(late()),
            Err(NoWorker::Failed(error)) => return Err(error),
            Err(NoWorker::Refused(error)) => {
                host.zygotes.forget(&zygote);
                return Err(error);
            }
            Err(NoWorker::Gone) => host.zygotes.forget(&zygote),
        }
    }
    Err(ended_too_often())
}

fn ended_too_often() -> io::Error {
    io::Error::other(format!("the fork server ended before it gave a worker, {ATTEMPTS} times in a row"))
}
