//! Which thread of this process waits for which child: where a question goes that concerns the innermost body.
//!
//! A signal handler reads it, of its own thread alone. So nothing here is locked, and an entry is changed by none but the
//! thread that it is about.

#![expect(unsafe_code, reason = "a handler is given the sheet that its thread has mapped")]

use std::{
    os::fd::BorrowedFd,
    ptr,
    sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering},
};

use nix::unistd::{Pid, gettid};

use super::sheet::{Mapped, Sheet};

/// A thread of this process that waits for a child.
struct Wait {
    thread: AtomicI32,
    child: AtomicI32,
    /// Where a worker of the fork server answers; null for a child of this process.
    sheet: AtomicPtr<Sheet>,
    /// Where such a worker's code begins.
    code: AtomicU64,
}

/// Enough for the threads of a body that make calls at the same time; who finds no room is not looked into.
static WAITS: [Wait; 64] = [const { Wait::new() }; 64];

/// Whom a thread waits for.
pub(crate) enum Awaited<'a> {
    /// A child that this process has forked, and that has its sheets.
    Child(Pid),
    Served(Served<'a>),
}

/// A worker of this process's fork server.
pub(crate) struct Served<'a> {
    pub(crate) process: Pid,
    pub(crate) sheet: &'a Sheet,
    pub(crate) code: u64,
}

/// The entry of the calling thread, until dropped.
pub(crate) struct Waiting {
    wait: &'static Wait,
    /// Unmapped when the entry is free again.
    _sheet: Option<Mapped>,
}

impl Wait {
    const fn new() -> Wait {
        Wait {
            thread: AtomicI32::new(0),
            child: AtomicI32::new(0),
            sheet: AtomicPtr::new(ptr::null_mut()),
            code: AtomicU64::new(0),
        }
    }

    fn clear(&self) {
        self.child.store(0, Ordering::Relaxed);
        self.thread.store(0, Ordering::Release);
    }
}

impl Waiting {
    /// Notes that the calling thread waits for `child`; for a worker of the fork server, where its code begins and the file
    /// that it answers into. `None` where there is no room.
    pub(crate) fn new(child: Pid, served: Option<(u64, BorrowedFd<'_>)>) -> Option<Waiting> {
        let sheet = served.map(|(_, file)| Mapped::of(file)).transpose().ok()?;
        let thread = gettid().as_raw();
        let is_ours =
            |wait: &&Wait| wait.thread.compare_exchange(0, thread, Ordering::Acquire, Ordering::Relaxed).is_ok();
        let wait = WAITS.iter().find(is_ours)?;
        let address = sheet.as_ref().map_or(ptr::null_mut(), |mapped| ptr::from_ref(mapped.sheet()).cast_mut());
        wait.sheet.store(address, Ordering::Relaxed);
        wait.code.store(served.map_or(0, |(code, _)| code), Ordering::Relaxed);
        // Last: without a child the entry says nothing.
        wait.child.store(child.as_raw(), Ordering::Release);
        Some(Waiting { wait, _sheet: sheet })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.wait.clear();
    }
}

/// Whom the calling thread waits for. Async-signal-safe.
///
/// # Safety
/// To be called by a signal handler, and what it gives is not to be used when that has returned: the thread that it has
/// interrupted unmaps the sheet.
pub(crate) unsafe fn of_this_thread<'a>() -> Option<Awaited<'a>> {
    let thread = gettid().as_raw();
    let wait = WAITS.iter().find(|wait| wait.thread.load(Ordering::Acquire) == thread)?;
    let child = Some(wait.child.load(Ordering::Acquire)).filter(|child| *child != 0).map(Pid::from_raw)?;
    // SAFETY: it is null, or what this thread has mapped and unmaps after it has cleared the entry, which it cannot do while
    // its handler runs.
    Some(match unsafe { wait.sheet.load(Ordering::Relaxed).as_ref() } {
        None => Awaited::Child(child),
        Some(sheet) => Awaited::Served(Served { process: child, sheet, code: wait.code.load(Ordering::Relaxed) }),
    })
}

/// Forgets what was noted in the process that this one is a copy of.
pub(crate) fn forget() {
    WAITS.iter().for_each(Wait::clear);
}
