//! The child's end of the pipe, and the last word it may send there.
//!
//! It is kept in a static for the handlers that run when the body crashes or exits. Whatever the body forks inherits
//! it; such a process is told apart by its number and never speaks in the child's name.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::unistd::Pid;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    sys::{
        crash::{Crash, Word},
        in_place::InPlace,
        lifeline, process, stdout,
        unwind::Frames,
    },
    wire::{
        codec,
        frame::{self, Remarks, Token},
        message::{CrashPayload, Kind, PanicReport},
        stage::{Stage, StageCell},
        value,
    },
};

/// The way from a child to its caller.
pub(crate) struct Outbox {
    owner: Pid,
    pipe: OwnedFd,
    token: Token,
    stage: Option<StageCell>,
    /// Whether no other thread of the host held stdout's lock at the fork.
    stdout_is_free: bool,
    /// Whether the caller asks what a body used that returned.
    is_measured: AtomicBool,
}

static OUTBOX: InPlace<Outbox> = InPlace::new();

impl Outbox {
    /// Makes the outbox of this process, once.
    #[inline]
    pub(crate) fn open(pipe: OwnedFd, token: Token, stage: Option<StageCell>, stdout_is_free: bool) -> &'static Outbox {
        let is_measured = AtomicBool::new(false);
        OUTBOX.set(Outbox { owner: process::id(), pipe, token, stage, stdout_is_free, is_measured })
    }

    /// Has what the body used told with its value, if it `is_measured`.
    #[inline]
    pub(crate) fn measure(&self, is_measured: bool) {
        self.is_measured.store(is_measured, Ordering::Relaxed);
    }

    /// The outbox of this process, if it is a child.
    pub(crate) fn current() -> Option<&'static Outbox> {
        OUTBOX.get().filter(|outbox| outbox.owner == process::id())
    }

    #[inline]
    pub(crate) fn pipe(&self) -> &OwnedFd {
        &self.pipe
    }

    pub(crate) fn owner(&self) -> Pid {
        self.owner
    }

    #[inline]
    pub(crate) fn enter(&self, stage: Stage) {
        if let Some(cell) = &self.stage {
            cell.set(stage);
        }
    }

    /// Sends the value that the body returned, or why it cannot be sent, and ends the process.
    ///
    /// `T` is what the caller will decode: the same type, or the owned form of what is only borrowed here.
    pub(crate) fn deliver<T: DeserializeOwned, V: Serialize>(&self, value: &V) -> ! {
        self.enter(Stage::Encoding);
        let packed = match value::pack(value) {
            Ok(packed) => packed,
            Err(why) => self.end_with(Kind::Lost, why.as_bytes()),
        };
        self.enter(Stage::Decoding);
        let decoding = match value::rehearse::<T>(&packed) {
            Ok(decoding) => decoding,
            Err(why) => self.end_with(Kind::Lost, why.as_bytes()),
        };
        self.enter(Stage::Sending);
        self.last_word(Kind::Value, decoding, packed.bytes())
    }

    /// Sends a report and ends the process.
    pub(crate) fn end_with(&self, kind: Kind, report: &[u8]) -> ! {
        self.last_word(kind, Duration::ZERO, report)
    }

    /// Sends what a panic left behind and ends the process. In an impl of serde's traits it is the value that is lost, or
    /// the arguments.
    pub(crate) fn end_with_panic(&self, report: &PanicReport) -> ! {
        let in_trait = match self.stage.as_ref().map(StageCell::get) {
            Some(Stage::Arguments) => {
                let why = format!("its arguments could not be decoded: their `Deserialize` {}", report.told());
                self.end_with(Kind::Lost, why.as_bytes())
            }
            Some(Stage::Encoding) => "Serialize",
            Some(Stage::Decoding) => "Deserialize",
            _ => self.end_with(Kind::Panicked, &codec::encode(report).unwrap_or_default()),
        };
        self.end_with(Kind::Lost, format!("its `{in_trait}` {}", report.told()).as_bytes())
    }

    #[inline]
    fn last_word(&self, kind: Kind, decoding: Duration, payload: &[u8]) -> ! {
        if process::id() != self.owner {
            // The body forked, and both processes came back from it.
            process::exit_now(0);
        }
        if self.stdout_is_free {
            stdout::flush();
        }
        // With children left, the process must stay: stopped, it is what keeps them findable.
        let has_descendants = process::has_children();
        // What the host has open must not stay open while a large memory is torn down.
        process::close_all_but(self.pipe.as_raw_fd());
        let usage =
            if kind != Kind::Value || self.is_measured.load(Ordering::Relaxed) { process::usage() } else { None };
        if self.send(kind, Remarks { has_descendants, decoding, usage }, payload).is_err() && kind != Kind::NotStarted {
            self.enter(Stage::Unsent);
        }
        if has_descendants {
            lifeline::wait_to_be_killed(self.pipe.as_fd());
        }
        process::exit_now(0)
    }

    /// Async-signal-safe for short payloads.
    #[inline]
    fn send(&self, kind: Kind, remarks: Remarks, payload: &[u8]) -> nix::Result<()> {
        lifeline::disarm(self.pipe.as_fd());
        frame::send(self.pipe.as_fd(), self.token, kind, remarks, payload)
    }
}

/// Whether this process runs a body, or was forked by one.
#[cfg(feature = "tracing")]
pub(crate) fn is_in_a_child() -> bool {
    OUTBOX.get().is_some()
}

/// Runs instead of the host's exit handlers when the body calls `exit`.
pub(crate) fn on_exit(code: i32) {
    if let Some(outbox) = OUTBOX.get().filter(|outbox| outbox.owner == process::id()) {
        outbox.end_with(Kind::Exited, &code.to_le_bytes());
    }
}

/// Runs when a signal that means a crash arrives. Async-signal-safe.
pub(crate) fn on_crash(crash: &Crash, frames: &Frames, word: Word) {
    if let Some(outbox) = OUTBOX.get().filter(|outbox| outbox.owner == process::id()) {
        // A panic that cannot unwind ends in SIGABRT, on the thread that panicked.
        let has_descendants = process::has_children();
        let remarks = Remarks { has_descendants, usage: process::usage(), ..Remarks::default() };
        if crash.signal == nix::libc::SIGABRT && std::thread::panicking() {
            super::panic::with_last(|report| {
                let _ = outbox.send(Kind::Panicked, remarks, report);
            });
        }
        // A message of a child that stays for its descendants ends the call: only the last word may say so.
        let has_descendants = has_descendants && word == Word::Last;
        let remarks = Remarks { has_descendants, ..remarks };
        let _ = outbox.send(Kind::Crashed, remarks, CrashPayload::new(crash, frames).as_slice());
        if has_descendants {
            lifeline::wait_to_be_killed(outbox.pipe.as_fd());
        }
    }
}
