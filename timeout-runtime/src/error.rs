//! `TimedOut`: why a call gave no value, in one pointer.
//!
//! There is one constructor, used where a call ends. What the reasons mean to a reader is written here and nowhere else.

use std::{error::Error, fmt, io, panic::Location, time::Duration};

use crate::{
    report::{Activity, Backtrace, Doing, Frame, Futex, Place, Rounded, Usage},
    resources::{Bounds, Resource},
    wire::stage::Stage,
};

/// Why a call gave no value.
///
/// Its [`Display`](fmt::Display) text is one line a person understands; [`Debug`](fmt::Debug) shows the same line and
/// the fields.
///
/// # Examples
/// ```
/// use timeout_runtime::{Reason, timeout};
///
/// #[timeout(50ms)]
/// fn stuck() -> u32 {
///     loop {
///         std::hint::spin_loop();
///     }
/// }
///
/// let error = stuck().unwrap_err();
/// assert!(error.is_late());
/// assert!(matches!(error.reason(), Reason::Late { .. }));
/// assert!(error.to_string().contains("did not return within 50 ms"));
/// ```
pub struct TimedOut(Box<Facts>);

/// Everything a call knows about its failure.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) reason: Reason,
    pub(crate) function: &'static str,
    pub(crate) called_from: &'static Location<'static>,
    pub(crate) limit: Duration,
    pub(crate) elapsed: Duration,
    pub(crate) ran: Ran,
    pub(crate) stage: Option<Stage>,
    pub(crate) usage: Option<Usage>,
    /// What the body was allowed, as far as it was in effect.
    pub(crate) bounds: Bounds,
    /// Where a resource ran out.
    pub(crate) backtrace: Backtrace,
    /// What the child was doing when its time was over.
    pub(crate) doing: Doing,
    /// How many threads the caller had at the fork.
    pub(crate) threads: usize,
}

/// What ended a call without a value.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The limit was over before the whole value had arrived.
    #[non_exhaustive]
    Late {
        /// Where the body was; empty where it could not be asked. Where its threads have to wait for a core, the call waits
        /// for them, up to 100 ms; and up to 25 ms for a body that has a handler of its own for `SIGURG`, in vain.
        stuck_at: Backtrace,
    },
    /// The body panicked and did not catch it.
    #[non_exhaustive]
    Panicked {
        /// The panic's message, cut if it is very long; a remark where the payload is no text.
        message: String,
        /// Where it panicked, also where the body passed on a panic of another thread. It is not known if the body had
        /// replaced the panic hook or raised a payload of its own (`resume_unwind`), nor if the caller was panicking or
        /// another of its threads stayed in the panic hook.
        location: Option<Place>,
        /// The name of the thread that panicked, where it has one; the body's own is called as the caller's, of which it is
        /// a copy (not in the fork server).
        thread: Option<String>,
        /// The calls that led there.
        backtrace: Backtrace,
    },
    /// A signal ended the child, and this library did not send it.
    #[non_exhaustive]
    Crashed {
        /// The number of the signal, as in signal(7).
        signal: i32,
        /// The address whose access failed, where the signal has one.
        address: Option<u64>,
        /// Whether the stack was used up.
        stack_overflow: bool,
        /// The calls that led there.
        backtrace: Backtrace,
    },
    /// The body ended its process instead of returning.
    #[non_exhaustive]
    Exited {
        /// The code it gave to `exit`.
        code: i32,
    },
    /// The body used up something that was bounded besides time, or, without a bound, all the memory there was.
    OutOf(Resource),
    /// The call was ended from elsewhere, by [`Cancel`](crate::Cancel).
    Cancelled,
    /// The child could not be started or set up. The body has not run.
    NotStarted(io::Error),
    /// The body ran, and its value could not be encoded, sent or decoded.
    #[non_exhaustive]
    Lost {
        /// What stood in the way.
        why: String,
    },
}

impl Reason {
    pub(crate) fn late() -> Reason {
        Reason::Late { stuck_at: Backtrace::default() }
    }
}

/// Whether the body may have had effects outside its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ran {
    /// It had not begun: trying again is safe.
    No,
    /// It had begun, or may have, and was cut off.
    Maybe,
    /// It came to an end of its own: it returned, panicked or exited.
    Yes,
}

