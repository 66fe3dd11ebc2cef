//! The generic shell of a call: pack the body, have a child run it, open what comes back.
//!
//! Only what depends on the body's type is in here; everything behind [`Call::supervise`] is written once.

use std::{
    any::type_name,
    convert::Infallible,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Cancel, IntoLimit, Ran, Reason, Rlimit, TimedOut, Usage,
    child::{self, Options, outbox::Outbox},
    deadline::Deadline,
    error::{Facts, signal_name, what_was_done},
    events::Trail,
    inline,
    parent::{
        block::{self, Verdict},
        host::Host,
        sample::Sample,
        supervise::{Outcome, Supervisor},
    },
    report::{Backtrace, Doing, Place, View},
    resources::Bounds,
    start::{self, Job, NoChild, forkserver::Order},
    sys::{crash::Crash, image, process, unwind},
    wire::{
        message::{PanicReport, SetupReport},
        stage::Stage,
        value::{self, Inbox, Landing},
    },
    write_back::Slots,
};

/// A value that can come back from a child process: one with serde's `Serialize` and `Deserialize` that owns all it has.
///
/// It is implemented for every such type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot come back from the child process",
    label = "the result needs `serde::Serialize` and `serde::Deserialize`, and must own what it holds",
    note = "derive both for your own types; for others, return something made from them"
)]
pub trait Portable: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> Portable for T {}

/// Runs `body` in a child process and gives its value, within `limit`.
///
/// The same as [`Call::new(limit).run(body)`](Call::run). For a body whose error has no serde there is
/// [`Call::run_result`].
///
/// # Errors
/// See [`Reason`].
///
/// # Panics
/// When `limit` is negative or not a number.
///
/// # Examples
/// ```
/// let words = vec!["a", "bb", "ccc"];
/// let longest = timeout_runtime::call(2, || words.iter().map(|word| word.len()).max());
/// assert_eq!(longest.unwrap(), Some(3));
/// ```
#[track_caller]
pub fn call<T: Portable>(limit: impl IntoLimit, body: impl FnOnce() -> T) -> Result<T, TimedOut> {
    Call::new(limit).run(body)
}

/// A call to be made: its limit and options. One can be used many times.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use timeout_runtime::Call;
///
/// let sum = Call::new(2).grace(0.5).run(|| (1..=10).sum::<u32>());
/// assert_eq!(sum.unwrap(), 55);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is run"]
pub struct Call {
    limit: Duration,
    grace: Duration,
    resume_panics: bool,
    cancel: Option<Cancel>,
    bounds: Bounds,
    route: Route,
}

/// Where the body of a call runs.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// In a copy of this process.
    Fork,
    /// In a worker of the fork server. The clock started when its arguments were packed.
    Server { order: Arc<Order>, origin: Origin },
    /// Here and now: this process is the worker.
    Here,
}

impl Call {
    /// Makes a call whose body may take `limit`, from the moment of the call to the moment its value is back.
    ///
    /// With a limit of zero nothing is started; with [`Duration::MAX`] there is no limit. In its last 5 ms, and in a grace, a
    /// body may find that it is kept off its caller's core and that its threads have shorter time slices: the caller sets
    /// both, to be back on time.
    ///
    /// # Panics
    /// When `limit` is negative or not a number.
    #[track_caller]
    pub fn new(limit: impl IntoLimit) -> Call {
        Call {
            limit: limit.into_limit(),
            grace: Duration::ZERO,
            resume_panics: false,
            cancel: None,
            bounds: Bounds::default(),
            route: Route::Fork,
        }
    }

    /// At the limit, asks the body and everything it started to end (`SIGTERM`), and kills only after `grace`.
    ///
    /// It is a maximum: the call returns as soon as the child is gone. A value that arrives meanwhile is
    /// taken. Without it everything is killed at the limit.
    ///
    /// # Panics
    /// When `grace` is negative or not a number.
    #[track_caller]
    pub fn grace(mut self, grace: impl IntoLimit) -> Call {
        self.grace = grace.into_limit();
        self
    }

    /// Raises a panic of the body again in the caller, its message kept, instead of giving it as an error.
    pub fn resume_panics(mut self) -> Call {
        self.resume_panics = true;
        self
    }

