//! A worker of the fork server: ready before anybody calls, then from its order to `_exit` in one line.
//!
//! It is forked from a process of one thread that has run nothing of the program but its preloads. Everything that does
//! not depend on the call is done ahead. Then it sleeps until its order comes, or nobody is left who could send one.

use std::{
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

use nix::{
    errno::Errno,
    sys::signal::{SigSet, Signal, raise},
    unistd::{Pid, fchdir, getpid},
};

use super::{
    Options,
    outbox::{self, Outbox},
    panic,
    run::{begin, not_started},
};
use crate::{
    resources::Bounds,
    sys::{
        crash, environment, exit, fd, fdpass, image, lifeline, pipe::PlainVec, process, sched, signal, stdout,
        terminate,
    },
    wire::{
        frame::Token,
        message::Kind,
        order::{Description, HEAD, Head},
        stage::StageCell,
        value,
    },
};

/// What a worker has from its server.
pub(crate) struct Spare {
    pub(crate) server: Pid,
    pub(crate) pipe: OwnedFd,
    /// Where its order will come from.
    pub(crate) line: OwnedFd,
    pub(crate) stage: Option<StageCell>,
}

/// Becomes a worker, waits for its order and carries it out. All signals are blocked since before the fork.
pub(crate) fn run(spare: Spare) -> ! {
    let Spare { server, pipe, line, stage } = spare;
    // What comes first and why is told in `run`; here nothing is inherited from a host, and the server has no handlers.
    let session = process::new_session();
    // Without a session it is in its server's group, which must not be killed; its line ends when nobody is left.
    if session.is_ok() && !lifeline::arm(pipe.as_fd(), getpid(), server) {
        // As those that were tied to it in time: a host that has taken this worker must not take this for the body's doing.
        let _ = raise(Signal::SIGKILL);
        process::exit_now(0);
    }
    let _ = process::adopt_orphans();
    process::no_core_dump();
    crash::report(outbox::on_crash);
    exit::instead_of_exit_handlers(outbox::on_exit);
    panic::watch();
    // The news of its server's end is a signal.
    signal::set_mask(&SigSet::empty());
    rehearse(&line);
    sched::be_patient(false);
    let Some(mut arrival) = receive_head(&line) else { process::exit_now(0) };
    let order = receive_rest(&line, &mut arrival);
    let is_measured = order.as_ref().is_ok_and(|(description, _)| description.options.is_measured);
    let outbox = Outbox::open(pipe, arrival.head.token, stage, true, is_measured);
    if let Err(errno) = session {
        // Told to whoever has taken this worker: before, nobody listens.
        not_started(outbox, "setsid", errno);
    }
    let (description, arguments) = match order {
        Ok(order) => order,
        Err(why) => outbox.end_with(Kind::Lost, why.as_bytes()),
    };
    // The server keeps an end of its own; what the body starts must not have it.
    drop(line);
    if let Err((step, errno)) = settle(&description, arrival.fds) {
        not_started(outbox, step, errno);
    }
    if description.options.has_grace {
        terminate::last();
    }
    let Some(thunk) = image::thunk_at(description.thunk) else {
        outbox.end_with(Kind::Lost, b"the fork server does not know the function")
    };
    let mut arguments = Some(arguments);
    let job = &mut |_: &Outbox| thunk(arguments.take().unwrap_or_default());
    begin(outbox, &description.options.bounds, mask_of(description.mask), job)
}

/// What has arrived first: the head, what came with it, and what came behind it.
struct Arrival {
    head: Head,
    fds: Vec<OwnedFd>,
    bytes: [u8; FIRST],
    /// The part of `bytes` that has not been taken.
    rest: Range<usize>,
}

/// How much is received at once: a small order is all there then.
const FIRST: usize = 2048;

/// Waits for the first bytes; `None` if nobody will ever send any.
fn receive_head(line: &OwnedFd) -> Option<Arrival> {
    let mut bytes = [0; FIRST];
    let (count, fds) = fdpass::receive(line.as_fd(), &mut bytes, true).ok()?;
    // The sender puts the head into one message, which a stream does not cut that early.
    let head = Head::parse(bytes.first_chunk::<HEAD>().filter(|_| count >= HEAD)?)?;
    Some(Arrival { head, fds, bytes, rest: HEAD..count })
}

fn receive_rest(line: &OwnedFd, arrival: &mut Arrival) -> Result<(Description<Options>, Vec<u8>), String> {
    let description = receive_bytes(line, arrival, arrival.head.description)?;
    let description = catch_unwind(AssertUnwindSafe(|| Description::parse(&description)))
        .unwrap_or_else(|_| Err("unreadable".into()))
        .map_err(|why| format!("the order of the call did not arrive: {why}"))?;
    Ok((description, receive_bytes(line, arrival, arrival.head.arguments)?))
}

/// Receives so many bytes, making room as they come.
fn receive_bytes(line: &OwnedFd, arrival: &mut Arrival, count: u64) -> Result<Vec<u8>, String> {
    let mut landing = PlainVec::<u8>::new();
    let mut left = count;
    while left > 0 {
        landing.make_room(left).map_err(|error| format!("there was no room for its arguments: {error}"))?;
        let here = &arrival.bytes[arrival.rest.clone()];
        if !here.is_empty() {
            let taken = landing.copy_from(&here[..here.len().min(usize::try_from(left).unwrap_or(usize::MAX))]);
            arrival.rest.start += taken;
            left -= taken as u64;
            continue;
        }
        match landing.read_from(line.as_fd(), left) {
            Ok(0) => return Err("its arguments did not arrive whole".into()),
            // No more than was asked for.
            Ok(read) => left -= read as u64,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(format!("its arguments did not arrive: {errno}")),
        }
    }
    Ok(landing.finish().unwrap_or_default())
}

/// Does once what every call does, with nothing: each page of code and data that a new process touches for the first time
/// takes about a microsecond, and that is better spent before anybody waits.
fn rehearse(line: &OwnedFd) {
    let options = Options { has_grace: false, watch_panics: true, is_measured: false, bounds: Bounds::default() };
    let description = Description { thunk: 0, options, mask: 0, environment: None, streams: [true; 3] };
    let bytes = description.to_bytes().unwrap_or_default();
    // It may have come already: looked at, it stays.
    let _ = fdpass::peek(line.as_fd());
    let head = Head { token: Token(0), description: bytes.len() as u64, arguments: 0 };
    let mut first = [0; FIRST];
    first[..bytes.len().min(FIRST)].copy_from_slice(&bytes[..bytes.len().min(FIRST)]);
    let mut arrival = Arrival { head, fds: Vec::new(), bytes: first, rest: 0..bytes.len().min(FIRST) };
    let _ = receive_rest(line, &mut arrival);
    let _ = settle(&description, Vec::new());
    let value = (1u64, String::from("a text"));
    let _ = value::pack(&value).map(|packed| value::rehearse::<(u64, String)>(&packed).is_ok());
    let _ = value::unpack::<u64>(&[0; 8]);
    let _ = catch_unwind(process::has_children);
    stdout::flush();
}

/// Takes the place in the system that the host has: where it is, what it is told, and where it reads and prints.
fn settle(description: &Description<Options>, fds: Vec<OwnedFd>) -> Result<(), (&'static str, Errno)> {
    let mut fds = fds.into_iter();
    let directory = fds.next().ok_or(("the working directory", Errno::EBADF))?;
    fchdir(&directory).map_err(|errno| ("the working directory", errno))?;
    for (number, is_open) in (0..).zip(description.streams) {
        let stream = is_open.then(|| fds.next()).flatten();
        if is_open && stream.is_none() {
            return Err(("the standard streams", Errno::EMFILE));
        }
        fd::put_at(stream.as_ref(), number).map_err(|errno| ("the standard streams", errno))?;
    }
    if let Some(entries) = &description.environment {
        environment::replace(entries);
    }
    Ok(())
}

fn mask_of(bits: u64) -> SigSet {
    let mut mask = SigSet::empty();
    Signal::iterator().filter(|signal| bits >> (*signal as i32 - 1) & 1 != 0).for_each(|signal| mask.add(signal));
    mask
}
