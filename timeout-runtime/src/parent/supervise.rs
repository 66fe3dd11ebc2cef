//! Every rule of what ends a call and when, without a clock, a descriptor or a process in sight.
//!
//! Events go in, actions come out. The driver reads the clock and the pipe; this decides. Order of truth: a whole value
//! that arrived before the kill wins; then what the child said of itself; then how it ended; then the clock.

use std::time::{Duration, Instant};

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
    /// What the child said when a signal struck it; true only if it then dies of it.
    crash: Option<Crash>,
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
enum Cause {
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
    /// Ask the tree to end, then wait.
    Terminate { until: Option<Instant> },
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
}

/// Decoding that took the child less than this is not held against the limit.
const NEGLIGIBLE: Duration = Duration::from_millis(1);

impl Supervisor {
    pub(crate) fn new(deadline: Deadline, grace: Duration) -> Supervisor {
        Supervisor { phase: Phase::Running { deadline }, grace, crash: None }
    }

    /// Takes an event in.
    pub(crate) fn on(&mut self, event: Event, now: Instant) -> Action {
        match event {
            Event::Message(Message::Value, remarks) => Action::End(self.value(remarks.decoding, now)),
            Event::Message(Message::Crashed(crash), _) => {
                self.crash = Some(crash);
                self.wait()
            }
            Event::Message(message, _) => self.end_with(report(message)),
            Event::Junk(why) => self.end_with(Outcome::Lost(why)),
            Event::Gone { status, cut } => {
                let outcome = self.gone(status, cut);
                self.end_with(outcome)
            }
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

    /// The last moment a value can be of use.
    fn last_moment(&self) -> Deadline {
        match self.phase {
            Phase::Running { deadline } => deadline,
            Phase::Terminating { until, .. } => until,
        }
    }

    /// A value counts if the caller can also decode it in time.
    fn value(&self, decoding: Duration, now: Instant) -> Outcome {
        let in_time = now.checked_add(decoding).is_none_or(|ready| !self.last_moment().is_over(ready));
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
        match (status, self.crash) {
            (Status::Signaled(signal), Some(crash)) if crash.signal == signal || crash.stack_overflow => {
                Outcome::Crashed(Crash { signal, ..crash })
            }
            (Status::Signaled(signal), _) => Outcome::Crashed(Crash { signal, address: None, stack_overflow: false }),
            (Status::Exited(_), _) if cut => Outcome::Lost("the child ended in the middle of sending it".into()),
            (Status::Exited(code), _) => Outcome::Exited(code),
            (Status::Unknown, Some(crash)) => Outcome::Crashed(crash),
            (Status::Unknown, None) => {
                Outcome::Lost("the child is gone, and the host let its exit status be taken or thrown away".into())
            }
        }
    }

    fn stop(&mut self, cause: Cause, now: Instant) -> Action {
        if self.grace.is_zero() {
            return Action::End(cause.into());
        }
        let until = Deadline::after(now, self.grace);
        self.phase = Phase::Terminating { cause, until };
        Action::Terminate { until: until.instant() }
    }

    fn wait(&self) -> Action {
        Action::Wait { until: self.last_moment().instant() }
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