    /// Lets `cancel` end the call.
    pub fn cancel(mut self, cancel: &Cancel) -> Call {
        self.cancel = Some(cancel.clone());
        self
    }

    /// Lets the body take at most `bytes` of memory on top of what its caller has at the call.
    ///
    /// An allocation that fails for it ends the call with [`OutOf(Resource::Memory)`](crate::Reason::OutOf). What counts is
    /// private writable memory, touched or not (`RLIMIT_DATA`, getrlimit(2), Linux 4.7): the stacks of new threads count
    /// whole, and so do copies made to send the value. Not counted are shared mappings and those of files, and address
    /// space that is only reserved: [`Rlimit::AddressSpace`] bounds everything. A body may first use what its caller has
    /// freed and not given back to the kernel. A limit that the host has itself is never loosened. Each process that the
    /// body starts may use as much again: what was mapped at the call, and `bytes`.
    ///
    /// Rust code and C code that runs out of memory bit by bit are told as such. C code that asks for more at once than is
    /// left gets a null pointer, and what it does with that is told as what it is, mostly a crash. A failed `try_reserve`
    /// is the body's to answer.
    ///
    /// With 0 nothing is started.
    ///
    /// # Examples
    /// ```
    /// use timeout_runtime::{Call, Reason, Resource};
    ///
    /// let result = Call::new(2).memory(64 << 20).run(|| vec![1u8; 1 << 30].len());
    /// assert!(matches!(result.unwrap_err().reason(), Reason::OutOf(Resource::Memory)));
    /// ```
    pub fn memory(mut self, bytes: u64) -> Call {
        self.bounds.memory = Some(bytes);
        self
    }

    /// Lets the body use at most `limit` of CPU time, that of all its threads together.
    ///
    /// When it is used up, the call ends with [`OutOf(Resource::Cpu)`](crate::Reason::OutOf), there is no grace. Waiting
    /// costs no CPU time. The kernel looks at its clock ticks, so it may become some milliseconds more. With 0 nothing is
    /// started; with [`Duration::MAX`] there is no such limit.
    ///
    /// Each process that the body starts may use time of its own, about as much: a quarter more, rounded up to a whole
    /// second, and one (`RLIMIT_CPU`, getrlimit(2)). So may a body that blocks or handles `SIGXCPU`. A limit that the host
    /// has itself is never loosened.
    ///
    /// # Panics
    /// When `limit` is negative or not a number.
    ///
    /// # Examples
    /// ```
    /// use timeout_runtime::{Call, Reason, Resource};
    ///
    /// let result = Call::new(60).cpu(0.05).run(|| -> u32 { loop { std::hint::spin_loop() } });
    /// assert!(matches!(result.unwrap_err().reason(), Reason::OutOf(Resource::Cpu)));
    /// ```
    #[track_caller]
    pub fn cpu(mut self, limit: impl IntoLimit) -> Call {
        let limit = limit.into_limit();
        self.bounds.cpu = (limit != Duration::MAX).then_some(limit);
        self
    }

    /// Bounds another resource of the child, and of each process that the body starts, for each by itself.
    ///
    /// Soft and hard limit become `value`, unless the host's are lower; given twice, the lower value counts.
    ///
    /// # Examples
    /// ```
    /// use std::fs::File;
    /// use timeout_runtime::{Call, Rlimit};
    ///
    /// let opens = || File::open("/dev/null").is_ok();
    /// assert!(Call::new(2).run(opens).unwrap());
    /// assert!(!Call::new(2).rlimit(Rlimit::OpenFiles, 0).run(opens).unwrap());
    /// ```
    pub fn rlimit(mut self, resource: Rlimit, value: u64) -> Call {
        self.bounds.lower(resource, value);
        self
    }

    /// Runs `body` in a child process and gives its value.
    ///
    /// The body sees the caller's memory as it is now, borrowed or not; what it changes there stays in the child.
    ///
    /// # Errors
    /// See [`Reason`].
    ///
    /// # Panics
    /// When the body panics, after [`resume_panics`](Call::resume_panics).
    #[track_caller]
    pub fn run<T: Portable, F: FnOnce() -> T>(&self, body: F) -> Result<T, TimedOut> {
        if inline::is_on() {
            return self.run_inline(body);
        }
        self.run_and_pack(body, |value, outbox| outbox.deliver::<T, _>(&value))
    }