impl TimedOut {
    pub(crate) fn new(facts: Facts) -> TimedOut {
        TimedOut(Box::new(facts))
    }

    /// Gives what ended the call.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// Gives the path of the function, with its generic arguments; for a closure, the function it stands in.
    #[must_use]
    pub fn function(&self) -> &str {
        self.0.function
    }

    /// Gives the place of the call.
    #[must_use]
    pub fn called_from(&self) -> &'static Location<'static> {
        self.0.called_from
    }

    /// Gives the limit of the call, without its grace.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.0.limit
    }

    /// Gives how long the call took.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed
    }

    /// Tells whether the body may have had effects. After [`Ran::No`] trying again is safe.
    #[must_use]
    pub fn ran(&self) -> Ran {
        self.0.ran
    }

    /// Gives the calls that were under way when the body was cut off, panicked, crashed or ran out of a resource.
    #[must_use]
    pub fn backtrace(&self) -> Option<&Backtrace> {
        let backtrace = match &self.0.reason {
            Reason::Late { stuck_at: backtrace }
            | Reason::Panicked { backtrace, .. }
            | Reason::Crashed { backtrace, .. } => backtrace,
            _ => &self.0.backtrace,
        };
        Some(backtrace).filter(|backtrace| !backtrace.is_empty())
    }

    /// Gives what the child used. It is known wherever a child ran, unless it ended in silence and the kernel does not
    /// tell: the host takes or ignores the statuses of its children, or there is no `/proc`. What was left of a value that
    /// only the caller could not decode may lack it, too.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.0.usage
    }

    /// Whether the limit was over.
    #[must_use]
    pub fn is_late(&self) -> bool {
        matches!(self.0.reason, Reason::Late { .. })
    }

    /// Whether the body panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.0.reason, Reason::Panicked { .. })
    }

    /// Whether a signal ended the child that this library did not send.
    #[must_use]
    pub fn is_crash(&self) -> bool {
        matches!(self.0.reason, Reason::Crashed { .. })
    }

    /// Raises the failure as a panic of the calling thread. For a panic of the body its own message comes first.
    #[track_caller]
    pub(crate) fn raise(&self) -> ! {
        match &self.0.reason {
            Reason::Panicked { message, location: Some(place), .. } => {
                panic!("{message}\n  in `{}`, at {place}", self.0.function)
            }
            Reason::Panicked { message, .. } => panic!("{message}\n  in `{}`", self.0.function),
            _ => panic!("{self}"),
        }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, Names::LookedUp)
    }
}

/// The text of a failure without the places that would have to be looked up, which takes its time.
#[cfg(feature = "tracing")]
pub(crate) struct WithoutPlaces<'a>(pub(crate) &'a TimedOut);

#[cfg(feature = "tracing")]
impl fmt::Display for WithoutPlaces<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TimedOut(facts) = self.0;
        facts.write(f, Names::LeftOut)
    }
}

/// Whether a text names the functions that were under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    LookedUp,
    #[cfg(feature = "tracing")]
    LeftOut,
}

impl Names {
    fn place(self, backtrace: &Backtrace) -> Option<&Frame> {
        if self == Names::LookedUp { backtrace.place() } else { None }
    }
}

