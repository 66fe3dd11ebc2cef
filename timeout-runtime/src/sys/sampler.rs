//! The question "where are you?", put to a thread of a child by a signal, and the handler that answers it.
//!
//! `SIGURG` is ignored by default, so one that comes before the handler is there does no harm. The handler writes the
//! stack that it interrupted into a [`Sheet`] that both processes have mapped. It runs on the thread's own stack: std's
//! alternate ones are too small for a walk.
//!
//! A process whose end it is stops itself when it has answered: it has a core just then, and whoever is to stop it from
//! outside would have to wake it once more.
//!
//! Calls may be nested. Every level has sheets of its own, which all levels below inherit; a thread that is itself
//! waiting for a child passes the question on, and the innermost body answers into the outermost caller's sheet.
//!
//! A worker of the fork server has the sheet of its own caller alone. Where it runs the body of an inner call, the thread
//! that waits for it asks in its own name, and copies the answer.
//!
//! What is still ugly: only the thread that runs an inner body is asked, not the other threads of its process.

#![expect(unsafe_code, reason = "signal handlers and queued signals")]

use std::{
    ffi::{c_int, c_void},
    mem,
    os::fd::BorrowedFd,
    ptr,
    sync::atomic::{AtomicI32, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use nix::{
    Result,
    errno::Errno,
    libc,
    sys::signal::{Signal, raise},
    unistd::{Pid, getpid, getppid, gettid},
};

use super::{
    image,
    in_place::InPlace,
    process,
    sheet::{SLOTS, Sheet, Witness},
    unwind::{self, Frames},
    waits::{self, Awaited, Served, Waiting},
};

const SIGNAL: c_int = libc::SIGURG;

/// The deepest nesting whose bodies can be asked.
const LEVELS: usize = 8;

/// The sheets of this process's callers, the outermost first.
static SHEETS: [InPlace<&'static [Sheet]>; LEVELS] = [const { InPlace::new() }; LEVELS];

/// How many calls this process is inside of.
static LEVEL: AtomicUsize = AtomicUsize::new(0);

/// What a signal carries: whose sheet, which one, and for which question. It fits into 32 bits, the smallest pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    level: usize,
    pub(crate) sheet: usize,
    /// The slot of the thread that passed it on.
    origin: u32,
    then: Then,
    /// Tells the answers from those to earlier questions; never 0.
    pub(crate) number: u32,
}

/// What the process does when the thread that was asked has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    GoesOn,
    Stops,
}

impl Question {
    /// The origin of an answer that nobody passed on.
    pub(crate) const DIRECT: u32 = 31;

    const NUMBERS: u32 = 1 << 17;

    /// A question of this process to a child that it has forked; `number` is taken modulo what fits.
    pub(crate) fn new(sheet: usize, number: u32, then: Then) -> Question {
        Question::at(LEVEL.load(Ordering::Relaxed), sheet, number, then)
    }

    /// One to a worker of the fork server, which knows of no other caller, and has one sheet.
    pub(crate) fn to_worker(number: u32, then: Then) -> Question {
        Question::at(0, 0, number, then)
    }

    fn at(level: usize, sheet: usize, number: u32, then: Then) -> Question {
        Question { level, sheet, origin: Question::DIRECT, then, number: number % (Question::NUMBERS - 1) + 1 }
    }

    fn pack(self) -> usize {
        let (number, origin) = (self.number as usize, self.origin as usize);
        let stops = usize::from(self.then == Then::Stops);
        number << 15 | stops << 14 | (origin & 31) << 9 | (self.sheet & 63) << 3 | self.level & 7
    }

    fn unpack(word: usize) -> Question {
        // Each mask leaves less than 32 bits.
        let (origin, number) = (word >> 9 & 31, word >> 15 & (Question::NUMBERS as usize - 1));
        let then = if word >> 14 & 1 == 1 { Then::Stops } else { Then::GoesOn };
        Question { level: word & 7, sheet: word >> 3 & 63, origin: origin as u32, then, number: number as u32 }
    }
}

/// Who may ask this process; 0 stands for its parent.
static ASKER: AtomicI32 = AtomicI32::new(0);

/// Has this process, a new child, answer by `sheets` what its parent asks, or `asker`, where its caller is not its parent.
#[inline]
pub(crate) fn answer_into(sheets: &'static [Sheet], asker: Option<Pid>) {
    ASKER.store(asker.map_or(0, Pid::as_raw), Ordering::Relaxed);
    unwind::forget_bottom();
    waits::forget();
    let level = LEVEL.fetch_add(1, Ordering::Relaxed);
    let Some(place) = SHEETS.get(level) else { return };
    place.set(sheets);
    // SAFETY: all zeroes is a valid sigaction.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = on_question as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: `on_question` has the signature of an SA_SIGINFO handler and only calls what is async-signal-safe.
    unsafe { libc::sigaction(SIGNAL, &raw const action, ptr::null_mut()) };
}

/// Notes that the calling thread waits for `child`, until dropped. To be dropped before the child is reaped. For a worker of
/// the fork server, `served` says where its code begins and the file that it answers into.
pub(crate) fn wait_for(child: Pid, served: Option<(u64, BorrowedFd<'_>)>) -> Option<Waiting> {
    // Nobody asks a process that is inside of no call.
    if LEVEL.load(Ordering::Relaxed) == 0 { None } else { Waiting::new(child, served) }
}

/// Puts a question to one thread of a process. Async-signal-safe.
pub(crate) fn ask(process: Pid, thread: Pid, question: Question) -> Result<()> {
    /// `siginfo_t` as sigqueue(3) makes it; the kernel reads 128 bytes of it.
    #[repr(C)]
    struct Info {
        signal: c_int,
        errno: c_int,
        code: c_int,
        rest: Rest,
        padding: [usize; 29],
    }
    #[repr(C)]
    struct Rest {
        process: libc::pid_t,
        /// Nobody asks.
        user: libc::uid_t,
        value: usize,
    }
    let rest = Rest { process: getpid().as_raw(), user: 0, value: question.pack() };
    let info = Info { signal: SIGNAL, errno: 0, code: libc::SI_QUEUE, rest, padding: [0; 29] };
    let (process, thread) = (process.as_raw(), thread.as_raw());
    // SAFETY: `info` is larger than what the kernel reads and laid out as it expects; the rest are numbers.
    let sent = unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, SIGNAL, &raw const info) };
    Errno::result(sent).map(drop)
}

