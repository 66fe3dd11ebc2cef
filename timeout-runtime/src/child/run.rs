//! From the fork to `_exit`, in one line.
//!
//! The child starts with all signals blocked, as a copy of one thread of the host. What it must be before the body may
//! run is told here in order; each step says what would go wrong without it. It does not return, does not unwind into
//! the copied caller, and runs neither the caller's destructors nor its exit handlers.

use std::{
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

use nix::{
    errno::Errno,
    sys::signal::{SigSet, Signal},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::{
    hooks, limits,
    outbox::{self, Outbox},
    panic,
};
use crate::{
    resources::Bounds,
    sys::{crash, epoll, exit, lifeline, process, sampler, sheet::Sheet, signal, terminate},
    wire::{
        codec,
        frame::Token,
        message::{Kind, SetupReport},
        stage::{Stage, StageCell},
    },
};

/// What a child has from its host.
pub(crate) struct Legacy<'a> {
    /// The process that forked it.
    pub(crate) host: Pid,
    /// Whether it has a terminal, or may have one.
    pub(crate) has_terminal: bool,
    /// The signals that the calling thread had blocked.
    pub(crate) mask: &'a SigSet,
    pub(crate) pipe: OwnedFd,
    pub(crate) token: Token,
    pub(crate) stage: Option<StageCell>,
    /// Where to tell the host where this process is, when it asks.
    pub(crate) sheets: &'static [Sheet],
    pub(crate) stdout_is_free: bool,
    pub(crate) options: &'a Options,
}

/// What a child does only in some calls.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    /// The host will ask before it kills.
    pub(crate) has_grace: bool,
    /// Panics are seen by a hook. Without it they are printed by the host's, and their place is not known.
    pub(crate) watch_panics: bool,
    /// The caller asks what a body used that returned.
    pub(crate) is_measured: bool,
    pub(crate) bounds: Bounds,
}

/// Becomes the process that `job` expects, and does it.
///
/// The steps are inlined: each page of code that a new process comes to costs it as much as ten system calls.
#[inline(always)]
pub(crate) fn run(legacy: Legacy<'_>, job: &mut dyn FnMut(&Outbox)) -> ! {
    let Legacy { host, has_terminal, mask, pipe, token, stage, sheets, stdout_is_free, options } = legacy;
    let Options { has_grace, watch_panics, is_measured, bounds } = options;
    let outbox = Outbox::open(pipe, token, stage, stdout_is_free);
    outbox.measure(*is_measured);
    // 1. Handlers of the host would run in this process, and write into self-pipes that the host reads.
    signal::reset_handlers();
    // 2. A group of its own: one kill reaches all who stay in it. Where there is a terminal, a session, too: Ctrl-C is the
    // host's alone, and reading from there must not stop the body. Without one a session would only cost.
    let (step, result) = match has_terminal {
        true => ("setsid", process::new_session()),
        false => ("setpgid", process::new_group()),
    };
    if let Err(errno) = result {
        not_started(outbox, step, errno);
    }
    // 3. Tied to the host's life; a host that died before that needs nothing of us.
    if !lifeline::arm(outbox.pipe().as_fd(), outbox.owner(), host) {
        process::exit_now(0);
    }
    // 4. Orphans come to this process, where the caller finds them; refused, the group kill remains.
    let _ = process::adopt_orphans();
    // 5. A core dump would delay the news of a crash.
    process::no_core_dump();
    // 6. A socket dropped in here must not be deaf out there.
    epoll::make_private(outbox.pipe().as_fd());
    // 7. Asked to end, it must not leave its descendants where they are not found.
    if *has_grace {
        terminate::last();
    }
    // 8. Whatever the end, it is told, and where it was.
    sampler::answer_into(sheets, None);
    crash::report(outbox::on_crash);
    exit::instead_of_exit_handlers(outbox::on_exit);
    // A thread that is panicking may not touch the hook: a call from a destructor does without.
    if *watch_panics && !std::thread::panicking() {
        outbox.enter(Stage::Hook);
        panic::watch();
    }
    begin(outbox, bounds, mask, job)
}

/// The end of the line, for a child that is ready: binds it, does the job and tells what became of it.
#[inline]
pub(super) fn begin(outbox: &Outbox, bounds: &Bounds, mask: &SigSet, job: &mut dyn FnMut(&Outbox)) -> ! {
    // 9. What follows is the user's code, and bound.
    if let Err((step, errno)) = limits::set(bounds) {
        not_started(outbox, step, errno);
    }
    // 10. The body runs with the signals that its caller had, but it must not be deaf to the one that ends its CPU time.
    if bounds.has_cpu() {
        let mut mask = *mask;
        mask.remove(Signal::SIGXCPU);
        signal::set_mask(&mask);
    } else {
        signal::set_mask(mask);
    }
    // 11. What must not be used as it was copied is made anew.
    outbox.enter(Stage::Hooks);
    if let Err(payload) = catch_unwind(hooks::run_all) {
        let step = format!("a hook of `on_child` {}", panic::report(&*payload).told());
        // No kernel has refused anything.
        not_started(outbox, &step, Errno::UnknownErrno);
    }
    let payload = match catch_unwind(AssertUnwindSafe(|| job(outbox))) {
        Ok(()) => process::exit_now(0),
        Err(payload) => payload,
    };
    outbox.end_with_panic(&panic::report(&*payload))
}

#[cold]
pub(super) fn not_started(outbox: &Outbox, step: &str, errno: Errno) -> ! {
    let report = SetupReport { step: step.into(), errno: errno as i32 };
    outbox.end_with(Kind::NotStarted, &codec::encode(&report).unwrap_or_default())
}
