//! What a call tells a `tracing` subscriber: a span while it runs, and an event if it fails. The only file that names it.
//!
//! Nothing is told while a child runs, so that a subscriber that blocks or panics neither holds up the watch over it nor
//! leaves it behind. Nothing is told in a child either: the subscriber's locks may have been held at the fork by threads
//! that are not in it. So the span is entered only when the child is gone, and a call made inside a body is silent.
//! Without the feature there is only the twin at the end, which does nothing.

#[cfg(not(feature = "tracing"))]
pub(crate) use off::Trail;
#[cfg(feature = "tracing")]
pub(crate) use on::Trail;

#[cfg(feature = "tracing")]
mod on {
    use std::{
        sync::atomic::{AtomicI32, Ordering},
        time::{Duration, Instant},
    };

    use nix::unistd::Pid;
    use tracing::{Span, debug_span, field::Empty, info, warn};

    use crate::{Reason, Resource, TimedOut, child::outbox, error::WithoutPlaces};

    /// What is told of one call.
    pub(crate) struct Trail {
        /// `None` in a child.
        span: Option<Span>,
        /// The last process started for the call; 0 for none.
        pid: AtomicI32,
    }

    impl Trail {
        /// Tells that a call begins.
        pub(crate) fn begin(function: &'static str, limit: Duration) -> Trail {
            let span = (!outbox::is_in_a_child()).then(|| {
                let limit = limit.as_secs_f64();
                let (elapsed, reason, pid) = (Empty, Empty, Empty);
                debug_span!(target: "timeout_runtime", "timed_call", function, limit, elapsed, reason, pid)
            });
            Trail { span, pid: AtomicI32::new(0) }
        }

        /// Keeps the number of the process that was started, to be told at the end.
        pub(crate) fn started(&self, pid: Pid) {
            self.pid.store(pid.as_raw(), Ordering::Relaxed);
        }

        /// Tells how the call that began at `begin` has ended: with an error, or well.
        pub(crate) fn end(&self, begin: Instant, error: Option<&TimedOut>) {
            let Some(span) = &self.span else { return };
            let pid = Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0);
            let elapsed = error.map_or_else(|| begin.elapsed(), TimedOut::elapsed).as_secs_f64();
            let reason = error.map(|error| word(error.reason()));
            span.record("elapsed", elapsed).record("reason", reason).record("pid", pid);
            if let Some(error) = error {
                span.in_scope(|| tell(error, elapsed, reason, pid));
            }
        }
    }

    /// With every field of the span, as that may be filtered out.
    fn tell(error: &TimedOut, elapsed: f64, reason: Option<&str>, pid: Option<i32>) {
        let (function, limit) = (error.function(), error.limit().as_secs_f64());
        match error.reason() {
            // The program itself has asked for it.
            Reason::Cancelled => {
                info!(target: "timeout_runtime", function, limit, elapsed, reason, pid, "{}", WithoutPlaces(error));
            }
            // Whether it is an error of the program, its caller decides.
            _ => warn!(target: "timeout_runtime", function, limit, elapsed, reason, pid, "{}", WithoutPlaces(error)),
        }
    }

    /// One word to filter and count by.
    fn word(reason: &Reason) -> &'static str {
        match reason {
            Reason::Late { .. } => "late",
            Reason::Panicked { .. } => "panicked",
            Reason::Crashed { .. } => "crashed",
            Reason::Exited { .. } => "exited",
            Reason::OutOf(Resource::Memory) => "out_of_memory",
            Reason::OutOf(Resource::Cpu) => "out_of_cpu",
            Reason::Cancelled => "cancelled",
            Reason::NotStarted(_) => "not_started",
            Reason::Lost { .. } => "lost",
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use std::time::{Duration, Instant};

    use nix::unistd::Pid;

    use crate::TimedOut;

    /// Tells nobody anything.
    pub(crate) struct Trail;

    impl Trail {
        pub(crate) fn begin(_function: &'static str, _limit: Duration) -> Trail {
            Trail
        }

        pub(crate) fn started(&self, _pid: Pid) {}

        pub(crate) fn end(&self, _begin: Instant, _error: Option<&TimedOut>) {}
    }
}