    /// As [`run`](Call::run), and gives what the child had used when its value was ready to be sent.
    ///
    /// It costs two system calls more. What a child used that gave no value is in [`TimedOut::usage`].
    ///
    /// # Errors
    /// See [`Reason`].
    ///
    /// # Panics
    /// When the body panics, after [`resume_panics`](Call::resume_panics).
    ///
    /// # Examples
    /// ```
    /// use timeout_runtime::Call;
    ///
    /// let (sum, usage) = Call::new(2).run_measured(|| (0..1_000_000u64).sum::<u64>()).unwrap();
    /// println!("{sum} took {:?} of CPU time and {} bytes", usage.cpu(), usage.peak_memory());
    /// ```
    #[track_caller]
    pub fn run_measured<T: Portable, F: FnOnce() -> T>(&self, body: F) -> Result<(T, Usage), TimedOut> {
        if inline::is_on() {
            let before = process::usage().unwrap_or_default();
            let value = self.run_inline(body)?;
            return Ok((value, process::usage().unwrap_or_default().since(before)));
        }
        // Of a value without it, nothing comes back.
        self.run_and_tell(true, body, |value, outbox| outbox.deliver::<T, _>(&value), |_| Ok(()))
            .map(|(value, usage)| (value, usage.unwrap_or_default()))
    }

    /// Runs a body that never returns.
    #[doc(hidden)]
    #[track_caller]
    pub fn run_never<F: FnOnce() -> Infallible>(&self, body: F) -> Result<Infallible, TimedOut> {
        if inline::is_on() {
            return self.run_inline(body);
        }
        let never: Result<(), TimedOut> = self.run_and_pack(body, |never, _| match never {});
        Err(match never {
            Err(error) => error,
            Ok(()) => unreachable!("a body without a value has returned one"),
        })
    }

    /// Runs a body that changes what `slots` point to, and repeats the changes here if it returns.
    #[doc(hidden)]
    #[track_caller]
    pub fn run_writing_back<T: Portable, S: Slots, F: FnOnce() -> T>(&self, slots: S, body: F) -> Result<T, TimedOut> {
        if inline::is_on() {
            // It has changed the arguments themselves.
            return self.run_inline(body);
        }
        self.run_and_change::<T, S, _, _>(slots, body, |value, slots, outbox| {
            outbox.deliver::<(T, S::Owned), _>(&(value, slots.view()))
        })
    }

    /// The rest of every call that writes back: all of it when everything that has come home fits, else nothing.
    #[track_caller]
    pub(crate) fn run_and_change<T: DeserializeOwned, S: Slots, R, F: FnOnce() -> R>(
        &self,
        mut slots: S,
        body: F,
        deliver: impl FnOnce(R, &S, &Outbox),
    ) -> Result<T, TimedOut> {
        let deliver = |value, outbox: &Outbox| deliver(value, &slots, outbox);
        let check = |(_, changed): &(T, S::Owned)| slots.check(changed);
        let ((value, changed), _) = self.run_and_tell(false, body, deliver, check)?;
        slots.replace(changed);
        Ok(value)
    }

    /// The rest of every `run`: the value sent by `deliver` in the child is opened as a `T` here.
    #[track_caller]
    pub(crate) fn run_and_pack<T: DeserializeOwned, R, F: FnOnce() -> R>(
        &self,
        body: F,
        deliver: impl FnOnce(R, &Outbox),
    ) -> Result<T, TimedOut> {
        self.run_and_tell(false, body, deliver, |_| Ok(())).map(|(value, _)| value)
    }

