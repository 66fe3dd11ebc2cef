//! Keeps buffered text and the stdout lock from being torn by a fork.
//!
//! A copied buffer would be printed twice, and a copied lock whose owner is another thread is never released in the
//! child: its first `println!` would hang. So the buffer is flushed before the fork and, where other threads exist, both
//! locks are held across it. std has no timed lock, and a thread may own stdout for good; so a thread of ours goes first
//! and tells whether the locks can be had. While it waits in vain, calls go on without them.

use std::{
    io::{self, StderrLock, StdoutLock},
    sync::{atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use crate::{
    parent::host::Host,
    sys::{
        fault::{self, Op},
        process, stdout,
    },
};

/// How long the scout may take. It takes longer than a few microseconds only where threads print without a pause.
const PATIENCE: Duration = Duration::from_millis(10);

/// stdout and stderr, as they are across a fork.
pub(crate) enum Stdio {
    /// No other thread can hold a lock.
    Alone,
    /// This thread holds the locks.
    Held { _out: StdoutLock<'static>, _err: StderrLock<'static> },
    /// Another thread may hold them: the child had better not touch them on its own.
    Taken,
}

impl Stdio {
    /// Flushes stdout and takes the locks that need taking, as far as they can be had soon.
    pub(crate) fn hold(host: &'static Host) -> Stdio {
        if process::thread_count() <= 1 + host.reaper.threads() {
            stdout::flush();
            return Stdio::Alone;
        }
        if !can_be_had(host) {
            return Stdio::Taken;
        }
        let (out, err) = (io::stdout().lock(), io::stderr().lock());
        stdout::flush();
        Stdio::Held { _out: out, _err: err }
    }

    /// Whether the child may flush stdout.
    pub(crate) fn is_usable(&self) -> bool {
        !matches!(self, Stdio::Taken)
    }
}

/// Sends a thread ahead that takes and gives back both locks.
fn can_be_had(host: &'static Host) -> bool {
    if host.stdio_is_taken.load(Ordering::Relaxed) {
        return false;
    }
    let (report, reported) = mpsc::sync_channel(1);
    let scout = move || {
        drop(io::stdout().lock());
        drop(io::stderr().lock());
        host.stdio_is_taken.store(false, Ordering::Relaxed);
        let _ = report.send(());
    };
    host.stdio_is_taken.store(true, Ordering::Relaxed);
    let builder = thread::Builder::new().name("timeout-stdio".into()).stack_size(64 << 10);
    if fault::check(Op::SpawnThread).is_err() || builder.spawn(scout).is_err() {
        host.stdio_is_taken.store(false, Ordering::Relaxed);
        return false;
    }
    reported.recv_timeout(PATIENCE).is_ok()
}
