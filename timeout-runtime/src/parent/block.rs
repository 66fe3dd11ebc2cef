//! Drives one call by `poll`, on the caller's thread.
//!
//! It never reads to the end of the pipe and never takes the pipe's end for the child's: both may be held open, or
//! closed, by others. It never sleeps longer than the supervisor allows.

use std::{
    mem, thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, ppoll},
    sys::{signal::Signal, time::TimeSpec},
};

use super::{
    host::Host,
    kin,
    sample::{self, Prepared, Sample},
    supervise::{Action, Cause, Event, Outcome, Supervisor},
    tree,
    worker::{End, Worker},
};
use crate::{
    Cancel,
    report::Usage,
    sys::{
        fault::{self, Op},
        pidfd::Status,
        pipe,
        sampler::{self, Then},
        sched::{self, Alarm},
    },
    wire::{
        frame::{FrameReader, Progress, Remarks, STRAY},
        stage::Stage,
        value::Landing,
    },
};

/// How a call ended, with the child dead or dying and everything it started gone.
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    /// How far the child had come; `None` where that is not known.
    pub(crate) stage: Option<Stage>,
    pub(crate) usage: Option<Usage>,
    /// Where the child was when its time was over.
    pub(crate) sample: Option<Sample>,
    /// How many threads the host had besides ours when it forked.
    pub(crate) threads: usize,
}

/// How long a child may take to become ready before it is looked at.
const SETUP: Duration = Duration::from_millis(5);

/// How long a call whose child ended by itself waits for it, to tell what it used.
const PATIENCE: Duration = Duration::from_micros(300);

/// Waits for the end of a call and cleans up behind it. The value, if there is one, is in `landing`.
pub(crate) fn run(
    mut worker: Worker,
    mut supervisor: Supervisor,
    landing: &mut dyn Landing,
    cancel: Option<&Cancel>,
    host: &'static Host,
) -> Verdict {
    let mut vigil =
        Vigil { begin: Instant::now(), checks: 0, alarm: None, told: None, seen: None, look: Look::Due, host };
    let waiting = sampler::wait_for(worker.pid(), worker.foreign_code().zip(worker.origin().room.file()));
    let (outcome, has_descendants) = vigil.drive(&mut worker, &mut supervisor, landing, cancel);
    drop(waiting);
    let Vigil { alarm, told, seen, look, .. } = vigil;
    let sample = if let Look::Taken(sample) = look { Some(sample) } else { None };
    let threads = worker.origin().threads;
    drop(alarm);
    let stage = worker.stage();
    let usage = match outcome {
        Outcome::Value | Outcome::HookHeld => told,
        // Cut off in silence, or something else was sent in its name.
        _ => told.or(seen).or_else(|| worker.usage_so_far()),
    };
    // A child that said its last word itself waits for us only if it has descendants; any other is not to be trusted.
    match outcome {
        Outcome::Late | Outcome::Cancelled | Outcome::Lost(_) | Outcome::HookHeld => tree::kill(&mut worker),
        _ if has_descendants => tree::kill(&mut worker),
        _ => {
            worker.signal_group(Signal::SIGKILL);
        }
    }
    let end = match outcome {
        // It has said what it used, and is the fork server's.
        Outcome::Value if worker.foreign_code().is_some() => None,
        // Nobody asks what it used; or it is past time to return, and a large child takes long to die.
        Outcome::Value | Outcome::Late | Outcome::Cancelled => worker.reap(),
        _ => worker.wait_briefly(PATIENCE),
    };
    if let Some(corpse) = worker.into_corpse() {
        host.reaper.bury(corpse);
    }
    Verdict { outcome, stage, usage: end.and_then(|end| end.usage).or(usage), sample, threads }
}

/// The caller's thread while it waits.
struct Vigil {
    begin: Instant,
    /// Looks at a child without a descriptor so far.
    checks: u32,
    alarm: Option<Alarm>,
    /// What the child has said that it used.
    told: Option<Usage>,
    /// What it was seen to have used when the call ended.
    seen: Option<Usage>,
    look: Look,
    host: &'static Host,
}

/// A look at the child when its time is over.
enum Look {
    /// It is to be taken, if the time comes.
    Due,
    /// That is at hand.
    Ready(Prepared),
    Taken(Sample),
    /// The child is ended for another reason.
    Needless,
}

/// What is worth a look.
struct Ready {
    pipe: bool,
    death: bool,
    cancel: bool,
}

