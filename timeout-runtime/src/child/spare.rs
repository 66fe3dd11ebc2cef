//! A worker of the fork server: ready before anybody calls, then from its order to `_exit` in one line.
//!
//! It is forked from a process of one thread that has run nothing of the program but its preloads. Everything that does
//! not depend on the call is done ahead. Then it sleeps until its order comes, or nobody is left who could send one.

use std::{
    hint::black_box,
    io, mem,
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

use nix::{
    errno::Errno,
    sys::signal::{SigSet, Signal, raise},
    unistd::{Pid, fchdir, getpid},
};

use super::{
    Options, hooks, limits,
    outbox::{self, Outbox},
    panic,
    run::{begin, not_started},
};
use crate::{
    inline,
    resources::Bounds,
    sys::{
        crash, environment, exit, fd, fdpass, image,
        inflow::Inflow,
        lifeline,
        pipe::PlainVec,
        process, sampler,
        sched::{self, Cores},
        sheet::Sheet,
        signal, stack, stdout, terminate, unwind,
    },
    wire::{
        frame::{self, Remarks, Token},
        message::Kind,
        order::{Description, HEAD, Head},
        parcel,
        stage::StageCell,
        value,
    },
};

/// What a worker has from its server.
pub(crate) struct Spare {
    pub(crate) server: Pid,
    /// Whose calls it will run, and who may ask where it is.
    pub(crate) host: Pid,
    /// Where it may run. Its host knows it from the moment that it exists, and may have called it to one core before it looks.
    pub(crate) cores: Cores,
    pub(crate) pipe: OwnedFd,
    /// Where its order will come from.
    pub(crate) line: OwnedFd,
    pub(crate) stage: Option<StageCell>,
    /// Where to tell the host where this process is: its own, which it shares with no other worker.
    pub(crate) sheets: &'static [Sheet],
}

/// Does once, in the server, what every worker inherits. Why each is needed is told in [`run`](super::run).
pub(crate) fn prepare_server() {
    // The host has not been asked to run bodies itself, whatever its environment says by the time of a call.
    inline::turn_off();
    process::no_core_dump();
    unwind::rehearse();
    crash::report(outbox::on_crash);
    exit::instead_of_exit_handlers(outbox::on_exit);
    panic::watch();
}

/// Becomes a worker, waits for its order and carries it out. All signals are blocked since before the fork.
pub(crate) fn run(spare: Spare) -> ! {
    let Spare { server, host, cores, pipe, line, stage, sheets } = spare;
    // What comes first and why is told in `run`; here nothing is inherited from a host, and the server has no handlers.
    // Its server is out of reach of the host's terminal, so that a group will do.
    let group = process::new_group();
    // Without one it is in its server's, which must not be killed; its line ends when nobody is left.
    if group.is_ok() && !lifeline::arm(pipe.as_fd(), getpid(), server) {
        // As those that were tied to it in time: a host that has taken this worker must not take this for the body's doing.
        let _ = raise(Signal::SIGKILL);
        process::exit_now(0);
    }
    let _ = process::adopt_orphans();
    sampler::answer_into(sheets, Some(host));
    // The news of its server's end is a signal.
    signal::set_mask(&SigSet::empty());
    rehearse(&line);
    if let Some(stage) = &stage {
        stage.touch();
    }
    sched::be_patient(false);
    let Some((head, fds, mut inflow)) = receive_head(line) else { process::exit_now(0) };
    // From here on, an allocation that fails is told.
    let outbox = Outbox::open(pipe, head.token, stage, true);
    if let Err(errno) = group {
        // Told to whoever has taken this worker: before, nobody listens.
        not_started(outbox, "setpgid", errno);
    }
    let description = match receive_description(&head, &mut inflow) {
        Ok(description) => description,
        Err(why) => outbox.end_with(Kind::Lost, why.as_bytes()),
    };
    outbox.measure(description.options.is_measured);
    if description.is_called {
        cores.take_back();
    }
    if let Err((step, errno)) = settle(&description, fds) {
        not_started(outbox, step, errno);
    }
    if description.options.has_grace {
        terminate::last();
    }
    let Some(thunk) = image::thunk_at(description.thunk) else {
        outbox.end_with(Kind::Lost, b"the fork server does not know the function")
    };
    let job = &mut |_: &Outbox| thunk(mem::take(&mut inflow));
    begin(outbox, &description.options.bounds, &mask_of(description.mask), job)
}

/// How much is received at once: a small order is all there then.
const FIRST: usize = 2048;

/// Waits for the first bytes; `None` if nobody will ever send any.
fn receive_head(line: OwnedFd) -> Option<(Head, Vec<OwnedFd>, Inflow)> {
    let mut bytes = vec![0; FIRST];
    let (count, fds) = fdpass::receive(line.as_fd(), &mut bytes, true).ok()?;
    bytes.truncate(count);
    // The sender puts the head into one message, which a stream does not cut that early.
    let head = Head::parse(bytes.first_chunk::<HEAD>()?)?;
    let left = head.description.saturating_add(head.arguments);
    // With all of it here, no more comes.
    let line = (left > (count - HEAD) as u64).then_some(line);
    Some((head, fds, Inflow::new(bytes, HEAD, line, left)))
}

fn receive_description(head: &Head, inflow: &mut Inflow) -> Result<Description<Options>, String> {
    let failed = |why: String| format!("the order of the call did not arrive: {why}");
    let mut bytes = PlainVec::<u8>::new();
    parcel::land(inflow, &mut bytes, head.description).map_err(failed)?;
    let bytes = bytes.finish().unwrap_or_default();
    let parse = AssertUnwindSafe(|| Description::parse(&bytes));
    catch_unwind(parse).unwrap_or_else(|_| Err("unreadable".into())).map_err(failed)
}

/// Does what every call does, with nothing: each page of code and data that a new process touches for the first time takes
/// some microseconds, and those are better spent before anybody waits.
fn rehearse(line: &OwnedFd) {
    stack::touch();
    let options = Options { has_grace: false, watch_panics: true, is_measured: false, bounds: Bounds::default() };
    let description =
        Description { thunk: 0, options, mask: 0, environment: None, is_called: false, streams: [true; 3] };
    let bytes = description.to_bytes().unwrap_or_default();
    // It may have come already: looked at, it stays.
    let _ = fdpass::peek(line.as_fd());
    let head = Head { token: Token(0), description: bytes.len() as u64, arguments: 16 };
    let bytes = [&bytes[..], &8u64.to_le_bytes(), &[0; 8]].concat();
    let left = bytes.len() as u64;
    let mut inflow = Inflow::new(bytes, 0, None, left);
    let _ = receive_description(&head, &mut inflow);
    let _ = parcel::take::<u64>(&mut inflow);
    let _ = settle(&description, Vec::new());
    let _ = image::thunk_at(0);
    let _ = limits::set(&description.options.bounds);
    // A kernel that gives no random numbers is told of by the call.
    let _ = catch_unwind(hooks::reseed_ahead);
    let value = (1u64, String::from("a text"));
    let _ = value::pack(&value).map(|packed| value::rehearse::<(u64, String)>(&packed).is_ok());
    let _ = catch_unwind(process::has_children);
    stdout::flush();
    // The comparison that the C library has for this processor.
    let _ = black_box(&b"one name"[..]) == black_box(&b"or other"[..]);
    // The standard output of the server is nobody's.
    let _ = frame::send(io::stdout().as_fd(), Token(0), Kind::Value, Remarks::default(), &[0; 8]);
}

/// Takes the place in the system that the host has: where it is, what it is told, and where it reads and prints.
fn settle(description: &Description<Options>, fds: Vec<OwnedFd>) -> Result<(), (&'static str, Errno)> {
    let mut received = fds.iter();
    let directory = received.next().ok_or(("the working directory", Errno::EBADF))?;
    fchdir(directory).map_err(|errno| ("the working directory", errno))?;
    for (number, is_open) in (0..).zip(description.streams) {
        let stream = is_open.then(|| received.next()).flatten();
        if is_open && stream.is_none() {
            return Err(("the standard streams", Errno::EMFILE));
        }
        fd::put_at(stream, number).map_err(|errno| ("the standard streams", errno))?;
    }
    fd::close_together(fds);
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
