//! Every rule of what ends a call and when, without a clock, a descriptor or a process in sight.
//!
//! Events go in, actions come out. The driver reads the clock and the pipe; this decides. Order of truth: a whole value
//! that arrived before the kill wins; then what the child said of itself; then how it ended; then the clock.

use std::time::{Duration, Instant};

use nix::libc;

use crate::{
    deadline::Deadline,
    sys::{crash::Crash, pidfd::Status},
    wire::{
        frame::Remarks,
        message::{Message, PanicReport, SetupReport},
    },
};

/// Decides over one call.
#[derive(Debug)]
pub(crate) struct Supervisor {
    phase: Phase,
    grace: Duration,
    /// What the child said when signals struck it; true only if it then dies of one.
    crashes: Vec<Crash>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The body has its time.
    Running { deadline: Deadline },
    /// It was asked to end, for this reason, and will be killed at `until`.
    Terminating { cause: Cause, until: Deadline },
}

/// Why a child is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Late,
    Cancelled,
}

/// Something the driver noticed.
#[derive(Debug)]
pub(crate) enum Event {
    /// A whole frame arrived.
    Message(Message, Remarks),
    /// What arrived is not a frame.
    Junk(String),
    /// The child is gone, and everything it had sent has been read. `cut` says that a frame was left half sent.
    Gone { status: Status, cut: bool },
    /// The child waits for the panic hook's lock, which nobody in it will ever release.
    HookHeld,
    /// Somebody cancelled the call.
    Cancelled,
    /// Time went by.
    Clock,
}

/// What the driver has to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Wait for the next event, and no longer than until this moment.
    Wait { until: Option<Instant> },
    /// Ask the tree to end, for this reason, then wait.
    Terminate { cause: Cause, until: Option<Instant> },
    /// The call is over; the child, if it is not gone, is to be killed.
    End(Outcome),
}

/// How a call ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    Value,
    Late,
    Cancelled,
    Panicked(PanicReport),
    Crashed(Crash),
    Exited(i32),
    NotStarted(SetupReport),
    Lost(String),
    /// The body has not begun: another child may do without the hook.
    HookHeld,
}

/// Decoding that took the child less than this is not held against the limit.
const NEGLIGIBLE: Duration = Duration::from_millis(1);

/// Of a child that tells of more signals than that, which only a corrupted one does, the first are forgotten.
const MOST_CRASHES: usize = 64;

impl Supervisor {
    pub(crate) fn new(deadline: Deadline, grace: Duration) -> Supervisor {
        Supervisor { phase: Phase::Running { deadline }, grace, crashes: Vec::new() }
    }

    /// Takes an event in.
    pub(crate) fn on(&mut self, event: Event, now: Instant) -> Action {
        match event {
            Event::Message(Message::Value, remarks) => Action::End(self.value(remarks.decoding, now)),
            // It stays for its descendants instead of dying of the signal.
            Event::Message(Message::Crashed(crash), Remarks { has_descendants: true, .. }) => {
                self.end_with(Outcome::Crashed(crash))
            }
            Event::Message(Message::Crashed(crash), _) => {
                if self.crashes.len() == MOST_CRASHES {
                    self.crashes.remove(0);
                }
                self.crashes.push(crash);
                self.on(Event::Clock, now)
            }
            Event::Message(message, _) => self.end_with(report(message)),
            Event::Junk(why) => self.end_with(Outcome::Lost(why)),
            Event::Gone { status, cut } => {
                let outcome = self.gone(status, cut);
                self.end_with(outcome)
            }
            Event::HookHeld => self.end_with(Outcome::HookHeld),
            Event::Cancelled => match self.phase {
                Phase::Running { .. } => self.stop(Cause::Cancelled, now),
                Phase::Terminating { .. } => self.wait(),
            },
            Event::Clock => match self.phase {
                Phase::Running { deadline } if deadline.is_over(now) => self.stop(Cause::Late, now),
                Phase::Terminating { cause, until } if until.is_over(now) => Action::End(cause.into()),
                _ => self.wait(),
            },
        }
    }