impl Facts {
    fn write(&self, f: &mut fmt::Formatter<'_>, names: Names) -> fmt::Result {
        let Facts { reason, function, limit, stage, .. } = self;
        write!(f, "`{function}` ")?;
        match reason {
            Reason::Late { stuck_at } => {
                write!(f, "did not return within {}", Seconds(*limit))?;
                self.write_late(f, stuck_at, names)
            }
            Reason::Panicked { message, location, thread, backtrace } => {
                f.write_str("panicked")?;
                if let Some(place) = location {
                    write!(f, " at {}:{}:{}", OneLine(place.file()), place.line(), place.column())?;
                }
                if let (Some(thread), false, false) = (thread, backtrace.is_empty(), backtrace.is_of_body()) {
                    write!(f, " on thread `{}`", OneLine(thread))?;
                }
                write!(f, ": {}", OneLine(message))
            }
            Reason::Crashed { signal, address, stack_overflow, backtrace } => {
                let name = signal_name(*signal);
                match (stack_overflow, address) {
                    (true, _) => write!(f, "overflowed its stack ({name})"),
                    (_, Some(address)) => write!(f, "crashed: {name} at address {address:#x}"),
                    _ => write!(f, "crashed: {name}"),
                }?;
                names.place(backtrace).map_or(Ok(()), |place| write!(f, " in {place}"))
            }
            Reason::Exited { code } => write!(f, "ended its process with code {code} instead of returning"),
            Reason::OutOf(resource) => {
                self.write_out_of(f, *resource)?;
                names.place(&self.backtrace).map_or(Ok(()), |place| write!(f, "; it was in {place}"))
            }
            Reason::Cancelled => f.write_str("was cancelled"),
            Reason::NotStarted(error) => write!(f, "was not started: {}", OneLine(&error.to_string())),
            Reason::Lost { why } => write!(f, "lost its value: {}", OneLine(why)),
        }?;
        match (stage, reason) {
            // It names the hook itself.
            (_, Reason::NotStarted(_)) => Ok(()),
            (Some(Stage::Hooks), _) => f.write_str(", in a hook of `on_child`"),
            // These say so themselves.
            (_, Reason::Lost { .. } | Reason::Late { .. }) => Ok(()),
            _ => stage.and_then(what_was_done).map_or(Ok(()), |what| write!(f, ", while {what}")),
        }
    }

    /// What ran out, and how much of it there was.
    fn write_out_of(&self, f: &mut fmt::Formatter<'_>, resource: Resource) -> fmt::Result {
        let Facts { usage, bounds, .. } = self;
        match (resource, bounds.cpu) {
            (Resource::Cpu, Some(cpu)) => write!(f, "used up its {} of CPU time", Seconds(cpu)),
            (Resource::Cpu, None) => f.write_str("used up its CPU time"),
            (Resource::Memory, _) => f.write_str("ran out of memory"),
        }?;
        match (resource, bounds.memory, usage) {
            (Resource::Memory, Some(0), _) => f.write_str(": it may use none"),
            (Resource::Memory, Some(bytes), None) => write!(f, ": it may use {}", Bytes(bytes)),
            (Resource::Memory, Some(bytes), Some(usage)) => {
                write!(f, ": it may use {} (its peak was {})", Bytes(bytes), Bytes(usage.peak_memory()))
            }
            (Resource::Memory, None, Some(usage)) => write!(f, " (its peak was {})", Bytes(usage.peak_memory())),
            _ => Ok(()),
        }
    }

    /// What is known of a late child: how far it was, where, what it did, and where that may come from.
    fn write_late(&self, f: &mut fmt::Formatter<'_>, stuck_at: &Backtrace, names: Names) -> fmt::Result {
        let what = match self.stage.and_then(what_was_done) {
            Some(what) => what,
            _ if self.ran == Ran::No && self.stage != Some(Stage::Hooks) => return f.write_str(": it had not begun"),
            _ if stuck_at.is_empty() && self.doing.activity.is_none() => return Ok(()),
            _ => "it was",
        };
        write!(f, ": {what}")?;
        let place = names.place(stuck_at);
        if let Some(place) = place {
            write!(f, " in {place}")?;
        }
        let Some(activity) = self.doing.activity else { return Ok(()) };
        f.write_str(if place.is_some() { " (" } else { " " })?;
        let futex = if (activity, names) == (Activity::Futex, Names::LookedUp) { stuck_at.futex() } else { None };
        match (activity, futex, self.doing.cpu) {
            (_, Some(Futex::Lock), _) => f.write_str("waiting for a lock")?,
            (_, Some(Futex::Thread), _) => f.write_str("waiting for another thread")?,
            (Activity::Running, _, Some(cpu)) => write!(f, "running, {} of CPU", Rounded(cpu))?,
            (activity, ..) => write!(f, "{activity}")?,
        }
        if activity == Activity::Futex && self.threads > 1 {
            write!(f, "; the process had {} threads when it forked, and ", self.threads)?;
            f.write_str(match futex {
                Some(Futex::Thread) => {
                    "only the calling one is in the child: start those that the body needs in the body"
                }
                _ => {
                    "a lock that another of them held is never released in the child: make the call before starting \
                     threads or with `start = forkserver`, or take no lock in the body that they take"
                }
            })?;
        }
        if place.is_some() { f.write_str(")") } else { Ok(()) }
    }
}

