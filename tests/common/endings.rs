//! Every way a body can end, and what its caller must be told.

use std::{panic::panic_any, process, thread};

use nix::{
    sys::signal::{Signal, kill},
    unistd::getpid,
};
use timeout_runtime::{Call, Ran, Reason, TimedOut};

use super::{Mark, Start, raw};

/// One way to end.
pub(crate) struct Ending {
    pub(crate) name: &'static str,
    /// The body: it marks the moment, ends, and if it returns, gives a number.
    pub(crate) body: fn(&Mark) -> i32,
    pub(crate) told: Told,
}

/// What the caller is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    Value(i32),
    /// The beginning of the message.
    Panicked(&'static str),
    /// The signal, and whether the stack had overflowed.
    Crashed(Signal, bool),
    /// The same, where the C library or std may choose between two signals.
    Overflowed,
    Exited(i32),
}

impl Ending {
    /// Makes a call that ends this way, and checks what comes of it.
    #[track_caller]
    pub(crate) fn check(&self, start: Start, mark: &Mark) {
        self.check_within(start, &start.call(super::LONG), mark);
    }

    /// The same by this call.
    #[track_caller]
    pub(crate) fn check_within(&self, start: Start, call: &Call, mark: &Mark) {
        self.told.check(self.name, &self.call_by(start, call, mark));
    }

    #[track_caller]
    pub(crate) fn call(&self, start: Start, mark: &Mark) -> Result<i32, TimedOut> {
        self.call_by(start, &start.call(super::LONG), mark)
    }

    #[track_caller]
    fn call_by(&self, start: Start, call: &Call, mark: &Mark) -> Result<i32, TimedOut> {
        let arguments = (self.name.to_owned(), mark.again());
        start.run(call, arguments, |(name, mark): (String, Mark)| run(&name, &mark))
    }
}

/// Ends as the ending of that name does.
pub(crate) fn run(name: &str, mark: &Mark) -> i32 {
    let ending = everything().find(|ending| ending.name == name).unwrap();
    (ending.body)(mark)
}

impl Told {
    #[track_caller]
    pub(crate) fn check(self, name: &str, result: &Result<i32, TimedOut>) {
        let (is_true, ran) = match (self, result.as_ref().map_err(TimedOut::reason)) {
            (Told::Value(value), Ok(returned)) => (*returned == value, None),
            (Told::Panicked(start), Err(Reason::Panicked { message, .. })) => {
                (message.starts_with(start), Some(Ran::Yes))
            }
            (Told::Crashed(signal, overflow), Err(Reason::Crashed { signal: number, stack_overflow, .. })) => {
                (*number == signal as i32 && *stack_overflow == overflow, Some(Ran::Maybe))
            }
            (Told::Overflowed, Err(Reason::Crashed { signal, stack_overflow, .. })) => {
                ([Signal::SIGSEGV as i32, Signal::SIGABRT as i32].contains(signal) && *stack_overflow, Some(Ran::Maybe))
            }
            (Told::Exited(code), Err(Reason::Exited { code: told, .. })) => (*told == code, Some(Ran::Yes)),
            _ => (false, None),
        };
        assert!(is_true, "{name}: expected {self:?}, was told {result:?}");
        if let (Some(ran), Err(error)) = (ran, result) {
            assert_eq!(error.ran(), ran, "{name}: {error:?}");
        }
    }
}

/// The length of a message that nobody would read.
pub(crate) const LONG_MESSAGE: usize = 10 << 20;

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("in the destructor");
    }
}

/// Runs `end` on another thread while the body's own waits.
fn elsewhere(end: impl FnOnce() + Send + 'static) -> i32 {
    let _ = thread::spawn(end).join();
    raw::pause()
}

pub(crate) const PANICS: &[Ending] = &[
    Ending {
        name: "a panic with a str",
        body: |mark| {
            mark.now();
            panic!("told as it is")
        },
        told: Told::Panicked("told as it is"),
    },
    Ending {
        name: "a panic with a String",
        body: |mark| {
            mark.now();
            panic_any(String::from("owned"))
        },
        told: Told::Panicked("owned"),
    },
    Ending {
        name: "a formatted panic",
        body: |mark| {
            mark.now();
            let number = getpid().as_raw().min(7);
            panic!("number {number} of {}", 9)
        },
        told: Told::Panicked("number 7 of 9"),
    },
    Ending {
        name: "a panic with a payload that is no text",
        body: |mark| {
            mark.now();
            panic_any(7u8)
        },
        told: Told::Panicked("a payload that is no text"),
    },
    Ending {
        name: "a panic with a message of 10 MB",
        body: |mark| {
            let message = "long ".repeat(LONG_MESSAGE / 5);
            mark.now();
            panic_any(message)
        },
        told: Told::Panicked("long long "),
    },
    Ending {
        name: "an unwrap",
        body: |mark| {
            mark.now();
            "x".parse::<i32>().unwrap()
        },
        told: Told::Panicked("called `Result::unwrap()` on an `Err` value: ParseIntError"),
    },
    PASSED_ON,
];