impl Vigil {
    /// Feeds the supervisor until it has decided; gives its decision and whether the child waits with descendants.
    fn drive(
        &mut self,
        worker: &mut Worker,
        supervisor: &mut Supervisor,
        landing: &mut dyn Landing,
        mut cancel: Option<&Cancel>,
    ) -> (Outcome, bool) {
        let mut reader = FrameReader::new(worker.token());
        let mut pipe_is_open = true;
        let mut ready = Ready { pipe: false, death: false, cancel: false };
        loop {
            // Whether the child is gone is asked before the pipe is read, so that what it sent last is not missed.
            let end = if ready.death { worker.end() } else { None };
            let mut event = None;
            if pipe_is_open && (ready.pipe || end.is_some()) {
                event = match reader.advance(worker.pipe(), landing) {
                    Ok(Progress::Message(message, remarks)) => Some(Event::Message(message, remarks)),
                    Ok(Progress::Part) => Some(Event::Clock),
                    Ok(Progress::Junk(why)) => Some(Event::Junk(why)),
                    Ok(Progress::Empty) => None,
                    Ok(Progress::Closed) => {
                        // Mostly because the child is gone: worth a look, but no proof.
                        pipe_is_open = false;
                        ready.death = true;
                        continue;
                    }
                    Err(errno) => Some(Event::Junk(format!("its result pipe could not be read: {errno}"))),
                };
            }
            if let (None, Some(End { status, .. })) = (&event, end) {
                event = Some(match status {
                    // A byte of junk may be the one that a frame begins with; our reading it has killed the child, by its
                    // lifeline.
                    Status::Signaled(libc::SIGKILL) if reader.is_within_a_header() => Event::Junk(STRAY.into()),
                    status => Event::Gone { status, cut: reader.is_within_a_frame() },
                });
            }
            if event.is_none() && ready.cancel {
                cancel = None;
                event = Some(Event::Cancelled);
            }
            if event.is_none() && self.finds_hook_held(worker) {
                event = Some(Event::HookHeld);
            }
            if let Some(Event::Message(_, Remarks { usage: Some(usage), .. })) = &event {
                self.told = Some(*usage);
            }
            let has_descendants = matches!(event, Some(Event::Message(_, Remarks { has_descendants: true, .. })));
            let more_to_read = matches!(event, Some(Event::Message(..) | Event::Clock));
            let now = Instant::now();
            // The host may have been stopped since it was told that nothing is there: what is there now wins.
            let was_looked_at = event.is_some() || ready.pipe || !pipe_is_open;
            if !was_looked_at && supervisor.is_due(now) && pipe::has_bytes(worker.pipe()) {
                ready.pipe = true;
                continue;
            }
            let until = match supervisor.on(event.unwrap_or(Event::Clock), now) {
                Action::End(outcome) => {
                    if outcome == Outcome::Late {
                        self.seen = self.look_at(worker, Then::Stops);
                    }
                    return (outcome, has_descendants);
                }
                Action::Wait { until } => until,
                Action::Terminate { cause, until } => {
                    match cause {
                        Cause::Late => drop(self.look_at(worker, Then::GoesOn)),
                        Cause::Cancelled => self.look = Look::Needless,
                    }
                    tree::terminate(worker);
                    until
                }
            };
            ready = match more_to_read {
                true => Ready { pipe: true, ..ready },
                false => self.wait(worker, pipe_is_open, cancel, until.map(|until| until.duration_since(now))),
            };
        }
    }

    /// Sees where the child is, once: when its time is over, and not when the grace is. Gives what it has used by now.
    fn look_at(&mut self, worker: &Worker, then: Then) -> Option<Usage> {
        let prepared = match mem::replace(&mut self.look, Look::Needless) {
            Look::Due => sample::prepare(worker),
            Look::Ready(prepared) => prepared,
            taken => {
                self.look = taken;
                return None;
            }
        };
        let alarm = self.alarm.get_or_insert_with(Alarm::set);
        let sample = sample::take(worker, prepared, alarm, then);
        let usage = sample.usage;
        self.look = Look::Taken(sample);
        usage
    }

    /// Whether the child waits for the panic hook's lock. A thread of the host that panicked at the fork held it, and the
    /// child's copy is held for ever; that thread itself may take long, as it looks up the symbols of a backtrace.
    fn finds_hook_held(&self, worker: &Worker) -> bool {
        worker.stage() == Some(Stage::Hook) && self.begin.elapsed() >= SETUP && kin::is_asleep(worker.pid())
    }

