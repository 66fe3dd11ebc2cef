//! What a thread of a child is doing, as the kernel tells it: that needs no help from the child.

use std::{fs, io::Read};

use nix::{libc, unistd::Pid};

use crate::report::Activity;

/// Looks at one thread; `None` if it is gone or may not be looked at.
pub(crate) fn of(process: Pid, thread: Pid) -> Option<Activity> {
    let file = |name: &str| read(&format!("/proc/{process}/task/{thread}/{name}"));
    let state = state(&file("stat")?)?;
    // Last, so that it is as fresh as can be.
    activity(state, file("syscall").as_deref().unwrap_or_default())
}

/// Whether a thread can be expected to run a handler soon: it has a core or waits for one, and does not block the signal.
pub(crate) fn is_about_to_run(process: Pid, thread: Pid, signal: i32) -> bool {
    let status = read(&format!("/proc/{process}/task/{thread}/status")).unwrap_or_default();
    can_run(&status, signal)
}

/// The name of a thread.
pub(crate) fn name(process: Pid, thread: Pid) -> Option<String> {
    let name = read(&format!("/proc/{process}/task/{thread}/comm"))?;
    Some(name.trim_end().to_owned())
}

/// The first few kilobytes of a file: more than any of these has.
fn read(path: &str) -> Option<String> {
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(8 << 10).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
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

fn can_run(status: &str, signal: i32) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    let is_in = |name: &str| {
        let set = field(name).and_then(|set| u64::from_str_radix(set, 16).ok());
        set.is_some_and(|set| set >> (signal - 1) & 1 == 1)
    };
    field("State").is_some_and(|state| state.starts_with('R')) && !is_in("SigBlk") && is_in("SigCgt")
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
    fn only_a_running_thread_that_takes_the_signal_is_waited_for() {
        let status = |state: &str, blocked: &str, caught: &str| {
            format!("Name:\tx\nState:\t{state}\nSigBlk:\t{blocked}\nSigIgn:\t0000000000000000\nSigCgt:\t{caught}\n")
        };
        let (none, urg) = ("0000000000000000", "0000000000400000");
        assert!(can_run(&status("R (running)", none, urg), libc::SIGURG));
        assert!(!can_run(&status("S (sleeping)", none, urg), libc::SIGURG));
        assert!(!can_run(&status("R (running)", urg, urg), libc::SIGURG));
        assert!(!can_run(&status("R (running)", none, none), libc::SIGURG));
        assert!(!can_run("", libc::SIGURG));
    }
}
