//! A worker of the fork server: ready before anybody calls, then from its order to `_exit` in one line.
//!
//! It is forked from a process of one thread that has run nothing of the program but its preloads. Everything that does
//! not depend on the call is done ahead. Then it sleeps until its order comes, or nobody is left who could send one.

use std::{
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

use nix::{
    errno::Errno,
    sys::signal::{SigSet, Signal},
    unistd::{Pid, fchdir, getpid},
};

use super::{
    Options,
    outbox::{self, Outbox},
    panic,
    run::{do_job, not_started},
};
use crate::{
    sys::{crash, environment, exit, fd, fdpass, image, lifeline, pipe::PlainVec, process, signal, terminate},
    wire::{
        message::Kind,
        order::{Description, HEAD, Head},
        stage::StageCell,
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
    // What comes first and why is told in `run`; here nothing is inherited from a host. A preload may have set handlers.
    signal::reset_handlers();
    if process::new_session().is_err() || !lifeline::arm(pipe.as_fd(), getpid(), server) {
        process::exit_now(0);
    }
    let _ = process::adopt_orphans();
    process::no_core_dump();
    crash::report(outbox::on_crash);
    exit::instead_of_exit_handlers(outbox::on_exit);
    panic::watch();
    // The news of its server's end is a signal.
    signal::set_mask(&SigSet::empty());
    let Ok(Some((head, fds))) = receive_head(&line) else { process::exit_now(0) };
    let outbox = Outbox::open(pipe, head.token, stage, true);
    let (description, arguments) = match receive_rest(&line, head) {
        Ok(order) => order,
        Err(why) => outbox.end_with(Kind::Lost, why.as_bytes()),
    };
    // The server keeps an end of its own; what the body starts must not have it.
    drop(line);
    if let Err((step, errno)) = settle(&description, fds) {
        not_started(outbox, step, errno);
    }
    if description.options.has_grace {
        terminate::last();
    }
    let Some(thunk) = image::thunk_at(description.thunk) else {
        outbox.end_with(Kind::Lost, b"the fork server does not know the function")
    };
    signal::set_mask(&mask_of(description.mask));
    let mut arguments = Some(arguments);
    do_job(outbox, &mut |_| thunk(arguments.take().unwrap_or_default()))
}

/// Waits for the first bytes; `None` if nobody will ever send any.
fn receive_head(line: &OwnedFd) -> nix::Result<Option<(Head, Vec<OwnedFd>)>> {
    let mut bytes = [0; HEAD];
    let (count, fds) = fdpass::receive(line.as_fd(), &mut bytes, true)?;
    // The sender puts the head into one message, which a stream may not cut that early.
    Ok((count == HEAD).then(|| Head::parse(&bytes)).flatten().map(|head| (head, fds)))
}

fn receive_rest(line: &OwnedFd, head: Head) -> Result<(Description<Options>, Vec<u8>), String> {
    let description = receive_bytes(line, head.description)?;
    let description = catch_unwind(AssertUnwindSafe(|| Description::parse(&description)))
        .unwrap_or_else(|_| Err("unreadable".into()))
        .map_err(|why| format!("the order of the call did not arrive: {why}"))?;
    Ok((description, receive_bytes(line, head.arguments)?))
}

/// Receives so many bytes, making room as they come.
fn receive_bytes(line: &OwnedFd, count: u64) -> Result<Vec<u8>, String> {
    let mut landing = PlainVec::<u8>::new();
    let mut left = count;
    while left > 0 {
        landing.make_room(left).map_err(|error| format!("there was no room for its arguments: {error}"))?;
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
