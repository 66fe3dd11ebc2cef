//! A function that always comes back: [`#[timeout]`](macro@timeout) runs it in a child process and returns within a limit.
//!
//! ```
//! use timeout_runtime::timeout;
//!
//! #[timeout(2)]
//! fn longest_word(text: &str) -> Option<String> {
//!     text.split_whitespace().max_by_key(|word| word.len()).map(str::to_owned)
//! }
//!
//! assert_eq!(longest_word("as long as it takes").unwrap().as_deref(), Some("takes"));
//! ```
//!
//! A call forks, runs the body in the child, and waits with a deadline for one message. What ended a call without a value
//! is a [`TimedOut`], whose [`Reason`] is told in one line. Without the attribute, [`call`] and [`Call`] do the same.
//!
//! # What to know before using it
//!
//! * **Changes stay in the child**, but for the result and `&mut` arguments: those through `Cell`, `Mutex`, atomics and
//!   statics are lost.
//! * **Results** need `Serialize` and `Deserialize` and own what they hold ([`Portable`]). Values may be nested up to 256
//!   levels deep. In a `Result<T, E>` the error may do without serde: [`PortableError`] tells which come back, and how yours
//!   does.
//! * **What a result costs.** A number, a `String` or a `Vec` of numbers, such as bytes, crosses as it lies in memory. Every
//!   other value, and every one that comes with changes to `&mut` arguments, is encoded, and then decoded once in the child
//!   before it is sent, so that a `Deserialize` that never ends is cut there. So it is decoded twice, and both times count
//!   for the limit; and the child holds the value, its encoded bytes and a second copy of it at once, which count for
//!   [`Call::memory`].
//! * **Threads.** A child has one thread. A lock that another thread of the host held at the fork stays locked in it: a
//!   body that waits for one is cut at its limit. What std itself locks on the way is taken care of.
//! * **Not a sandbox.** The child has the caller's memory and rights.
//! * **Panics.** The host's panic hook does not run for a panic of the body, and nothing is printed: the caller is told.
//!   One that the body catches is nobody's affair. One of another thread of the child goes to the hook, in the child.
//! * **Handlers.** The child starts with the host's signal handlers reset to their defaults, but for those of `SIGSEGV` and
//!   `SIGBUS`, which come after the crash has been noted; std's says that a stack overflowed. Ignored signals stay ignored,
//!   and the mask is the caller's. Exit handlers of the host (`atexit`) do not run in it.
//! * **Linux.** Descriptors of processes (pidfd, 5.3) are used where the kernel has them and no filter forbids them. Parts
//!   that are newer make things faster or surer and are done without otherwise.
//! * **Static musl.** Calls end as they do elsewhere. But its C code cannot be unwound: a trace may be one frame long, and a
//!   Rust allocation that failed is told as the abort that it ends in. Exit handlers of the host run in a child that
//!   exits, and what such a child has started in a session of its own is not found.
//!
//! # Limits in more than time
//!
//! [`Call::memory`] bounds what the body takes on top of its caller's memory, [`Call::cpu`] the CPU time that it uses, and
//! [`Call::rlimit`] everything else that Linux bounds for a process. The first two are options of the attribute, too, and a
//! body that goes beyond them is told as [`Reason::OutOf`]. Whatever ended a call, [`TimedOut::usage`] says what it had
//! used; [`Call::run_measured`] says it with a value.
//!
//! # Random numbers
//!
//! A child starts as a copy, and so do the generators in it. Repeated by every child, unless something is done about it:
//!
//! * `rand::rng()` of the thread that makes the call, unless the feature `rand` is on (rand 0.10);
//! * `fastrand`'s functions, unless the feature `fastrand` is on (fastrand 2);
//! * the seeds of `HashMap` (`RandomState`), which are those that the caller's thread will use next;
//! * a generator that a program or a library keeps for itself, as `StdRng` in a static;
//! * the layout of the address space.
//!
//! [`on_child`] runs a function of yours in every child before its body, to reseed what is yours. With the features
//! this crate reseeds the generator of the body's thread by itself, from the kernel. Nothing repeats that asks the kernel
//! each time, such as `getrandom` and UUIDs of version 4 made with it, nor what a thread started by the body makes for
//! itself. Keys, nonces and tokens should come from there in any case.
//!
//! # Debugging
//!
//! A debugger does not follow a body into its child. With `TIMEOUT_INLINE=1` in the environment every call runs its body
//! in the caller, as if there were no attribute: no child, and no limit of any kind. Calls say so once on stderr. The
//! variable is read at the first call; empty and `0` mean no. A program that has more rights than its user (set-uid,
//! set-gid, file capabilities) ignores it.
//!
//! What a call gives is the same, with these differences. The value does not cross by serde. A panic is printed by the
//! program's own panic hook, where a debugger stops, before it is [`Reason::Panicked`], without a location; or it goes on
//! as it is, with `panic = "resume"`. What a body does to the program's memory stays done: to its `&mut` arguments also
//! when it panics, and to statics, locks and the like. A body that exits or crashes takes the program with it, and a
//! [`Cancel`] only ends a call that has not begun.
//!
//! # Tracing
//!
//! With the feature `tracing`, off by default, calls tell a `tracing` subscriber what they do, under the target
//! `timeout_runtime`:
//!
//! * a span `timed_call` per call, at the level `DEBUG`, as calls that return are of interest only to who looks for them;
//! * an event per failure, with the line of the [`TimedOut`] as its message, but for the place, which takes a while to look
//!   up: at the level `WARN`, as whether it is an error
//!   is the caller's to say, and at `INFO` where a [`Cancel`] asked for it.
//!
//! Both have the fields `function`, `limit` and `elapsed` in seconds, `reason` in one word (`late`, `panicked`, …), and
//! `pid`, the number of the child; the span has the last three when the call has ended. The subscriber is called in the
//! caller only, before the child exists and after it is gone. What it takes before is part of the limit, what it takes
//! after comes on top. A call that is made inside a body tells nothing, as the child's copy of the subscriber may be locked
//! for good; for the same reason a body had better not use `tracing` itself.
//!
//! # How it is built
//!
//! [`Call`] is the generic shell. `start` makes a child, `child` is what the child does from the fork to `_exit`, `parent`
//! what the caller does until the child is buried; both sides meet only in `wire`. The rules of time are one state machine
//! without a clock, in `parent/supervise`. All unsafe code is in `sys`.
#![deny(missing_docs)]

