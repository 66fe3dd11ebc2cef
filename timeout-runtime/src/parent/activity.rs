//! What a thread of a child is doing, as the kernel tells it: that needs no help from the child.

use std::borrow::Cow;

use nix::{libc, unistd::Pid};

use crate::{
    report::Activity,
    sys::procfs::{Directory, File},
};

/// What tells what the main thread of a process is doing: opened ahead, and read when it matters.
pub(crate) struct Files {
    stat: File,
    syscall: File,
}

impl Files {
    /// `None` also where there is no room for both.
    pub(crate) fn open(threads: &Directory, process: Pid) -> Option<Files> {
        let file = |name| threads.file_of(process, name).ok();
        Some(Files { stat: file("stat")?, syscall: file("syscall")? })
    }

    /// `None` if the process is gone or may not be looked at.
    pub(crate) fn activity(&self) -> Option<Activity> {
        let state = state(&text(&self.stat, &mut [0; SHORT]))?;
        // Last, so that it is as fresh as can be.
        activity(state, &text(&self.syscall, &mut [0; SHORT]))
    }
}

/// The same for a process of which nothing is open, with one descriptor at a time.
pub(crate) fn of(process: Pid) -> Option<Activity> {
    let state = state(&text(&File::of_thread(process, process, "stat").ok()?, &mut [0; SHORT]))?;
    let mut buffer = [0; SHORT];
    let syscall = File::of_thread(process, process, "syscall");
    activity(state, &syscall.map_or(Cow::default(), |file| text(&file, &mut buffer)))
}

/// Whether a thread that was sent a signal will run its handler to the end, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Handling {
    /// It is asleep, stopped or gone, or it blocks the signal or has thrown the handler away.
    Never,
    /// It has taken the signal and does not block it, as the handler does: either the kernel is about to enter the handler,
    /// or this was a handler of the body's own.
    Perhaps,
    /// It is in the handler, or will be as soon as it gets a core.
    Surely,
}

/// What comes of a signal that a thread was sent.
pub(crate) fn handling(process: Pid, thread: Pid, signal: i32) -> Handling {
    let file = File::of_thread(process, thread, "status");
    file.map_or(Handling::Never, |file| handling_by(&text(&file, &mut [0; LONG]), signal))
}

/// The name of a thread.
pub(crate) fn name(threads: &Directory, thread: Pid) -> Option<String> {
    let file = threads.file_of(thread, "comm").ok()?;
    Some(text(&file, &mut [0; SHORT]).trim_end().to_owned())
}

/// More than one line of these has.
const SHORT: usize = 512;

/// More than a list of these has.
const LONG: usize = 4 << 10;

/// What a file says now; nothing if it cannot be read any more.
fn text<'a>(file: &File, buffer: &'a mut [u8]) -> Cow<'a, str> {
    file.read(buffer).map_or(Cow::default(), String::from_utf8_lossy)
}

/// The state in `/proc/<pid>/stat`, counted from behind the name, which may contain anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

fn activity(state: char, syscall: &str) -> Option<Activity> {
    match state {
        'R' => Some(Activity::Running),
        'T' | 't' => Some(Activity::Stopped),
        'S' | 'D' | 'I' => Some(in_syscall(syscall)),
        _ => None,
    }
}

/// Reads `/proc/<pid>/syscall`: a number and its arguments in hexadecimal.
fn in_syscall(line: &str) -> Activity {
    let mut words = line.split_whitespace();
    let Some(number) = words.next().and_then(|word| word.parse::<libc::c_long>().ok()) else {
        // Not to be read, or it woke up in between.
        return Activity::Waiting;
    };
    let argument = |index: usize| {
        let word = words.clone().nth(index)?;
        u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
    };
    match number {
        libc::SYS_futex => match argument(1).map(|operation| operation & FUTEX_COMMAND) {
            // FUTEX_WAIT, FUTEX_LOCK_PI, FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_LOCK_PI2 (linux/futex.h)
            Some(0 | 6 | 9 | 11 | 13) => Activity::Futex,
            _ => Activity::Waiting,
        },
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep => Activity::Sleeping,
        libc::SYS_wait4 | libc::SYS_waitid => Activity::WaitingForProcess,
        number => match name_of(number) {
            // A descriptor is 32 bits; what is above them is not looked at by the kernel.
            Some((name, true)) => Activity::Syscall { name, fd: argument(0).map(|fd| fd as u32 as i32) },
            Some((name, false)) => Activity::Syscall { name, fd: None },
            None => Activity::Waiting,
        },
    }
}

/// Without the flags for private words and clocks.
const FUTEX_COMMAND: u64 = 127;

/// Makes the table of system calls that wait: by name, those first whose first argument is a descriptor.
macro_rules! syscalls {
    (fd: $($fd:ident)*; other: $($other:ident)*; x86_64 only: $($old:ident)*) => {
        fn name_of(number: libc::c_long) -> Option<(&'static str, bool)> {
            // `SYS_` and the name, as in the C library's header.
            const PREFIX: usize = 4;
            $(if number == libc::$fd {
                return Some((&stringify!($fd)[PREFIX..], true));
            })*
            $(if number == libc::$other {
                return Some((&stringify!($other)[PREFIX..], false));
            })*
            $(#[cfg(target_arch = "x86_64")]
            if number == libc::$old {
                return Some((&stringify!($old)[PREFIX..], false));
            })*
            None
        }
    };
}