    /// Whether the clock alone would end something now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.last_moment().is_over(now)
    }

    /// The last moment a value can be of use.
    fn last_moment(&self) -> Deadline {
        match self.phase {
            Phase::Running { deadline } => deadline,
            Phase::Terminating { until, .. } => until,
        }
    }

    /// A value counts if the caller can also decode it in time.
    fn value(&self, decoding: Duration, now: Instant) -> Outcome {
        let in_time = match self.last_moment().instant() {
            None => true,
            Some(last) => now.checked_add(decoding).is_some_and(|ready| ready < last),
        };
        match self.phase {
            _ if in_time || decoding < NEGLIGIBLE => Outcome::Value,
            Phase::Running { .. } => Outcome::Late,
            Phase::Terminating { cause, .. } => cause.into(),
        }
    }

    /// Ends the call with `outcome`, unless the child was asked to end: then that is the reason, whatever it did of it.
    fn end_with(&self, outcome: Outcome) -> Action {
        Action::End(match self.phase {
            Phase::Running { .. } => outcome,
            Phase::Terminating { cause, .. } => cause.into(),
        })
    }

    fn gone(&self, status: Status, cut: bool) -> Outcome {
        match status {
            Status::Signaled(signal) => Outcome::Crashed(self.crash_by(signal)),
            Status::Exited(_) if cut => Outcome::Lost("the child ended in the middle of sending it".into()),
            Status::Exited(code) => Outcome::Exited(code),
            Status::Orphaned => Outcome::Lost("the fork server was killed, and the child with it".into()),
            Status::Unknown => match self.crashes.last() {
                Some(crash) => Outcome::Crashed(crash.clone()),
                None => {
                    Outcome::Lost("the child is gone, and the host let its exit status be taken or thrown away".into())
                }
            },
        }
    }

    /// What is known of the signal that ended the child.
    fn crash_by(&self, signal: i32) -> Crash {
        let mut known = self.crashes.iter().rev();
        // std answers a stack overflow, which it tells from other faults, by aborting.
        let overflow = known.clone().find(|crash| crash.stack_overflow && signal == libc::SIGABRT);
        match overflow.or_else(|| known.find(|crash| crash.signal == signal)) {
            Some(crash) => Crash { signal, ..crash.clone() },
            None => Crash { signal, ..Crash::default() },
        }
    }

    fn stop(&mut self, cause: Cause, now: Instant) -> Action {
        if self.grace.is_zero() {
            return Action::End(cause.into());
        }
        let until = Deadline::after(now, self.grace);
        self.phase = Phase::Terminating { cause, until };
        Action::Terminate { cause, until: until.instant() }
    }

    fn wait(&self) -> Action {
        Action::Wait { until: self.last_moment().instant() }
    }
}

impl Outcome {
    /// Gives the calls that it tells of other addresses, and leaves out those that have none.
    pub(crate) fn translate(&mut self, translate: impl Fn(u64) -> Option<u64>) {
        let frames = match self {
            Outcome::Panicked(report) => &mut report.frames,
            Outcome::Crashed(crash) => &mut crash.frames,
            _ => return,
        };
        *frames = frames.iter().copied().filter_map(translate).collect();
    }
}

impl From<Cause> for Outcome {
    fn from(cause: Cause) -> Outcome {
        match cause {
            Cause::Late => Outcome::Late,
            Cause::Cancelled => Outcome::Cancelled,
        }
    }
}

fn report(message: Message) -> Outcome {
    match message {
        Message::Value => Outcome::Value,
        Message::Panicked(report) => Outcome::Panicked(report),
        Message::Crashed(crash) => Outcome::Crashed(crash),
        Message::Exited(code) => Outcome::Exited(code),
        Message::Lost(why) => Outcome::Lost(why),
        Message::NotStarted(report) => Outcome::NotStarted(report),
    }
}

#[cfg(test)]
mod tests;
