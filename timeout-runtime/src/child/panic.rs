//! Panics in the child: seen by a hook, told to the caller, printed by nobody.
//!
//! The hook only keeps what it sees, per thread. A panic that unwinds out of the body is sent then; one that ends in an
//! abort (`panic = "abort"`, a panic while panicking) is sent by the handler of `SIGABRT`, which runs on the same
//! thread. A panic that the body catches is no failure and leaves no trace. Panics of other threads go to the host's hook,
//! and are kept for a body that passes one on.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    panic::{self, PanicHookInfo},
    sync::Mutex,
    thread,
};

use nix::unistd::{getpid, gettid};

use crate::{
    sys::{in_place::InPlace, unwind},
    wire::{codec, message::PanicReport},
};

/// The last panic of a thread, and its bytes for a handler that cannot make them.
struct Last {
    report: PanicReport,
    bytes: Vec<u8>,
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
    /// Which of the hooks that are not ours runs on this thread.
    static RUNNING: Cell<Option<&'static HostsHook>> = const { Cell::new(None) };
}

/// A report longer than this is cut: no reader wants more, and it must fit into the pipe.
const LONGEST_MESSAGE: usize = 32 << 10;

/// What std says when it gives up on a panic; the one before tells more.
const REMARKS: [&str; 2] = ["panic in a destructor during cleanup", "panic in a function that cannot unwind"];

static WATCH: InPlace<Watch> = InPlace::new();

/// What is known of the threads that are not the body's.
struct Watch {
    /// What the host does with their panics.
    host: HostsHook,
    /// Their last panics, of which the body may pass on any: it need not join them in the order in which they panicked. Only
    /// ever tried: a copy of a process may have the lock held for good.
    elsewhere: Mutex<VecDeque<PanicReport>>,
}

/// How many of them are kept.
const KEPT: usize = 16;

type Hook = dyn Fn(&PanicHookInfo<'_>) + Send + Sync;

/// The hook of a host. One that is a child itself has ours there, which stands for that of its own host.
#[derive(Clone, Copy)]
struct HostsHook {
    hook: &'static Hook,
    outer: Option<&'static HostsHook>,
}

/// Has every panic of this process noted. For a child, once.
#[inline]
pub(crate) fn watch() {
    let outer = WATCH.get().map(|watch| &*Box::leak(Box::new(watch.host)));
    let host = HostsHook { hook: Box::leak(panic::take_hook()), outer };
    WATCH.set(Watch { host, elsewhere: Mutex::new(VecDeque::new()) });
    // With nothing in it, the box is no allocation.
    panic::set_hook(Box::new(|info| {
        // The body runs on the thread that was forked, whose number is the child's.
        let on_body = gettid() == getpid();
        let running = RUNNING.get();
        let next = match running {
            None => {
                note(info, on_body);
                WATCH.get().map(|watch| &watch.host)
            }
            // Called by a host's hook, this is the hook of that host.
            Some(running) => running.outer,
        };
        if let (false, Some(next)) = (on_body, next) {
            RUNNING.set(Some(next));
            (next.hook)(info);
            RUNNING.set(running);
        }
    }));
}

/// Keeps a panic of this thread.
fn note(info: &PanicHookInfo<'_>, on_body: bool) {
    let report = PanicReport {
        message: text(info.payload()),
        place: info.location().map(|place| (place.file().to_owned(), place.line(), place.column())),
        thread: thread::current().name().map(str::to_owned),
        on_body,
        frames: unwind::here().as_slice().to_vec(),
    };
    if REMARKS.contains(&report.message.as_str()) {
        return;
    }
    let bytes = codec::encode(&report).unwrap_or_default();
    if !on_body {
        keep(report.clone());
    }
    // A thread that ends may have it no more.
    let _ = LAST.try_with(|last| last.replace(Some(Last { report, bytes })));
}

/// Keeps the panic of another thread.
fn keep(report: PanicReport) {
    if let Some(Ok(mut reports)) = WATCH.get().map(|watch| watch.elsewhere.try_lock()) {
        reports.truncate(KEPT - 1);
        reports.push_front(report);
    }
}

/// The report of a panic that was caught with `payload`.
pub(crate) fn report(payload: &(dyn Any + Send)) -> PanicReport {
    let message = text(payload);
    let seen = LAST.take().map(|last| last.report).filter(|report| report.message == message);
    let passed_on = || {
        let reports = WATCH.get()?.elsewhere.try_lock().ok()?;
        reports.iter().find(|report| report.message == message).cloned()
    };
    // The body may have replaced the hook, or thrown a payload of its own: then the place is not known.
    seen.or_else(passed_on).unwrap_or_else(|| PanicReport { message, ..PanicReport::default() })
}

/// Calls `use_bytes` with the bytes of this thread's last panic, if there was one. Async-signal-safe.
pub(crate) fn with_last(use_bytes: impl FnOnce(&[u8])) {
    let _ = LAST.try_with(|last| {
        if let Ok(Some(last)) = last.try_borrow().as_deref() {
            use_bytes(&last.bytes);
        }
    });
}

/// The message of a panic.
pub(crate) fn text(payload: &(dyn Any + Send)) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "a payload that is no text",
    };
    match text.floor_char_boundary(LONGEST_MESSAGE) {
        end if end < text.len() => format!("{}… ({} bytes in all)", &text[..end], text.len()),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        // In one of these the limit falls into the middle of a character.
        for shift in ["", "x"] {
            let long = format!("{shift}{}", "ž".repeat(LONGEST_MESSAGE));
            let cut = text(&long);
            let (kept, remark) = cut.split_once('…').unwrap();
            assert!(long.starts_with(kept) && kept.len() <= LONGEST_MESSAGE && kept.len() + 1 >= LONGEST_MESSAGE);
            assert_eq!(remark, format!(" ({} bytes in all)", long.len()));
        }
        let whole = "ž".repeat(LONGEST_MESSAGE / 2);
        assert_eq!(text(&whole), whole);
    }
}