    /// The same, with what the child had used if that `is_measured`; a value that does not pass `check` is lost.
    #[track_caller]
    fn run_and_tell<T: DeserializeOwned, R, F: FnOnce() -> R>(
        &self,
        is_measured: bool,
        body: F,
        deliver: impl FnOnce(R, &Outbox),
        check: impl FnOnce(&T) -> Result<(), String>,
    ) -> Result<(T, Option<Usage>), TimedOut> {
        let site = self.site::<F>();
        if let Route::Here = self.route {
            // It never returns: a worker that has delivered its value ends.
            if let Some(outbox) = Outbox::current() {
                outbox.enter(Stage::Body);
                deliver(enter(body), outbox);
            }
            return Err(self.failure(&site, Reason::late(), Ran::Yes));
        }
        let mut work = Some((body, deliver));
        let mut inbox = value::inbox::<T>();
        let ended = self.supervise(&site, is_measured, inbox.landing(), &mut |outbox| {
            if let Some((body, deliver)) = work.take() {
                outbox.enter(Stage::Body);
                deliver(enter(body), outbox);
            }
        });
        let result = ended.and_then(|usage| {
            let lost = |why| {
                let facts = self.facts(&site, Reason::Lost { why }, Ran::Yes);
                TimedOut::new(Facts { usage, ..facts })
            };
            match open(inbox).and_then(|value| check(&value).map(|()| value)) {
                Ok(_) if is_measured && usage.is_none() => Err(lost("the kernel did not tell what it had used".into())),
                Ok(value) => Ok((value, usage)),
                Err(why) => Err(lost(why)),
            }
        });
        site.trail.end(site.begin, result.as_ref().err());
        match result {
            Err(error) if self.resume_panics && error.is_panic() => error.raise(),
            result => result,
        }
    }

    /// The same in this process and without a limit, for a debugger: the value is given as it is.
    #[track_caller]
    pub(crate) fn run_inline<R, F: FnOnce() -> R>(&self, body: F) -> Result<R, TimedOut> {
        let site = self.site::<F>();
        let mut payload = None;
        let result = match &self.cancel {
            Some(cancel) if cancel.is_cancelled() => Err(self.failure(&site, Reason::Cancelled, Ran::No)),
            _ => inline::run(body).map_err(|panic| {
                let (message, backtrace) = (child::panic_text(&*panic), Backtrace::default());
                let thread = std::thread::current().name().map(str::to_owned);
                payload = Some(panic);
                self.failure(&site, Reason::Panicked { message, location: None, thread, backtrace }, Ran::Yes)
            }),
        };
        site.trail.end(site.begin, result.as_ref().err());
        match payload {
            Some(payload) if self.resume_panics => resume_unwind(payload),
            _ => result,
        }
    }