/// The place of the panic that is passed on.
pub(crate) const PASSED_ON_FROM: (&str, u32) = (file!(), line!() + 4);

#[inline(never)]
fn panic_elsewhere() {
    panic!("from the thread");
}

/// Three other threads panic, and what the first of them left is passed on.
pub(crate) const PASSED_ON: Ending = Ending {
    name: "a panic on another thread that is passed on",
    body: |mark| {
        mark.now();
        let _ = std::panic::catch_unwind(|| panic!("the body's own"));
        let bee = |number: i32, work: fn()| thread::Builder::new().name(format!("bee {number}")).spawn(work).unwrap();
        let first = bee(1, panic_elsewhere).join();
        let _ = [2, 3].map(|number| bee(number, || panic!("another")).join());
        first.map_or_else(|payload| std::panic::resume_unwind(payload), |()| 1)
    },
    told: Told::Panicked("from the thread"),
};

/// One panic that makes another while it unwinds: std ends the process by SIGABRT.
pub(crate) const DOUBLE_PANIC: Ending = Ending {
    name: "a panic while panicking",
    body: |mark| {
        let _bomb = PanicsWhenDropped;
        mark.now();
        panic!("in the body")
    },
    told: Told::Panicked("in the "),
};

pub(crate) const CRASHES: &[Ending] = &[
    Ending {
        name: "abort",
        body: |mark| {
            mark.now();
            process::abort()
        },
        told: Told::Crashed(Signal::SIGABRT, false),
    },
    Ending {
        name: "a null pointer",
        body: |mark| {
            mark.now();
            raw::read_null();
            1
        },
        told: Told::Crashed(Signal::SIGSEGV, false),
    },
    Ending {
        name: "a division by zero",
        body: |mark| {
            mark.now();
            raw::divide_by_zero();
            1
        },
        told: Told::Crashed(Signal::SIGFPE, false),
    },
    Ending {
        name: "an illegal instruction",
        body: |mark| {
            mark.now();
            raw::illegal_instruction();
            1
        },
        told: Told::Crashed(Signal::SIGILL, false),
    },
    Ending {
        name: "a read beyond the end of a mapped file",
        body: |mark| {
            mark.now();
            raw::bus_error();
            1
        },
        told: Told::Crashed(Signal::SIGBUS, false),
    },
    Ending {
        name: "abort on another thread",
        body: |mark| {
            mark.now();
            elsewhere(|| process::abort())
        },
        told: Told::Crashed(Signal::SIGABRT, false),
    },
    Ending {
        name: "a null pointer on another thread",
        body: |mark| {
            mark.now();
            elsewhere(raw::read_null)
        },
        told: Told::Crashed(Signal::SIGSEGV, false),
    },
    Ending {
        name: "SIGKILL",
        body: |mark| {
            mark.now();
            kill(getpid(), Signal::SIGKILL).unwrap();
            raw::pause()
        },
        told: Told::Crashed(Signal::SIGKILL, false),
    },
    Ending {
        name: "SIGTERM",
        body: |mark| {
            mark.now();
            kill(getpid(), Signal::SIGTERM).unwrap();
            raw::pause()
        },
        told: Told::Crashed(Signal::SIGTERM, false),
    },
    Ending {
        name: "SIGSEGV sent by a process",
        body: |mark| {
            mark.now();
            kill(getpid(), Signal::SIGSEGV).unwrap();
            raw::pause()
        },
        told: Told::Crashed(Signal::SIGSEGV, false),
    },
];

/// The stack is used up: the kernel says SIGSEGV, std says a line and aborts.
pub(crate) const OVERFLOWS: [Ending; 2] = [
    Ending {
        name: "a stack overflow",
        body: |mark| {
            mark.now();
            raw::overflow_stack(0) as i32
        },
        told: Told::Overflowed,
    },
    Ending {
        name: "a stack overflow on another thread",
        body: |mark| {
            mark.now();
            elsewhere(|| assert_ne!(raw::overflow_stack(0), 1))
        },
        told: Told::Overflowed,
    },
];

