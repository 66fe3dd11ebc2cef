//! What a body was doing when its time was over, in the words of the error text.

use std::{fmt, time::Duration};

/// What a thread was doing, as the kernel saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It had a core, or waited for one.
    Running,
    /// It slept until a certain time.
    Sleeping,
    /// It slept on a futex: what locks and signals between threads are made of.
    Futex,
    WaitingForProcess,
    /// It was in a system call that waits.
    Syscall {
        name: &'static str,
        fd: Option<i32>,
    },
    /// It slept in the kernel, and it is not known in which call.
    Waiting,
    /// Somebody had stopped it.
    Stopped,
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Activity::Running => f.write_str("running"),
            Activity::Sleeping => f.write_str("sleeping"),
            Activity::Futex => f.write_str("waiting for a lock or for another thread"),
            Activity::WaitingForProcess => f.write_str("waiting for a process"),
            Activity::Syscall { name, fd: Some(fd) } => write!(f, "in {name}(fd {fd})"),
            Activity::Syscall { name, fd: None } => write!(f, "in {name}"),
            Activity::Waiting => f.write_str("waiting"),
            Activity::Stopped => f.write_str("stopped"),
        }
    }
}

/// What a body was doing, and the CPU time that its process had had by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doing {
    pub(crate) activity: Option<Activity>,
    pub(crate) cpu: Option<Duration>,
}

/// What a futex was slept on for, by the functions on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Futex {
    Lock,
    Thread,
}

impl Futex {
    /// Tells it by the name of one function of std or the C library.
    pub(crate) fn by(function: &str) -> Option<Futex> {
        // A condition variable takes its lock again when it wakes, so threads come first.
        const THREAD: [&str; 8] = ["condvar", "pthread_cond", "park", "join", "mpmc", "mpsc", "barrier", "sem_wait"];
        const LOCK: [&str; 11] = [
            "mutex",
            "rwlock",
            "lock_contended",
            "reentrant",
            "once",
            "lll_lock",
            "malloc",
            "calloc",
            "realloc",
            "free",
            "pthread_rwlock",
        ];
        let function = function.to_ascii_lowercase();
        let is_one_of = |names: &[&str]| names.iter().any(|name| function.contains(name));
        match (is_one_of(&THREAD), is_one_of(&LOCK)) {
            (true, _) => Some(Futex::Thread),
            (_, true) => Some(Futex::Lock),
            _ => None,
        }
    }
}

/// A time in three digits or so: `1.98 s`, `12 ms`.
pub(crate) struct Rounded(pub(crate) Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            time if time >= Duration::from_secs(1) => write!(f, "{:.2} s", time.as_secs_f64()),
            time if time >= Duration::from_millis(1) => write!(f, "{} ms", time.as_millis()),
            time => write!(f, "{} µs", time.as_micros()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_told_from_a_thread_by_the_functions_that_wait() {
        for (function, expected) in [
            ("std::sys::sync::mutex::futex::Mutex::lock_contended", Some(Futex::Lock)),
            ("std::sync::poison::mutex::Mutex<T>::lock", Some(Futex::Lock)),
            ("std::sys::sync::once::futex::Once::wait", Some(Futex::Lock)),
            ("pthread_mutex_lock", Some(Futex::Lock)),
            ("std::sys::sync::condvar::futex::Condvar::wait_optional_timeout", Some(Futex::Thread)),
            ("std::thread::JoinHandle<T>::join", Some(Futex::Thread)),
            ("std::sync::mpmc::list::Channel<T>::recv", Some(Futex::Thread)),
            ("std::sys::pal::unix::futex::futex_wait", None),
            ("syscall", None),
        ] {
            assert_eq!(Futex::by(function), expected, "{function}");
        }
    }

    #[test]
    fn times_are_rounded() {
        for (micros, text) in [(1_984_000, "1.98 s"), (12_700, "12 ms"), (7, "7 µs")] {
            assert_eq!(Rounded(Duration::from_micros(micros)).to_string(), text);
        }
    }
}