    /// Has a child do `job`, waits for its end and says what it was. After a value, gives what is known of the usage.
    fn supervise(
        &self,
        site: &Site,
        is_measured: bool,
        landing: &mut dyn Landing,
        job: Job<'_>,
    ) -> Result<Option<Usage>, TimedOut> {
        let failure = |reason, ran| Err(self.failure(site, reason, ran));
        let deadline = Deadline::after(site.begin, self.limit);
        if self.limit.is_zero() {
            return failure(Reason::late(), Ran::No);
        }
        if let Some(resource) = self.bounds.exhausted_at_once() {
            return failure(Reason::OutOf(resource), Ran::No);
        }
        match self.cancel.as_ref().map(Cancel::bell).transpose() {
            Ok(_) if self.cancel.as_ref().is_some_and(Cancel::is_cancelled) => {
                return failure(Reason::Cancelled, Ran::No);
            }
            Ok(_) => {}
            Err(error) => {
                let error = std::io::Error::new(error.kind(), format!("eventfd: {error}"));
                return failure(Reason::NotStarted(error), Ran::No);
            }
        }
        let host = Host::current();
        host.reaper.relieve();
        let mut options =
            Options { has_grace: !self.grace.is_zero(), watch_panics: true, is_measured, bounds: self.bounds };
        let (Verdict { mut outcome, stage, usage, sample, threads }, layout) = loop {
            let started = match &self.route {
                Route::Server { order, .. } => {
                    start::forkserver::start(host, deadline, options, order, self.cancel.as_ref())
                }
                Route::Fork | Route::Here => start::fork::start(host, deadline, options, job),
            };
            let worker = match started {
                Ok(worker) => worker,
                Err(NoChild::Cancelled) => return failure(Reason::Cancelled, Ran::No),
                Err(NoChild::Late) => return failure(Reason::late(), Ran::No),
                Err(NoChild::Failed(_)) if host.reaper.makes_room() => continue,
                Err(NoChild::Failed(error)) => return failure(Reason::NotStarted(error), Ran::No),
            };
            site.trail.started(worker.pid());
            let supervisor = Supervisor::new(deadline, self.grace);
            let layout = worker.foreign_code();
            match block::run(worker, supervisor, landing, self.cancel.as_ref(), host) {
                Verdict { outcome: Outcome::HookHeld, .. } => {
                    // Better a moment later with our hook than now with the host's, which may hang in the child, too. For
                    // a thread that stays in there for good, half the limit is enough.
                    options.watch_panics = site.begin.elapsed() < self.limit / 2;
                    std::thread::sleep(HOOK_PAUSE.min(self.limit / 16));
                }
                verdict => break (verdict, layout),
            }
        };
        if let Some(code) = layout {
            outcome.translate(|address| image::translate(address, code));
            // As a spare it is nobody's child: what ends it there, mostly a want of memory, is no crash of the body.
            if let (Outcome::Crashed(Crash { signal, on_body: false, .. }), Some(Stage::Setup)) = (&outcome, stage) {
                let step =
                    format!("{} ended the worker of the fork server before it had its order", signal_name(*signal));
                outcome = Outcome::NotStarted(SetupReport { step, errno: 0 });
            }
        }
        let mut bounds = self.bounds;
        if let Outcome::Crashed(crash) = &mut outcome {
            bounds = bounds.with_cpu_in_effect();
            if let Some(resource) = bounds.exhausted_by(crash, usage) {
                let (reason, ran) = (Reason::OutOf(resource), ran_by(stage));
                let backtrace = Backtrace::of_one(crash.on_body, None, std::mem::take(&mut crash.frames), site.view());
                let facts = self.facts(site, reason, ran);
                return Err(TimedOut::new(Facts { usage, stage, bounds, backtrace, ..facts }));
            }
        }
        let sample = sample.unwrap_or_default();
        let doing = sample.doing;
        match reason(outcome, stage, sample, site.view()) {
            None => Ok(usage),
            Some((reason, ran)) => {
                Err(TimedOut::new(Facts { usage, stage, doing, threads, ..self.facts(site, reason, ran) }))
            }
        }
    }

    /// The same call, its body in a worker of the fork server.
    pub(crate) fn by(self, route: Route) -> Call {
        Call { route, ..self }
    }

    /// The site of a call, made now, whose body is of the type `F`.
    #[track_caller]
    fn site<F>(&self) -> Site {
        let Origin { function, called_from, begin } = match &self.route {
            Route::Server { origin, .. } => *origin,
            Route::Fork | Route::Here => Origin::here(function_of::<F>()),
        };
        Site { function, called_from, begin, trail: Trail::begin(function, self.limit) }
    }

    fn failure(&self, site: &Site, reason: Reason, ran: Ran) -> TimedOut {
        TimedOut::new(self.facts(site, reason, ran))
    }

    fn facts(&self, site: &Site, reason: Reason, ran: Ran) -> Facts {
        let Site { function, called_from, begin, .. } = *site;
        let elapsed = begin.elapsed();
        Facts {
            reason,
            function,
            called_from,
            limit: self.limit,
            elapsed,
            ran,
            stage: None,
            usage: None,
            bounds: self.bounds,
            backtrace: Backtrace::default(),
            doing: Doing::default(),
            threads: 0,
        }
    }
}

/// How long to wait before the next child, while a thread of the host is in the panic hook.
const HOOK_PAUSE: Duration = Duration::from_millis(20);

/// Where and when a call was made whose arguments had to be packed first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    function: &'static str,
    called_from: &'static Location<'static>,
    begin: Instant,
}

impl Origin {
    #[track_caller]
    pub(crate) fn here(function: &'static str) -> Origin {
        Origin { function, called_from: Location::caller(), begin: Instant::now() }
    }
}

/// Where and when a call was made.
struct Site {
    function: &'static str,
    called_from: &'static Location<'static>,
    begin: Instant,
    trail: Trail,
}

