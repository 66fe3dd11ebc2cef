//! Backtraces: raw addresses until somebody looks at them.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::{
    activity::Futex,
    frame::{self, Frame, View},
    modules::{Module, Modules},
};

/// The calls that were under way when something happened, of every thread of the child that could be asked.
///
/// It is made of addresses, which are cheap. Functions and lines are looked up when they are first asked for, also by
/// [`Display`](fmt::Display); in a large program with debug information that takes some hundred milliseconds, once.
/// It may be empty: a child that blocks signals, was stopped or died at once has shown nothing.
///
/// How much it tells depends on how the program was built: functions, files and lines with debug information
/// (`debug = "line-tables-only"` in the profile is enough), functions in a plain release build, and modules with offsets
/// in a stripped one.
///
/// # Examples
/// ```
/// use timeout_runtime::{Reason, timeout};
///
/// fn wait_for_nothing() {
///     loop {
///         std::thread::sleep(std::time::Duration::from_secs(1));
///     }
/// }
///
/// #[timeout(100ms)]
/// fn sleepy() {
///     wait_for_nothing()
/// }
///
/// let error = sleepy().unwrap_err();
/// let Reason::Late { stuck_at, .. } = error.reason() else { panic!("{error}") };
/// let functions = stuck_at.frames().iter().filter_map(|frame| frame.function());
/// assert!(functions.into_iter().any(|function| function.contains("wait_for_nothing")), "{stuck_at}");
/// ```
#[derive(Clone, Default)]
pub struct Backtrace(Option<Arc<Trace>>);

struct Trace {
    raw: Vec<RawStack>,
    foreign: Vec<Foreign>,
    view: View,
    resolved: OnceLock<Vec<Stack>>,
}

/// One thread's frames as addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawStack {
    /// Whether it is the thread that the body runs on.
    pub(crate) is_body: bool,
    pub(crate) thread: Option<String>,
    /// The innermost process first, where calls are nested; in each the innermost frame first.
    pub(crate) frames: Vec<Vec<u64>>,
}

/// The module of an address that is code in the child and here may be nothing, or something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) address: u64,
    module: Module,
}

impl Foreign {
    /// Finds the modules of `addresses` in the text of a `/proc/<pid>/maps`.
    pub(crate) fn find(addresses: &[u64], maps: &str) -> Vec<Foreign> {
        let modules = Modules::parse(maps);
        let find = |address: &u64| modules.find(*address).map(|module| Foreign { address: *address, module });
        addresses.iter().filter_map(find).collect()
    }
}

/// The calls of one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    is_body: bool,
    thread: Option<String>,
    frames: Vec<Frame>,
}

impl Stack {
    /// Whether it is the thread that the body began on.
    #[must_use]
    pub fn is_body(&self) -> bool {
        self.is_body
    }

    /// Gives the name of the thread, where it has one.
    #[must_use]
    pub fn thread(&self) -> Option<&str> {
        self.thread.as_deref()
    }

    /// Gives the calls, the innermost first.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }
}

impl Backtrace {
    pub(crate) fn new(raw: Vec<RawStack>, foreign: Vec<Foreign>, view: View) -> Backtrace {
        match raw.iter().all(|stack| stack.frames.iter().all(Vec::is_empty)) {
            true => Backtrace(None),
            false => Backtrace(Some(Arc::new(Trace { raw, foreign, view, resolved: OnceLock::new() }))),
        }
    }

    /// One thread's, with nothing foreign in it.
    pub(crate) fn of_one(is_body: bool, thread: Option<String>, frames: Vec<u64>, view: View) -> Backtrace {
        Backtrace::new(vec![RawStack { is_body, thread, frames: vec![frames] }], Vec::new(), view)
    }