#[cfg(windows)]
compile_error!(
    "timeout-runtime needs fork(2): Windows cannot run a function in a copy of its process, and a thread cannot be stopped"
);

#[cfg(all(not(windows), not(target_os = "linux")))]
compile_error!(
    "timeout-runtime runs on Linux so far: ending everything that a body has started needs a subreaper and /proc"
);

#[cfg(target_os = "linux")]
mod call;
#[cfg(target_os = "linux")]
mod cancel;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod crossing;
#[cfg(target_os = "linux")]
mod deadline;
#[cfg(target_os = "linux")]
mod error;
#[cfg(target_os = "linux")]
mod events;
#[cfg(all(test, target_os = "linux"))]
mod faults;
#[cfg(target_os = "linux")]
mod flatten;
#[cfg(target_os = "linux")]
pub mod forkserver;
#[cfg(target_os = "linux")]
mod inline;
#[cfg(target_os = "linux")]
mod limit;
#[cfg(target_os = "linux")]
mod parent;
#[cfg(target_os = "linux")]
mod portable_error;
#[cfg(target_os = "linux")]
mod remote;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod resources;
#[cfg(target_os = "linux")]
mod served;
#[cfg(target_os = "linux")]
mod start;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
mod way_home;
#[cfg(target_os = "linux")]
mod wire;
#[cfg(target_os = "linux")]
mod write_back;

#[cfg(target_os = "linux")]
pub use {
    call::{Call, Portable, call},
    cancel::Cancel,
    child::hooks::on_child,
    error::{Ran, Reason, TimedOut},
    limit::IntoLimit,
    portable_error::PortableError,
    remote::{RemoteError, io_error},
    report::{Backtrace, Frame, Place, Stack, Usage},
    resources::{Resource, Rlimit},
};

pub use timeout_macro::timeout;

/// What the attribute's expansion uses. Not for others: it may change with any version.
#[doc(hidden)]
#[cfg(target_os = "linux")]
pub mod __private {
    pub use crate::crossing::{Crossing, ErrorsApart};
    pub use crate::flatten::{Flatten, flatten};
    pub use crate::served::{Mut, Ref, Val, serve};
    pub use crate::way_home::{Question, way_home};
    pub use crate::write_back::{Slot, Slots, WriteBack};

    /// Gives the value of a test's body, or fails the test with the body's own message.
    #[track_caller]
    pub fn or_fail_test<T>(result: Result<T, crate::TimedOut>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => error.raise(),
        }
    }
}

/// The code in the README runs as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
