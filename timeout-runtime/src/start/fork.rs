//! The start method `fork`: the child is a copy of the caller, so every argument is already there.
//!
//! Everything is prepared before the fork. From the making of the pipe to the closing of its writing end the gate is
//! held, so that no sibling inherits that end; signals are blocked across the fork, so that none meant for the child
//! runs a handler of the host in it.

use std::{hash::BuildHasher, os::fd::AsRawFd, sync::atomic::Ordering, time::Instant};

use super::{Job, NoChild, in_time};
use crate::{
    child::{self, Legacy, Options},
    deadline::Deadline,
    parent::{
        host::Host,
        stdio::Stdio,
        worker::{Origin, Worker},
    },
    sys::{pipe, process, signal},
    wire::{frame::Token, trace::Room},
};

/// Forks a child that does `job`.
pub(crate) fn start(
    host: &'static Host,
    deadline: Deadline,
    options: Options,
    job: Job<'_>,
) -> Result<Worker, NoChild> {
    let passage = host.gate.enter(deadline.instant()).ok_or(NoChild::Late)?;
    in_time(deadline)?;
    let token = new_token(host);
    let stage = host.stages.take();
    let (read, write) = pipe::pipe().map_err(|errno| NoChild::failed("pipe", errno))?;
    let reading_end = read.as_raw_fd();
    let read = host.flights.enter(read);
    let threads = host.threads();
    let has_terminal = host.terminal.is_there(Instant::now());
    let stdio = host.streams.hold(threads, deadline);
    let mask = signal::block_all();
    // Each of these goes to the child in the child, and stays here in the parent.
    let mut ours = Some((write, stage));
    let forked = process::fork(|| {
        Host::forget();
        host.streams.release(stdio);
        let Some((pipe, stage)) = ours.take() else { process::exit_now(0) };
        // With the reading ends of others open, we and they would keep each other from seeing that the host is gone.
        for fd in host.flights.all().filter(|fd| *fd != reading_end) {
            process::close(fd);
        }
        process::close(reading_end);
        child::run(
            Legacy {
                host: host.pid,
                has_terminal,
                mask: &mask,
                pipe,
                token,
                stage,
                sheets: host.sheets.memory(),
                stdout_is_free: stdio != Stdio::Taken,
                options: &options,
            },
            job,
        )
    });
    signal::set_mask(&mask);
    host.streams.release(stdio);
    let stage = ours.take().and_then(|(_, stage)| stage);
    drop(passage);
    let pid = forked.map_err(|errno| NoChild::failed("fork", errno))?;
    Ok(Worker::new(pid, read, token, stage, Origin { threads, room: Room::Shared(&host.sheets) }))
}

/// A number that no other call of this program, and no chance, puts on a pipe.
pub(super) fn new_token(host: &Host) -> Token {
    let call = host.calls.fetch_add(1, Ordering::Relaxed);
    Token(host.tokens.hash_one((host.pid.as_raw(), call)))
}
