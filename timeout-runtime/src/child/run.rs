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
    sys::signal::SigSet,
    unistd::{Pid, getppid},
};

use super::{
    outbox::{self, Outbox},
    panic,
};
use crate::{
    sys::{crash, epoll, exit, pipe, process, signal},
    wire::{
        codec,
        frame::Token,
        message::{Kind, SetupReport},
        stage::StageCell,
    },
};

/// What a child has from its host.
pub(crate) struct Legacy {
    /// The process that forked it.
    pub(crate) host: Pid,
    /// The signals that the calling thread had blocked.
    pub(crate) mask: SigSet,
    pub(crate) pipe: OwnedFd,
    pub(crate) token: Token,
    pub(crate) stage: Option<StageCell>,
    pub(crate) stdout_is_free: bool,
}

/// Becomes the process that `job` expects, and does it.
pub(crate) fn run(legacy: Legacy, job: &mut dyn FnMut(&Outbox)) -> ! {
    let Legacy { host, mask, pipe, token, stage, stdout_is_free } = legacy;
    // 1. Handlers of the host would run in this process, and write into self-pipes that the host reads.
    signal::reset_handlers();
    let outbox = Outbox::open(pipe, token, stage, stdout_is_free);
    // 2. A session of its own: one kill reaches all who stay in it, and Ctrl-C is the host's alone.
    if let Err(errno) = process::new_session() {
        not_started(outbox, "setsid", errno);
    }
    // 3. Tied to the host's life. The first kills this process when the calling thread ends, which waits for us; the
    //    second kills the whole group when nobody is left who could read the pipe. Where a sandbox forbids one, the
    //    other holds. A host that died before that shows as another parent; 0 is one outside our pid namespace.
    let _ = process::die_with_parent();
    let _ = pipe::arm_lifeline(outbox.pipe().as_fd(), outbox.owner());
    if getppid() != host && getppid() != Pid::from_raw(0) {
        process::exit_now(0);
    }
    // 4. Orphans come to this process, where the caller finds them; refused, the group kill remains.
    let _ = process::adopt_orphans();
    // 5. A core dump would delay the news of a crash.
    process::no_core_dump();
    // 6. A socket dropped in here must not be deaf out there.
    epoll::make_private(outbox.pipe().as_fd());
    // 7. Whatever the end, it is told.
    crash::report(outbox::on_crash);
    exit::instead_of_exit_handlers(outbox::on_exit);
    panic::watch();
    // 8. The body runs with the signals that its caller had.
    signal::set_mask(&mask);
    let payload = match catch_unwind(AssertUnwindSafe(|| job(outbox))) {
        Ok(()) => process::exit_now(0),
        Err(payload) => payload,
    };
    outbox.end_with_panic(&panic::report(&*payload))
}

fn not_started(outbox: &Outbox, step: &str, errno: Errno) -> ! {
    let report = SetupReport { step: step.into(), errno: errno as i32 };
    outbox.end_with(Kind::NotStarted, &codec::encode(&report).unwrap_or_default())
}
