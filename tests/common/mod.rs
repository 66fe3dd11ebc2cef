//! What the behaviour tests share: a process for each scenario, an oracle around it, and the list of start methods.
//!
//! A scenario is a plain function `fn a_late_body_is_killed(start: Start)`, named once in its file's
//! [`scenarios_everywhere!`]. It becomes one test per start method, or one by fork alone in [`scenarios_by_fork!`]. Each
//! of these runs in a process of its own, so that it may do to that process what it likes, and nothing of other tests can
//! be taken for its own. See [`scenario`] and [`oracle`].
#![allow(dead_code, unused_imports, unused_macros, reason = "every test file uses a part of it")]

pub(crate) mod busy;
pub(crate) mod chain;
pub(crate) mod endings;
pub(crate) mod greed;
pub(crate) mod lateness;
pub(crate) mod mark;
pub(crate) mod oracle;
pub(crate) mod procs;
pub(crate) mod raw;
pub(crate) mod scenario;
pub(crate) mod seccomp;
pub(crate) mod shapes;
pub(crate) mod shown;
pub(crate) mod stdout;
pub(crate) mod subscriber;
pub(crate) mod travel;
pub(crate) mod whole_file;

use std::time::Duration;

use nix::unistd::{getpid, getppid};
use timeout_runtime::{Call, IntoLimit, Portable, Ran, Reason, TimedOut};

pub(crate) use busy::busy;
pub(crate) use mark::Mark;

/// A limit that nothing in a passing test ever meets.
pub(crate) const LONG: Duration = Duration::from_secs(50);

/// What a crowded machine may add to anything that is immediate. It stays far below [`LONG`].
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// How a child comes to be. A third method is one more variant, one more line in `with_every_start_method!`, and one more
/// in `by_each_start_method!` and `by!`, where the attribute chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Fork,
    Forkserver,
}

impl Start {
    /// A call by this method.
    #[track_caller]
    pub(crate) fn call(self, limit: impl IntoLimit) -> Call {
        match self {
            // The fork server is chosen where the body is given: see `run`.
            Start::Fork | Start::Forkserver => Call::new(limit),
        }
    }

    /// Makes `call` by this method. The body captures nothing, and gets what it needs.
    #[track_caller]
    pub(crate) fn run<A: Portable, T: Portable>(
        self,
        call: &Call,
        arguments: A,
        body: impl Fn(A) -> T + Copy,
    ) -> Result<T, TimedOut> {
        match self {
            Start::Fork => call.run(|| body(arguments)),
            Start::Forkserver => call.run_in_server(arguments, body),
        }
    }

    /// Has everything ready that belongs to the method and not to a call.
    pub(crate) fn prepare(self) {
        if self == Start::Forkserver {
            timeout_runtime::forkserver::start(20).unwrap();
        }
    }

    /// Checks that calls are started by this method.
    pub(crate) fn assert_taken(self) {
        let parent = self.run(&self.call(LONG), (), |()| getppid().as_raw()).unwrap();
        match self {
            Start::Forkserver => assert_ne!(parent, getpid().as_raw(), "the child was forked by its caller"),
            Start::Fork => assert_eq!(parent, getpid().as_raw(), "the child was not forked by its caller"),
        }
    }
}

/// Turns each of the functions named into one test per start method. Their bodies capture nothing: see [`Start::run`].
macro_rules! scenarios_everywhere {
    ($($name:ident),* $(,)?) => {
        mod by {
            use super::*;
            crate::common::with_every_start_method!([$($name)*]);
        }
    };
}

/// Turns each of the functions named into one test by fork: a body that captures something goes that way alone, and some
/// of what is shown is true of nothing else. Each use says which.
macro_rules! scenarios_by_fork {
    ($($name:ident),* $(,)?) => {
        crate::common::with_start_method!(fork Fork [$($name)*]);
    };
}

/// Turns functions into tests in a host that has no server yet, or may have another afterwards, and whose oracle is its
/// own.
macro_rules! from_nothing {
    ($($name:ident),* $(,)?) => {
        mod from_nothing {
            $(#[test]
            fn $name() {
                let path = concat!(module_path!(), "::", stringify!($name));
                crate::common::scenario::run_bare(path, super::$name);
            })*
        }
    };
}

/// The list of start methods: the name of the tests' module, and the variant of [`Start`].
macro_rules! with_every_start_method {
    ($names:tt) => {
        crate::common::with_start_method!(fork Fork $names);
        crate::common::with_start_method!(forkserver Forkserver $names);
    };
}

macro_rules! with_start_method {
    ($module:ident $method:ident [$($name:ident)*]) => {
        mod $module {
            $(#[test]
            fn $name() {
                let path = concat!(module_path!(), "::", stringify!($name));
                crate::common::scenario::run(path, crate::common::Start::$method, super::$name);
            })*
        }
    };
}

/// Makes the functions of a macro once per start method: by `fork`, and with the `forkserver` that it is given.
macro_rules! by_each_start_method {
    ($functions:ident) => {
        mod by_fork {
            use super::*;
            $functions!();
        }

        mod by_server {
            use super::*;
            $functions!(forkserver);
        }
    };
}

/// The function of this name that a start method has.
macro_rules! by {
    ($start:expr, $name:ident) => {
        match $start {
            crate::common::Start::Fork => crate::by_fork::$name,
            crate::common::Start::Forkserver => crate::by_server::$name,
        }
    };
}

pub(crate) use {
    by, by_each_start_method, from_nothing, scenarios_by_fork, scenarios_everywhere, with_every_start_method,
    with_start_method,
};

/// Checks the reason of a failure against a pattern, and what it says about the body; gives the error.
macro_rules! assert_fails {
    ($result:expr, $reason:pat $(if $guard:expr)?, $ran:pat) => {{
        let error = $result.err().expect("the call should have failed");
        assert!(matches!(error.reason(), $reason $(if $guard)?), "{error:?}");
        assert!(matches!(error.ran(), $ran), "{error:?}");
        error
    }};
}

pub(crate) use assert_fails;

/// The median of some durations.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