pub(crate) const EXITS: &[Ending] = &[
    Ending {
        name: "exit(0)",
        body: |mark| {
            mark.now();
            process::exit(0)
        },
        told: Told::Exited(0),
    },
    Ending {
        name: "exit(3)",
        body: |mark| {
            mark.now();
            process::exit(3)
        },
        told: Told::Exited(3),
    },
    Ending {
        name: "exit(3) on another thread",
        body: |mark| {
            mark.now();
            elsewhere(|| process::exit(3))
        },
        told: Told::Exited(3),
    },
    Ending {
        name: "_exit(0)",
        body: |mark| {
            mark.now();
            raw::exit_now(0)
        },
        told: Told::Exited(0),
    },
    Ending {
        name: "_exit(3)",
        body: |mark| {
            mark.now();
            raw::exit_now(3)
        },
        told: Told::Exited(3),
    },
    Ending {
        name: "_exit(4)",
        body: |mark| {
            mark.now();
            raw::exit_now(4)
        },
        told: Told::Exited(4),
    },
    Ending {
        name: "_exit(101) on another thread",
        body: |mark| {
            mark.now();
            elsewhere(|| raw::exit_now(101))
        },
        told: Told::Exited(101),
    },
];

pub(crate) const RETURNS: &[Ending] = &[
    Ending {
        name: "a negative number",
        body: |mark| {
            mark.now();
            -15
        },
        told: Told::Value(-15),
    },
    Ending {
        name: "0",
        body: |mark| {
            mark.now();
            0
        },
        told: Told::Value(0),
    },
    Ending {
        name: "1",
        body: |mark| {
            mark.now();
            1
        },
        told: Told::Value(1),
    },
    Ending {
        name: "3",
        body: |mark| {
            mark.now();
            3
        },
        told: Told::Value(3),
    },
    Ending {
        name: "a panic that the body catches",
        body: |mark| {
            mark.now();
            match std::panic::catch_unwind(|| panic!("caught")) {
                Ok(()) => 1,
                Err(_) => 5,
            }
        },
        told: Told::Value(5),
    },
    Ending {
        name: "a panic on another thread that is seen and dropped",
        body: |mark| {
            mark.now();
            i32::from(thread::spawn(|| panic!("joined")).join().is_err()) + 5
        },
        told: Told::Value(6),
    },
    Ending {
        name: "a panic on another thread that nobody joins",
        body: |mark| {
            let (ready, is_ready) = std::sync::mpsc::channel::<()>();
            let doomed = thread::spawn(move || {
                let _ready = ready;
                panic!("never joined")
            });
            // Hung up: the thread unwinds.
            let _ = is_ready.recv();
            drop(doomed);
            mark.now();
            7
        },
        told: Told::Value(7),
    },
];

/// Every ending there is.
fn everything() -> impl Iterator<Item = &'static Ending> {
    all().chain(const { &OVERFLOWS }).chain(const { &[DOUBLE_PANIC] })
}

/// Every ending that gives no value.
pub(crate) fn failures() -> impl Iterator<Item = &'static Ending> {
    everything().filter(|ending| !matches!(ending.told, Told::Value(_)))
}

/// Every ending that says what it is by itself.
pub(crate) fn all() -> impl Iterator<Item = &'static Ending> {
    [PANICS, CRASHES, EXITS, RETURNS].into_iter().flatten()
}

/// One ending of each kind, for tests about something else.
pub(crate) fn sample() -> impl Iterator<Item = &'static Ending> {
    [&PANICS[0], &CRASHES[0], &CRASHES[1], &CRASHES[7], &EXITS[1], &EXITS[4], &RETURNS[0]].into_iter()
}

/// The same in a host whose children are reaped by the kernel: one that ends in silence before the library has a
/// descriptor for it takes its status along, and then the call says so.
#[track_caller]
pub(crate) fn check_sample_without_statuses(start: Start) {
    let mark = Mark::new();
    for ending in sample() {
        let result = ending.call(start, &mark);
        match result.as_ref().map_err(TimedOut::reason) {
            // The fork server knows the statuses of its own children.
            Err(Reason::Lost { why, .. }) if start == Start::Fork && ending.name.starts_with(['_', 'S']) => {
                assert!(why.contains("status"), "{why}");
            }
            _ => ending.told.check(ending.name, &result),
        }
    }
    let brief = start.call(std::time::Duration::from_millis(30));
    let error = start.run(&brief, (), |()| raw::pause()).unwrap_err();
    assert!(error.is_late(), "{error:?}");
}

/// Makes one call of each kind, a late one among them, and checks what comes of each.
#[track_caller]
pub(crate) fn check_sample(start: Start) {
    let mark = Mark::new();
    sample().for_each(|ending| ending.check(start, &mark));
    let brief = start.call(std::time::Duration::from_millis(30));
    let error = start.run(&brief, (), |()| raw::pause()).unwrap_err();
    assert!(error.is_late(), "{error:?}");
    let large: Vec<u32> = (0..300_000).collect();
    assert_eq!(start.run(&start.call(super::LONG), large.clone(), |large| large).unwrap(), large);
}
