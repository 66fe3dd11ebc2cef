//! The start method `forkserver`: what may be done about it besides naming it in the attribute.
//!
//! ```
//! use timeout_runtime::timeout;
//!
//! #[timeout(10, start = forkserver)]
//! fn count(text: &str, letter: char) -> usize {
//!     text.chars().filter(|it| *it == letter).count()
//! }
//!
//! assert_eq!(count("banana", 'a').unwrap(), 3);
//! ```
//!
//! # Which start method?
//!
//! | | `fork` (default) | `forkserver` |
//! |---|---|---|
//! | a call costs | what the kernel takes to copy the page tables: it grows with the host's memory and threads | always the same |
//! | other threads of the host | stand still meanwhile | notice nothing |
//! | arguments | any type, borrowed or not | need serde; no closures, `dyn` or raw pointers |
//! | the body sees | all of the host's memory | a program that has just started: statics as at first, one thread |
//! | locks that other threads hold | are never released in the child | do not exist |
//!
//! Measured by `cargo bench -p timeout-suite --bench forkserver`, on the two shared cores of a virtual machine (Linux 6.18):
//!
//! | a call with 8 bytes each way | bare fork | `forkserver` |
//! |---|---|---|
//! | small host | 0.31 ms | 0.12 ms |
//! | host of 10 MiB, 1 and 64 threads | 1.1, 2.3 ms | 0.12, 0.12 ms |
//! | host of 1 GiB, 1 and 64 threads | 65, 69 ms | 0.14, 0.13 ms |
//! | host of 4 GiB, 1 and 64 threads | 184, 187 ms | 0.13, 0.16 ms |
//! | calls per second of 1, 2 and 8 callers | 1043, 916, 1513 | 1665, 1703, 2242 |
//!
//! A mebibyte there and back takes 1.07 times what one back takes by `fork`, the first call of a program 2.2 ms.
//!
//! # What it is
//!
//! The first call runs the program once more (`/proc/self/exe`) and catches it before `main`: nothing has to be called
//! there. This server forks a worker for each call, and some ahead. A worker has the host's environment, working directory
//! and standard streams as they are at the call, and no other descriptor of it. Its user, group and root directory are
//! the host's as well: a host that changes them gets another server. Ignored signals, resource limits, file mode mask,
//! nice value, namespaces, supplementary groups, capabilities and filters (seccomp, Landlock) are as they were when the
//! server started, and the arguments of the program (`std::env::args`) are the server's.
//!
//! The server ends with the host, and its workers with it. Both belong to nobody whom the host could wait for.
//! They are out of reach of the host's terminal: in a session of their own if it has one when the server starts, else in
//! process groups of their own.
//!
//! # What it cannot do
//!
//! * A function must be in the program's own file, not in a shared library that it loads.
//! * It needs `/proc`, and descriptors of processes (Linux 5.4). Where these are missing or forbidden, in set-user-ID
//!   programs, and where the user or group in effect is not the real one, a call is
//!   [`NotStarted`](crate::Reason::NotStarted).
//! * Constructors of C++ and of `ctor`-like crates that the linker puts behind this crate's have not run in a worker, and
//!   neither has std's start-up: an overflow of another stack than the body's own is told as a plain `SIGSEGV`.
//! * A crash and a panic show the calls in the program's own code, without those in libraries, which `stuck_at` has. Of
//!   a body further in, in a worker of a worker's or another body's own fork server, it too has only the program's own code.
//! * A panic of another thread than the body's goes to std's panic hook, not to the host's.
//! * Hooks of [`on_child`](crate::on_child) are the host's, and do not run in a worker, where nothing of it is copied. One
//!   that a [`preload`] registers runs in every worker: those are copies of the server.
//! * Arguments are encoded in the host: a `Serialize` that never ends is not cut.
//! * Half a line that the host has printed comes before what the body prints only in a host of one thread: where
//!   another may own stdout, nobody waits for it. Flush it, where the order matters.
//!
//! There is no `start = auto`: which of the two a function can take depends on its arguments and on what its body needs
//! of the host, and those do not change with the host's size. Nor would the size decide anything: measured by
//! `cargo bench -p timeout-suite --bench forkserver`, a served call takes less than half of a fork's time in the smallest
//! host already.

use std::io;

use crate::{
    IntoLimit,
    deadline::Deadline,
    parent::host::Host,
    start,
    sys::{image, inflow::Inflow},
};

/// Starts the fork server now, if there is none, and waits until a first worker is ready, for `patience` at most.
///
/// A program need not call it: without it the first call takes some milliseconds longer.
///
/// # Errors
/// When the server cannot be started, or is not ready in time (`ErrorKind::TimedOut`); it may be later.
///
/// # Panics
/// When `patience` is negative or not a number.
///
/// # Examples
/// ```
/// timeout_runtime::forkserver::start(10)?;
/// # std::io::Result::Ok(())
/// ```
#[track_caller]
pub fn start(patience: impl IntoLimit) -> io::Result<()> {
    let deadline = Deadline::after(std::time::Instant::now(), patience.into_limit());
    start::forkserver::warm_up(Host::current(), deadline)
}

/// Has `load` run once in the fork server before it forks, so that every worker inherits what it leaves in statics.
///
/// `load` is a function, or a closure that captures nothing. It runs when the server starts, in the order of these calls,
/// and a call that waits for it does so within its limit. It may not leave threads behind. If it panics, every call is
/// [`NotStarted`](crate::Reason::NotStarted) with its message.
///
/// # Errors
/// When the server has been started already, or `load` is not in the program's own file.
///
/// # Examples
/// ```
/// use std::sync::OnceLock;
/// use timeout_runtime::{forkserver, timeout};
///
/// static WORDS: OnceLock<Vec<&str>> = OnceLock::new();
///
/// #[timeout(10, start = forkserver)]
/// fn is_known(word: &str) -> bool {
///     WORDS.get().is_some_and(|words| words.contains(&word))
/// }
///
/// forkserver::preload(|| drop(WORDS.set(vec!["yes", "no"])))?;
/// assert!(is_known("yes").unwrap());
/// # std::io::Result::Ok(())
/// ```
/// A closure that captures something is refused when the program is built; `cargo check` alone does not see it.
/// ```compile_fail
/// let words = vec!["yes", "no"];
/// let _ = timeout_runtime::forkserver::preload(|| drop(words.clone()));
/// ```
pub fn preload<F: Fn() + Copy>(load: F) -> io::Result<()> {
    // Only its type is of use.
    let _ = load;
    let number =
        image::number_of(run::<F>).ok_or_else(|| io::Error::other("the preload is not in the program's own file"))?;
    match Host::current().zygotes.preload(number) {
        true => Ok(()),
        false => {
            Err(io::Error::other("the fork server has been started already; call `preload` before the first call"))
        }
    }
}

fn run<F: Fn() + Copy>(_: Inflow) {
    image::conjure::<F>()();
}