/// What a child was doing for its call where that is not the body.
pub(crate) fn what_was_done(stage: Stage) -> Option<&'static str> {
    match stage {
        Stage::Arguments => Some("its arguments were being decoded by their `Deserialize`"),
        Stage::Encoding => Some("its value was being encoded by its `Serialize`"),
        Stage::Decoding => Some("its value was being decoded by its `Deserialize`"),
        Stage::Sending => Some("its value was on its way"),
        Stage::Setup | Stage::Hook | Stage::Hooks | Stage::Body | Stage::Unsent => None,
    }
}

impl fmt::Debug for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { reason, called_from, limit, elapsed, ran, usage, .. } = &*self.0;
        let reason = Brief(reason);
        write!(f, "{self} [{reason:?}, limit: {limit:?}, elapsed: {elapsed:?}, ran: {ran:?}")?;
        if let Some(usage) = usage {
            write!(f, ", cpu: {:?}, peak memory: {} KiB", usage.cpu(), usage.peak_memory() >> 10)?;
        }
        write!(f, ", called from {called_from}]")
    }
}

impl Error for TimedOut {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.reason {
            Reason::NotStarted(error) => Some(error),
            _ => None,
        }
    }
}

impl From<TimedOut> for io::Error {
    /// Gives an error of the kind [`TimedOut`](io::ErrorKind::TimedOut) when late, of the cause's kind when the child
    /// could not be started, of the kind [`OutOfMemory`](io::ErrorKind::OutOfMemory) when it ran out of that, and of the
    /// kind [`Other`](io::ErrorKind::Other) otherwise.
    fn from(error: TimedOut) -> io::Error {
        let kind = match error.reason() {
            Reason::Late { .. } => io::ErrorKind::TimedOut,
            Reason::NotStarted(cause) => cause.kind(),
            Reason::OutOf(Resource::Memory) => io::ErrorKind::OutOfMemory,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// A length of time as people write it: `2 s`, `250 ms`, `1.5 s`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, name) = match nanos {
            0 => (1_000_000_000, "s"),
            1..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let (whole, rest) = (nanos / unit, nanos % unit);
        write!(f, "{whole}")?;
        if rest != 0 {
            let digits = unit.ilog10() as usize;
            let fraction = format!("{rest:0digits$}");
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        write!(f, " {name}")
    }
}

/// A size as people write it: `256 MiB`, `1.5 GiB`, `100 B`; rounded to a tenth where it is no round number.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let power = self.0.max(1).ilog2() / 10;
        let Some(name) = power.checked_sub(1).and_then(|index| UNITS.get(index as usize)) else {
            return write!(f, "{} B", self.0);
        };
        // At most 10 * 1024, so nothing overflows; wide enough for 10 * `u64::MAX`.
        let tenths = (u128::from(self.0) * 10 + (1 << (10 * power - 1))) >> (10 * power);
        match tenths % 10 {
            0 => write!(f, "{} {name}", tenths / 10),
            tenth => write!(f, "{}.{tenth} {name}", tenths / 10),
        }
    }
}

/// A reason with its texts as they are in the line.
struct Brief<'a>(&'a Reason);

impl fmt::Debug for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Reason::Panicked { message, location, thread, backtrace } => f
                .debug_struct("Panicked")
                .field("message", &OneLine(message))
                .field("location", location)
                .field("thread", &thread.as_deref().map(OneLine))
                .field("backtrace", backtrace)
                .finish(),
            Reason::NotStarted(error) => write!(f, "NotStarted({})", OneLine(&format!("{error:?}"))),
            Reason::Lost { why } => f.debug_struct("Lost").field("why", &OneLine(why)).finish(),
            others => fmt::Debug::fmt(others, f),
        }
    }
}