    /// Sleeps until something is worth a look, or for `left`.
    fn wait(&mut self, worker: &Worker, pipe_is_open: bool, cancel: Option<&Cancel>, left: Option<Duration>) -> Ready {
        // Made before the child was; a bell that cannot be had is none.
        let bell = cancel.and_then(|cancel| cancel.bell().ok());
        let fds = [pipe_is_open.then(|| worker.pipe()), worker.pidfd(), bell];
        let mut timeout = left.map(|left| self.step(worker, left));
        if worker.stage().is_some_and(|stage| stage <= Stage::Hook) {
            timeout = Some(timeout.map_or(SETUP, |timeout| timeout.min(SETUP)));
        }
        if worker.pidfd().is_none() {
            // Nobody wakes us when the child dies; a closed pipe mostly does, and these looks do in any case.
            let interval = Duration::from_micros(200 << self.checks.min(6)).min(Duration::from_millis(10));
            self.checks += 1;
            timeout = Some(timeout.map_or(interval, |timeout| timeout.min(interval)));
        }
        // Only what is there: poll tells of a closed pipe whatever it is asked. And no heap, of which a page that is written to
        // after a fork is copied.
        let mut polled = fds.map(|_| PollFd::new(worker.pipe(), PollFlags::empty()));
        let places = fds.iter().flatten().zip(&mut polled);
        let count = places.map(|(fd, place)| *place = PollFd::new(*fd, PollFlags::POLLIN)).count();
        let polled = &mut polled[..count];
        let mut poll = || fault::check(Op::Poll).and_then(|()| ppoll(polled, timeout.map(TimeSpec::from), None));
        let result = match &self.alarm {
            Some(alarm) if timeout != Some(Duration::ZERO) => alarm.during(poll),
            _ => poll(),
        };
        match result {
            Ok(_) => {
                let mut told = polled.iter().map(|polled| polled.any().unwrap_or(true));
                let [pipe, death, cancel] = fds.map(|fd| fd.is_some() && told.next().unwrap_or(true));
                Ready { pipe, death: death || worker.pidfd().is_none(), cancel }
            }
            Err(Errno::EINTR) => Ready { pipe: false, death: false, cancel: false },
            Err(_) => {
                // Out of memory, or forbidden: looking now and then is worse, but it ends.
                thread::sleep(Duration::from_millis(1));
                // A read of an empty pipe would kill the child: it signals whoever has the writing end armed.
                let pipe = pipe_is_open && pipe::has_bytes(worker.pipe());
                Ready { pipe, death: true, cancel: cancel.is_some_and(Cancel::is_cancelled) }
            }
        }
    }

    /// How long to sleep at once. The kernel may prolong a sleep by a thousandth (`select_estimate_accuracy`), so a
    /// long one stops short of its end, and the rest is slept with a slice that a spinning child cannot hold up.
    ///
    /// Before the look at a late child it wakes a moment early: what the look needs is made ready, which takes some 0.1 ms,
    /// and being woken takes as much again, or twice that in a virtual machine. Then it stays awake, unless others wait for
    /// the core.
    fn step(&mut self, worker: &Worker, left: Duration) -> Duration {
        const LAST_STEP: Duration = Duration::from_millis(5);
        const AWAKE: Duration = Duration::from_micros(750);
        if left > LAST_STEP {
            return left.mul_f64(0.996).min(left.saturating_sub(LAST_STEP / 2));
        }
        if self.begin.elapsed() < LAST_STEP {
            return left;
        }
        if self.alarm.is_none() {
            // A child that computes may well do so on this very core, as its caller has slept. One that sleeps is sooner
            // woken from here if it stays.
            match kin::is_asleep(worker.pid()) {
                false => sched::keep_off_this_core(worker.pid()),
                // Nobody in there can be changing what it has mapped.
                true if worker.foreign_code().is_none() && kin::threads_of(worker.pid()) == Some(1) => {
                    self.host.places().map_in(worker.pid());
                }
                true => {}
            }
            self.alarm = Some(Alarm::set());
        }
        match self.look {
            Look::Due | Look::Ready(_) if left > AWAKE => left - AWAKE,
            Look::Due => {
                self.look = Look::Ready(sample::prepare(worker));
                // The fork server buries its own.
                if worker.foreign_code().is_none() {
                    self.host.reaper.call_attendant();
                }
                Duration::ZERO
            }
            Look::Ready(_) if sched::crowd() == 1 => Duration::ZERO,
            Look::Ready(_) | Look::Taken(_) | Look::Needless => left,
        }
    }
}