syscalls! {
    fd: SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_recvfrom SYS_recvmsg
        SYS_recvmmsg SYS_sendto SYS_sendmsg SYS_sendmmsg SYS_accept SYS_accept4 SYS_connect SYS_flock SYS_fcntl SYS_ioctl
        SYS_fsync SYS_fdatasync SYS_close SYS_splice SYS_sendfile SYS_epoll_pwait SYS_io_uring_enter SYS_getdents64;
    other: SYS_ppoll SYS_pselect6 SYS_openat SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_msgrcv SYS_msgsnd SYS_semtimedop
        SYS_mq_timedreceive SYS_io_getevents SYS_clone;
    x86_64 only: SYS_poll SYS_select SYS_open SYS_pause SYS_epoll_wait SYS_vfork
}

fn handling_by(status: &str, signal: i32) -> Handling {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    let is_in = |name: &str| {
        let set = field(name).and_then(|set| u64::from_str_radix(set, 16).ok());
        set.is_some_and(|set| set >> (signal - 1) & 1 == 1)
    };
    let state = field("State").and_then(|state| state.chars().next());
    match (is_in("SigPnd"), is_in("SigBlk"), state) {
        _ if !is_in("SigCgt") => Handling::Never,
        (true, false, Some('R')) => Handling::Surely,
        // What the handler needs of the program may have to be read from a disk.
        (false, true, Some('R' | 'D')) => Handling::Surely,
        (false, false, Some('R' | 'D')) => Handling::Perhaps,
        _ => Handling::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_by_its_number_and_arguments() {
        let futex = |operation: &str| format!("{} 0x7f00 {operation} 0x2 0x0 0x0 0x0 0x7ffd 0x7f00", libc::SYS_futex);
        for (line, expected) in [
            (format!("{} 0x3 0x55 0x1 0x0 0x0 0x0 0x7ffd 0x7f00\n", libc::SYS_read), "in read(fd 3)"),
            (format!("{} 0xffffffff00000007 0x55 0x1 0x0 0x0 0x0 0x1 0x2", libc::SYS_recvfrom), "in recvfrom(fd 7)"),
            (format!("{} 0x7ffd 0x1 0x0 0x0 0x0 0x0 0x1 0x2", libc::SYS_ppoll), "in ppoll"),
            (format!("{} 0x0 0x0 0x7ffd 0x7ffd 0x0 0x0 0x1 0x2", libc::SYS_clock_nanosleep), "sleeping"),
            (format!("{} 0xffffffff 0x0 0x0 0x0 0x0 0x0 0x1 0x2", libc::SYS_wait4), "waiting for a process"),
            (futex("0x80"), "waiting for a lock or for another thread"),
            (futex("0x189"), "waiting for a lock or for another thread"),
            // FUTEX_WAKE is no wait.
            (futex("0x81"), "waiting"),
        ] {
            assert_eq!(activity('S', &line).unwrap().to_string(), expected, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_still_waiting() {
        for line in ["", "running", "-1 0x7ffd 0x7f00", "99999 0x1", "0", "\u{0}\u{fffd}", "7 0xzz"] {
            assert!(activity('S', line).unwrap().to_string().contains(['w', 'i']), "{line:?}");
        }
        assert_eq!(activity('S', "running"), Some(Activity::Waiting));
    }

    #[test]
    fn the_state_decides_first() {
        assert_eq!(activity('R', "0 0x3"), Some(Activity::Running));
        assert_eq!(activity('T', "0 0x3"), Some(Activity::Stopped));
        assert_eq!(activity('Z', ""), None);
        assert_eq!(state("7 (a) b) c) R 1 2"), Some('R'));
        assert_eq!(state("7 (a"), None);
    }

    #[test]
    fn only_a_thread_that_can_take_the_signal_is_waited_for() {
        use Handling::{Never, Perhaps, Surely};
        let status = |state: &str, pending: bool, blocked: bool, caught: bool| {
            let set = |is_in: bool| if is_in { "0000000000400000" } else { "0000000000000000" };
            let (pending, blocked, caught) = (set(pending), set(blocked), set(caught));
            format!("Name:\tx\nState:\t{state} (x)\nSigPnd:\t{pending}\nSigBlk:\t{blocked}\nSigCgt:\t{caught}\n")
        };
        for (state, pending, blocked, caught, expected) in [
            // It waits for a core.
            ("R", true, false, true, Surely),
            // It is in the handler, or there it waits for a page.
            ("R", false, true, true, Surely),
            ("D", false, true, true, Surely),
            // It has taken it: the kernel writes the handler's frame, for which it may wait; or a handler of the body's own
            // has run.
            ("R", false, false, true, Perhaps),
            ("D", false, false, true, Perhaps),
            // The body blocks the signal, or has thrown the handler away.
            ("R", true, true, true, Never),
            ("R", false, false, false, Never),
            // It is stuck in the kernel, stopped, or sleeps where no handler is run.
            ("D", true, false, true, Never),
            ("T", true, false, true, Never),
            ("S", false, true, true, Never),
        ] {
            let status = status(state, pending, blocked, caught);
            assert_eq!(handling_by(&status, libc::SIGURG), expected, "{status}");
        }
        assert_eq!(handling_by("", libc::SIGURG), Never);
    }
}