/// A text of any shape as part of one line: line breaks become spaces, and what is too long is cut.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 400;
        for (index, character) in self.0.trim_end().chars().enumerate() {
            match character {
                _ if index == LONGEST => return f.write_str("…"),
                control if control.is_control() => f.write_str(" ")?,
                character => fmt::Write::write_char(f, character)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

pub(crate) fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_pointer_wide_and_crosses_threads() {
        fn is_an_error<E: Error + Send + Sync + 'static>() {}
        is_an_error::<TimedOut>();
        assert_eq!(size_of::<Result<(), TimedOut>>(), size_of::<usize>());
    }

    #[track_caller]
    fn of(reason: Reason) -> TimedOut {
        TimedOut::new(Facts {
            reason,
            function: "app::f",
            called_from: Location::caller(),
            limit: Duration::from_millis(1500),
            elapsed: Duration::from_millis(1501),
            ran: Ran::Maybe,
            stage: None,
            usage: None,
            bounds: Bounds::default(),
            backtrace: Backtrace::default(),
            doing: Doing::default(),
            threads: 1,
        })
    }

    #[test]
    fn a_resource_that_ran_out_is_told_with_its_bound() {
        let usage = Some(Usage { peak_memory: 261 << 20, ..Usage::default() });
        let mut bounds = Bounds::default();
        (bounds.memory, bounds.cpu) = (Some(256 << 20), Some(Duration::from_secs(2)));
        for (resource, stage, usage, bounds, expected) in [
            (Resource::Memory, None, None, bounds, "ran out of memory: it may use 256 MiB"),
            (Resource::Memory, None, usage, bounds, "ran out of memory: it may use 256 MiB (its peak was 261 MiB)"),
            (Resource::Memory, None, usage, Bounds::default(), "ran out of memory (its peak was 261 MiB)"),
            (Resource::Cpu, None, usage, bounds, "used up its 2 s of CPU time"),
            (Resource::Cpu, Some(Stage::Hooks), None, bounds, "used up its 2 s of CPU time, in a hook of `on_child`"),
            (
                Resource::Memory,
                Some(Stage::Arguments),
                None,
                bounds,
                "ran out of memory: it may use 256 MiB, while its arguments were being decoded by their `Deserialize`",
            ),
            (
                Resource::Memory,
                Some(Stage::Encoding),
                None,
                bounds,
                "ran out of memory: it may use 256 MiB, while its value was being encoded by its `Serialize`",
            ),
            (
                Resource::Cpu,
                Some(Stage::Decoding),
                None,
                bounds,
                "used up its 2 s of CPU time, while its value was being decoded by its `Deserialize`",
            ),
            (
                Resource::Cpu,
                Some(Stage::Sending),
                None,
                bounds,
                "used up its 2 s of CPU time, while its value was on its way",
            ),
        ] {
            let TimedOut(facts) = of(Reason::OutOf(resource));
            let error = TimedOut::new(Facts { stage, usage, bounds, ..*facts });
            assert_eq!(error.to_string(), format!("`app::f` {expected}"));
        }
    }

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (256 << 20, "256 MiB"),
            ((1 << 30) + 1, "1 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn every_reason_is_one_line_that_names_the_function() {
        let place = Some(Place::new("src/a.rs".into(), 3, 7));
        let backtrace = Backtrace::default();
        let message = String::from("two\nlines");
        let crashed = |signal, stack_overflow| {
            let backtrace = Backtrace::default();
            Reason::Crashed { signal, address: Some(16), stack_overflow, backtrace }
        };
        for (reason, expected) in [
            (Reason::Late { stuck_at: backtrace.clone() }, "`app::f` did not return within 1.5 s"),
            (
                Reason::Panicked { message, location: place, thread: None, backtrace: backtrace.clone() },
                "`app::f` panicked at src/a.rs:3:7: two lines",
            ),
            (crashed(11, false), "`app::f` crashed: SIGSEGV at address 0x10"),
            (crashed(6, true), "`app::f` overflowed its stack (SIGABRT)"),
            (Reason::OutOf(Resource::Memory), "`app::f` ran out of memory"),
            (Reason::Exited { code: 3 }, "`app::f` ended its process with code 3 instead of returning"),
            (Reason::NotStarted(io::Error::other("fork")), "`app::f` was not started: fork"),
            (Reason::Lost { why: "no room".into() }, "`app::f` lost its value: no room"),
            (Reason::Cancelled, "`app::f` was cancelled"),
        ] {
            let error = of(reason);
            assert_eq!(error.to_string(), expected);
            let debug = format!("{error:?}");
            assert!(debug.starts_with(expected) && debug.contains("limit: 1.5s"), "{debug}");
        }
    }

    #[test]
    fn a_late_body_is_told_by_what_it_did_also_without_a_trace() {
        let futex = "waiting for a lock or for another thread";
        let cure = "; the process had 8 threads when it forked, and a lock that another of them held is never released \
                    in the child: make the call before starting threads or with `start = forkserver`, or take no lock in \
                    the body that they take";
        for (activity, threads, expected) in [
            (Activity::Running, 8, "running, 1.98 s of CPU".to_owned()),
            (Activity::Sleeping, 8, "sleeping".into()),
            (Activity::Syscall { name: "read", fd: Some(3) }, 8, "in read(fd 3)".into()),
            (Activity::Stopped, 8, "stopped".into()),
            (Activity::Futex, 1, futex.into()),
            (Activity::Futex, 8, format!("{futex}{cure}")),
        ] {
            let mut error = of(Reason::late());
            error.0.doing = Doing { activity: Some(activity), cpu: Some(Duration::from_millis(1984)) };
            error.0.threads = threads;
            assert_eq!(error.to_string(), format!("`app::f` did not return within 1.5 s: it was {expected}"));
            error.0.ran = Ran::No;
            assert_eq!(error.to_string(), "`app::f` did not return within 1.5 s: it had not begun");
        }
    }

    #[test]
    fn a_panic_of_another_thread_names_it() {
        let view = crate::report::View { function: "app::f", file: "src/a.rs" };
        for (on_body, expected) in [(true, "`app::f` panicked: no"), (false, "`app::f` panicked on thread `bee`: no")] {
            let thread = Some(String::from("bee"));
            let backtrace = Backtrace::of_one(on_body, thread.clone(), vec![1], view);
            let error = of(Reason::Panicked { message: "no".into(), location: None, thread, backtrace });
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_long_message_is_cut_in_the_line_and_kept_in_the_reason() {
        let long = "ž".repeat(10_000);
        let panicked = Reason::Panicked {
            message: long.clone(),
            location: None,
            thread: Some(long.clone()),
            backtrace: Backtrace::of_one(
                false,
                None,
                vec![1],
                crate::report::View { function: "app::f", file: "src/a.rs" },
            ),
        };
        for (reason, texts) in [
            (panicked, 2),
            (Reason::Lost { why: long.clone() }, 1),
            (Reason::NotStarted(io::Error::other(long.clone())), 1),
        ] {
            let error = of(reason);
            let (line, debug) = (error.to_string(), format!("{error:?}"));
            assert!(line.chars().count() < 100 + texts * 410, "{line}");
            assert!(debug.starts_with(&line) && debug.chars().count() < 500 + 2 * texts * 410, "{debug}");
            let kept = match error.reason() {
                Reason::Panicked { message, .. } => message.clone(),
                Reason::Lost { why } => why.clone(),
                reason => format!("{reason:?}"),
            };
            assert!(kept.contains(&long));
        }
    }

    #[test]
    fn becomes_an_io_error_of_the_right_kind() {
        assert_eq!(
            io::Error::from(of(Reason::Late { stuck_at: Backtrace::default() })).kind(),
            io::ErrorKind::TimedOut
        );
        let cause = io::Error::from(io::ErrorKind::OutOfMemory);
        assert_eq!(io::Error::from(of(Reason::NotStarted(cause))).kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(io::Error::from(of(Reason::OutOf(Resource::Memory))).kind(), io::ErrorKind::OutOfMemory);
        let error = io::Error::from(of(Reason::Cancelled));
        assert!(error.get_ref().is_some_and(|inner| inner.is::<TimedOut>()));
    }

    #[test]
    fn lengths_of_time_read_well() {
        for (nanos, text) in
            [(0, "0 s"), (7, "7 ns"), (1_500, "1.5 µs"), (250_000_000, "250 ms"), (61_000_000_000, "61 s")]
        {
            assert_eq!(Seconds(Duration::from_nanos(nanos)).to_string(), text);
        }
    }
}
