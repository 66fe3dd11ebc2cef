//! The start method `forkserver`: the child is a fresh process that another one has forked ahead.
//!
//! The caller takes a worker that waits, and gives it its order: which function, how, and with which arguments. Nothing
//! of the caller is copied but that, so the cost does not depend on the caller's size or threads.

use std::{io, os::fd::AsFd, sync::Arc, time::Duration};

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
        worker::{Origin, Worker},
        zygote::{NoWorker, Waiting, Zygote},
    },
    sys::{fd, fdpass, image},
    wire::order::{Description, Head},
};

/// What a worker is to run, made ready by whoever knows the types.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) thunk: image::Thunk,
    /// The arguments for the thunk; or why they cannot travel.
    pub(crate) arguments: Result<Vec<u8>, String>,
}

/// So many servers in a row may end before they have given a single worker.
const ATTEMPTS: u32 = 3;

/// Arguments up to this size are copied into one message with the rest.
const SMALL: usize = 16 << 10;

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
    let mut failures = 0;
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
                failures = if zygote.has_given() { 0 } else { failures + 1 };
                if failures == ATTEMPTS {
                    let why = format!("the fork server ended before it was ready, {ATTEMPTS} times in a row");
                    return Err(NoChild::Failed(io::Error::other(why)));
                }
                continue;
            }
        };
        match send(host, deadline, options, thunk, arguments, waiting, &zygote, cancel)? {
            Some(worker) => return Ok(worker),
            // It died before it had its order.
            None => continue,
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
    arguments: &[u8],
    waiting: Waiting,
    zygote: &Arc<Zygote>,
    cancel: Option<&Cancel>,
) -> Result<Option<Worker>, NoChild> {
    let token = new_token(host);
    let directory = working_directory().map_err(|errno| NoChild::failed("the working directory", errno))?;
    let streams = [0, 1, 2].map(fd::is_open);
    let description =
        Description { thunk, options, mask: own_mask(), environment: zygote.changed_environment(), streams };
    let description = description.to_bytes().map_err(invalid)?;
    // Lengths in memory fit into 64 bits.
    let head = Head { token, description: description.len() as u64, arguments: arguments.len() as u64 };
    let open_streams = (0..3).zip(streams).filter(|(_, is_open)| *is_open).map(|(number, _)| number);
    let fds: Vec<_> = [fd::number(&directory)].into_iter().chain(open_streams).collect();
    // A small order in one piece: the worker wakes once.
    let mut first = [&head.to_bytes()[..], &description].concat();
    let behind = if arguments.len() <= SMALL { &[][..] } else { arguments };
    if behind.is_empty() {
        first.extend_from_slice(arguments);
    }
    let mut has_gone = false;
    for (bytes, fds) in [(&first[..], &fds[..]), (behind, &[])] {
        let (mut rest, mut fds) = (bytes, fds);
        while !rest.is_empty() && !has_gone {
            match fdpass::send(waiting.line.as_fd(), rest, fds) {
                Ok(sent) => (rest, fds) = (&rest[sent..], &[]),
                // What it had to say before it died is on its pipe.
                Err(Errno::EAGAIN) if !has_room(&waiting, deadline, cancel)? => rest = &[],
                Err(Errno::EAGAIN) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => has_gone = true,
                Err(errno) => return Err(NoChild::failed("sending the arguments", errno)),
            }
        }
    }
    // It is forked from one thread. Its stacks are not asked for: the sheets are in nobody's memory but ours.
    let origin = Origin { threads: 0, sheets: &host.sheets };
    let flight = host.flights.enter(fd::number(&waiting.pipe));
    let worker = Worker::of_zygote(waiting, Arc::clone(zygote), flight, token, origin);
    Ok((!has_gone).then_some(worker))
}

/// Waits until the worker has read some of it; `false` if it is dead and reads no more. Its line is not hung up then, as
/// its server has an end of it.
fn has_room(waiting: &Waiting, deadline: Deadline, cancel: Option<&Cancel>) -> Result<bool, NoChild> {
    let left = deadline.left();
    if left.is_some_and(|left| left.is_zero()) {
        return Err(NoChild::Late);
    }
    if cancel.is_some_and(Cancel::is_cancelled) {
        return Err(NoChild::Cancelled);
    }
    let bell = cancel.and_then(|cancel| cancel.bell().ok());
    let mut polled = vec![
        PollFd::new(waiting.line.as_fd(), PollFlags::POLLOUT),
        PollFd::new(waiting.pidfd.as_fd(), PollFlags::POLLIN),
    ];
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
    Err(io::Error::other(format!("the fork server ended before it was ready, {ATTEMPTS} times in a row")))
}
