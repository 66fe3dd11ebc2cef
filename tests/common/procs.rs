//! Processes, as `/proc` shows them.

use std::{
    fs,
    sync::Mutex,
    time::{Duration, Instant},
};

use nix::{
    libc,
    unistd::{Pid, getpid},
};

use super::{raw, scenario};

/// Processes that the harness itself keeps.
static EXEMPT: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Has some processes never taken for left-overs.
pub(crate) fn exempt(pids: &[Pid]) {
    EXEMPT.lock().unwrap().extend(pids);
}

/// The running processes, stopped ones too, whose environment holds `tag`. Dead ones have none.
pub(crate) fn tagged(tag: &str) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(tag.len()).any(|window| window == tag.as_bytes())
    })
    .map(Pid::from_raw)
    .collect()
}

/// Every running process of this scenario but the calling one.
pub(crate) fn others() -> Vec<Pid> {
    let exempt = EXEMPT.lock().unwrap().clone();
    let mut pids = tagged(&scenario::tag());
    pids.retain(|pid| *pid != getpid() && !exempt.contains(pid) && !is_idle_server(*pid));
    pids
}

/// Whether a process is the fork server or one of its spares, and waits to be asked for something.
pub(crate) fn is_idle_server(pid: Pid) -> bool {
    let name = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split_whitespace().next().and_then(|number| number.parse().ok());
    name.starts_with(b"timeout-runtime: fork server")
        && number.is_some_and(|number: i64| [libc::SYS_recvmsg, libc::SYS_poll].contains(&number))
}

/// Waits until no other process of this scenario runs, for at most `bound`; gives how long that took.
#[track_caller]
pub(crate) fn assert_alone_within(bound: Duration) -> Duration {
    let begin = Instant::now();
    loop {
        // The time is taken before the look: a slow look at `/proc` is not held against anybody.
        let elapsed = begin.elapsed();
        let others = others();
        if others.is_empty() {
            return elapsed;
        }
        assert!(elapsed < bound, "still running after {elapsed:?}: {}", describe(&others));
    }
}

/// Waits until no process runs whose environment holds `tag`, for at most `bound`.
#[track_caller]
pub(crate) fn assert_none_tagged_within(tag: &str, bound: Duration) {
    let begin = Instant::now();
    loop {
        let elapsed = begin.elapsed();
        let left = tagged(tag);
        if left.is_empty() {
            return;
        }
        assert!(elapsed < bound, "still running after {elapsed:?}: {}", describe(&left));
    }
}

/// Waits until this process has no child, living, dying or dead, for at most `bound`. A dying one has no environment any
/// more by which it could be found, and takes as long as its memory is large.
#[track_caller]
pub(crate) fn assert_childless_within(bound: Duration) {
    let begin = Instant::now();
    while raw::has_children() {
        assert!(begin.elapsed() < bound, "still a child after {:?}", begin.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The state letter of a process; `None` when it is gone.
pub(crate) fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.trim_start().chars().next()
}

/// Whether a process can still run code of its own.
pub(crate) fn runs(pid: Pid) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// Waits until none of `pids` runs, for at most `bound`.
#[track_caller]
pub(crate) fn assert_gone_within(pids: &[Pid], bound: Duration) {
    let begin = Instant::now();
    loop {
        let elapsed = begin.elapsed();
        let left: Vec<_> = pids.iter().copied().filter(|pid| runs(*pid)).collect();
        if left.is_empty() {
            return;
        }
        assert!(elapsed < bound, "still running after {elapsed:?}: {}", describe(&left));
    }
}

/// Names, states and parents of some processes.
pub(crate) fn describe(pids: &[Pid]) -> String {
    let of = |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|_| format!("{pid} (gone)"));
    pids.iter().map(|pid| of(pid).split_whitespace().take(6).collect::<Vec<_>>().join(" ") + "; ").collect()
}

/// A number from `/proc/self/status`, such as `VmRSS` (in KiB).
pub(crate) fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The children of this process, living and dead.
pub(crate) fn children() -> Vec<Pid> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .map(Pid::from_raw)
        .collect()
}

/// How long a process has been on a core, in nanoseconds.
pub(crate) fn run_time(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    stat.split_whitespace().next().map_or(0, |nanoseconds| nanoseconds.parse().unwrap())
}