pub(super) extern "C" fn on_question(_signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel passes a valid pointer to an SA_SIGINFO handler.
    let info = unsafe { &*info };
    // SAFETY: as above, and what it points to is a ucontext_t.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    if info.si_code == libc::SI_QUEUE {
        // SAFETY: a queued signal has a sender.
        let sender = unsafe { info.si_pid() };
        // SAFETY: and a value.
        let value = unsafe { info.si_value() };
        // A process that the body has forked inherits the handler, but nobody who may ask it.
        let asker = match ASKER.load(Ordering::Relaxed) {
            0 => getppid().as_raw(),
            asker => asker,
        };
        if sender == asker {
            answer(Question::unpack(value.sival_ptr.addr()), context);
        }
    }
    Errno::set_raw(errno);
}

fn answer(question: Question, context: &libc::ucontext_t) {
    let sheets = SHEETS.get(question.level).and_then(InPlace::get).copied().unwrap_or(&[]);
    let Some(sheet) = sheets.get(question.sheet) else { return };
    let Some(slot) = sheet.reserve() else { return };
    let (process, thread) = (getpid().as_raw(), gettid().as_raw());
    // There are fewer slots than fit into the origin.
    let further = Question { origin: slot as u32, then: Then::GoesOn, ..question };
    // SAFETY: this runs in a handler, and `awaited` does not leave it.
    let awaited = unsafe { waits::of_this_thread() };
    if awaited.is_some() {
        // Said first, so that our own answer does not pass for the last one.
        sheet.expect_one_more();
    }
    if let Some(Awaited::Child(child)) = awaited
        && ask(child, child, further).is_err()
    {
        sheet.expect_one_less();
    }
    let frames = unwind::interrupted(context);
    // One thread is enough to tell of its process, and it is the body's that is asked in any case.
    let usage = if process == thread { process::usage() } else { None };
    let witness = Witness { process, thread, usage };
    sheet.answer(slot, question.number, witness, question.origin, frames.as_slice());
    if let Some(Awaited::Served(worker)) = awaited {
        relay(&worker, sheet, further);
    }
    if question.then == Then::Stops {
        // It cannot fail, and whoever asked will stop us in any case.
        let _ = raise(Signal::SIGSTOP);
    }
}

/// Asks a worker of this process's fork server in the name of whoever has asked this process, and copies what it answers
/// to `sheet`: its own answer, and those of the bodies further in. Async-signal-safe.
fn relay(worker: &Served<'_>, sheet: &Sheet, question: Question) {
    /// As long as whoever asked may wait for an answer.
    const PATIENCE: Duration = Duration::from_millis(100);
    // The same as in its caller's own look at it, so that either may read the answer to the other's question.
    let asked = Question::to_worker(worker.process.as_raw().cast_unsigned(), Then::GoesOn);
    worker.sheet.clear();
    let is_asked = ask(worker.process, worker.process, asked).is_ok();
    let begin = Instant::now();
    let is_missing = || worker.sheet.answers(asked.number) <= worker.sheet.announced();
    loop {
        let state = worker.sheet.state();
        let left = PATIENCE.saturating_sub(begin.elapsed());
        if !is_asked || left.is_zero() || !is_missing() {
            break;
        }
        worker.sheet.wait(state, left);
    }
    let answers = worker.sheet.answers(asked.number);
    (1..answers).for_each(|_| sheet.expect_one_more());
    if answers == 0 {
        sheet.withdraw();
    }
    // A slot is taken before the question is passed on, so that an origin comes before what came of it.
    let mut copies = [None; SLOTS];
    for from in 0..SLOTS {
        let Some(answer) = worker.sheet.read(from, asked.number) else { continue };
        let origin = match answer.origin {
            Question::DIRECT => Some(question.origin),
            origin => copies.get(origin as usize).copied().flatten(),
        };
        let frames = answer.frames.as_slice().iter().filter_map(|address| image::translate(*address, worker.code));
        let frames: Frames = frames.collect();
        if let (Some(origin), Some(slot)) = (origin, sheet.reserve()) {
            copies[from] = Some(slot as u32);
            sheet.answer(slot, question.number, answer.witness, origin, frames.as_slice());
        } else {
            sheet.withdraw();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_fits_into_a_signal() {
        for level in 0..LEVELS {
            for (sheet, origin, then, number) in [
                (0, 0, Then::GoesOn, 1),
                (63, Question::DIRECT, Then::Stops, Question::NUMBERS - 1),
                (7, 15, Then::Stops, 77),
            ] {
                let question = Question { level, sheet, origin, then, number };
                assert!(question.pack() <= u32::MAX as usize);
                assert_eq!(Question::unpack(question.pack()), question);
            }
        }
    }

    #[test]
    fn no_question_has_the_number_of_an_empty_slot() {
        for number in [0, Question::NUMBERS - 2, Question::NUMBERS - 1, u32::MAX] {
            let question = Question::new(0, number, Then::GoesOn);
            assert!(question.number > 0 && question.number < Question::NUMBERS, "{question:?}");
        }
    }
}