impl Site {
    fn view(&self) -> View {
        View { function: self.function, file: self.called_from.file() }
    }
}

/// Runs the body on a stack whose outer end is known, so that a trace does not go on into what the caller was doing.
///
/// Never merged into its caller: what is merged into *it* is the body, and is shown under the body's name.
#[inline(never)]
fn enter<R, F: FnOnce() -> R>(body: F) -> R {
    let marker = 0;
    unwind::begin_at(&marker);
    let value = body();
    // Something is left to do, so that the body's call cannot take the place of this one on the stack.
    std::hint::black_box(&marker);
    value
}

/// The path of the function that the closure type `F` stands in.
pub(crate) fn function_of<F>() -> &'static str {
    let mut path = type_name::<F>();
    while let Some(outer) = path.strip_suffix("::{{closure}}") {
        path = outer;
    }
    // The type of a function pointer or a box tells nothing of what is behind it.
    let is_opaque =
        ["fn(", "unsafe ", "extern ", "&", "alloc::boxed::Box<"].iter().any(|start| path.starts_with(start));
    if is_opaque { "the body" } else { path }
}

/// Opens a value; a `Deserialize` that panics only now, after it did not in the child, loses it.
fn open<T>(inbox: Inbox<T>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(|| inbox.open())).unwrap_or_else(|_| Err("its `Deserialize` panicked".into()))
}

/// Whether the body has run in a child that was cut off at `stage`. Where that is not known, it may have begun.
fn ran_by(stage: Option<Stage>) -> Ran {
    match stage {
        Some(Stage::Setup | Stage::Hook | Stage::Hooks | Stage::Arguments) => Ran::No,
        Some(Stage::Body) | None => Ran::Maybe,
        Some(Stage::Encoding | Stage::Decoding | Stage::Sending | Stage::Unsent) => Ran::Yes,
    }
}

/// What an outcome means to the user; `None` for a value.
fn reason(outcome: Outcome, stage: Option<Stage>, sample: Sample, view: View) -> Option<(Reason, Ran)> {
    let ran = ran_by(stage);
    Some(match outcome {
        Outcome::Value => return None,
        Outcome::Late | Outcome::HookHeld => {
            (Reason::Late { stuck_at: Backtrace::new(sample.stacks, sample.foreign, view) }, ran)
        }
        Outcome::Cancelled => (Reason::Cancelled, ran),
        Outcome::Panicked(report) => {
            let PanicReport { message, place, thread, on_body, frames } = report;
            let location = place.map(|(file, line, column)| Place::new(file, line, column));
            let backtrace = Backtrace::of_one(on_body, thread.clone(), frames, view);
            (Reason::Panicked { message, location, thread, backtrace }, Ran::Yes)
        }
        Outcome::Crashed(crash) => {
            let Crash { signal, address, stack_overflow, on_body, frames, .. } = crash;
            let backtrace = Backtrace::of_one(on_body, None, frames, view);
            (Reason::Crashed { signal, address, stack_overflow, backtrace }, ran)
        }
        Outcome::Exited(code) if stage.is_some_and(|stage| stage >= Stage::Encoding) => {
            let why = match stage {
                Some(stage @ (Stage::Encoding | Stage::Decoding)) => {
                    format!("its process ended with code {code} while {}", what_was_done(stage).unwrap_or_default())
                }
                // Its pipe was closed or replaced, or could not be written to.
                _ => format!("it could not be written into its result pipe (exit code {code})"),
            };
            (Reason::Lost { why }, Ran::Yes)
        }
        Outcome::Exited(code) => (Reason::Exited { code }, if ran == Ran::No { ran } else { Ran::Yes }),
        Outcome::NotStarted(SetupReport { step, errno: 0 }) => {
            (Reason::NotStarted(std::io::Error::other(step)), Ran::No)
        }
        Outcome::NotStarted(report) => {
            let cause = std::io::Error::from_raw_os_error(report.errno);
            let error = std::io::Error::new(cause.kind(), format!("{}: {cause}", report.step));
            (Reason::NotStarted(error), Ran::No)
        }
        Outcome::Lost(why) => (Reason::Lost { why }, ran),
    })
}

#[cfg(test)]
mod tests;