    /// Whether nothing is known. Looks nothing up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Gives the calls of the thread in question, the innermost first: the one that the body began on, or the one that
    /// panicked or crashed. Those of this library are left out.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        self.threads().first().map_or(&[], Stack::frames)
    }

    /// Gives the calls of every thread, that of the body first where it is known. At most 16 threads are asked, and at
    /// most 56 calls of each are told, the innermost ones. Bodies nested more than 8 deep are not asked, nor are those of
    /// more than 64 calls that are late at the same moment.
    #[must_use]
    pub fn threads(&self) -> &[Stack] {
        let Some(trace) = &self.0 else { return &[] };
        trace.resolved.get_or_init(|| {
            let modules = Modules::of_this_process();
            let find = |address| match trace.foreign.iter().find(|foreign| foreign.address == address) {
                Some(foreign) => (modules.address_of(&foreign.module), Some(foreign.module.clone())),
                None => (Some(address), modules.find(address)),
            };
            let mut stacks: Vec<Stack> = trace
                .raw
                .iter()
                .map(|raw| Stack {
                    is_body: raw.is_body,
                    thread: raw.thread.clone(),
                    frames: frame::resolve(&raw.frames, raw.is_body, &trace.view, &find),
                })
                .collect();
            frame::shorten_paths(stacks.iter_mut().flat_map(|stack| &mut stack.frames), &trace.view);
            stacks
        })
    }

    /// The innermost call of the user's own code, on the thread in question.
    pub(crate) fn place(&self) -> Option<&Frame> {
        let frames = self.frames();
        // Without a name it may be anything, unless nothing in its module has one.
        let is_named = |frame: &Frame| frame.function().is_some();
        let has_names = |module: Option<&str>| frames.iter().any(|frame| frame.module() == module && is_named(frame));
        let is_place = |frame: &&Frame| frame.is_users() && (is_named(frame) || !has_names(frame.module()));
        frames.iter().find(is_place).or_else(|| frames.iter().find(|frame| is_named(frame)))
    }

    /// Whether the thread in question is the one that the body began on.
    pub(crate) fn is_of_body(&self) -> bool {
        self.0.as_ref().is_some_and(|trace| trace.raw.first().is_some_and(|raw| raw.is_body))
    }

    /// What the thread in question slept on, if it slept on a futex.
    pub(crate) fn futex(&self) -> Option<Futex> {
        let inner = self.frames().iter().take_while(|frame| !frame.is_users());
        let kinds: Vec<Futex> = inner.filter_map(|frame| Futex::by(frame.function()?)).collect();
        // Threads and locks use each other: waiting for a thread is more than waiting for its lock.
        kinds.iter().copied().find(|kind| *kind == Futex::Thread).or(kinds.first().copied())
    }
}

/// Compares addresses; looks nothing up.
impl PartialEq for Backtrace {
    fn eq(&self, other: &Backtrace) -> bool {
        let raw = |backtrace: &Backtrace| backtrace.0.as_ref().map(|trace| trace.raw.clone());
        raw(self) == raw(other)
    }
}

impl Eq for Backtrace {}

/// Says how much there is, and looks nothing up.
impl fmt::Debug for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("<no trace>"),
            Some(trace) => {
                let frames: usize = trace.raw.iter().flat_map(|stack| &stack.frames).map(Vec::len).sum();
                write!(f, "<{frames} frames of {} threads>", trace.raw.len())
            }
        }
    }
}

/// Lists every call of every thread, a line or two for each; those of a recursion that are all alike once.
impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("<no trace>");
        }
        for (number, stack) in self.threads().iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            match (&stack.thread, stack.is_body) {
                (Some(name), true) => write!(f, "thread `{name}`, which runs the body:")?,
                (None, true) => f.write_str("the thread that runs the body:")?,
                (Some(name), false) => write!(f, "thread `{name}`:")?,
                (None, false) => f.write_str("a thread:")?,
            }
            let mut index = 0;
            for alike in stack.frames.chunk_by(Frame::is_like) {
                write!(f, "\n{index:4}: {:#}", alike[0])?;
                if alike.len() > 1 {
                    write!(f, "\n      … {} times", alike.len())?;
                }
                index += alike.len();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_looked_up_before_somebody_looks() {
        // Of std: this library's own are not shown.
        let address = std::thread::yield_now as *const () as u64;
        let trace = Backtrace::of_one(true, None, vec![address], View { function: "app::f", file: "src/a.rs" });
        let is_resolved = || trace.0.as_ref().unwrap().resolved.get().is_some();
        let copy = trace.clone();
        assert_eq!(trace, copy);
        assert!(!trace.is_empty() && trace.is_of_body());
        assert_eq!(format!("{trace:?}"), "<1 frames of 1 threads>");
        assert!(!is_resolved());
        let text = copy.to_string();
        assert!(text.contains("yield_now"), "{text}");
        assert!(is_resolved(), "the copy has looked for itself alone");
    }
}
