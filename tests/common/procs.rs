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
    pids.map(Pid::from_raw).filter(|pid| is_tagged(*pid, tag)).collect()
}

fn is_tagged(pid: Pid, tag: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.windows(tag.len()).any(|window| window == tag.as_bytes())
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
    name.starts_with(b"timeout-runtime: fork server")
        && system_call(pid).is_some_and(|number| [libc::SYS_recvmsg, libc::SYS_poll].contains(&number))
}

/// Waits until no other process of this scenario runs, for at most `bound`; gives how long that took.
#[track_caller]
pub(crate) fn assert_alone_within(bound: Duration) -> Duration {
    assert_alone_after(Instant::now(), bound)
}

/// The same, as counted from `begin`.
#[track_caller]
pub(crate) fn assert_alone_after(begin: Instant, bound: Duration) -> Duration {
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

/// The state letter of a process, and its parent; `None` when it is gone.
fn state_and_parent(pid: Pid) -> Option<(char, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    Some((fields.next()?.chars().next()?, Pid::from_raw(fields.next()?.parse().ok()?)))
}

/// The state letter of a process; `None` when it is gone.
pub(crate) fn state(pid: Pid) -> Option<char> {
    state_and_parent(pid).map(|(state, _)| state)
}

/// Whether a process can still run code of its own.
pub(crate) fn runs(pid: Pid) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// Whether a process runs, or is a corpse that somebody in this scenario has to reap. That of an orphan is for whoever
/// adopts orphans on this machine, and some of those take seconds, or never do.
fn is_left(pid: Pid) -> bool {
    match state_and_parent(pid) {
        None => false,
        Some(('Z' | 'X', parent)) => parent == getpid() || is_tagged(parent, &scenario::tag()),
        Some(_) => true,
    }
}

/// Whether a process waits in the middle of writing to a descriptor.
pub(crate) fn writes(pid: Pid) -> bool {
    system_call(pid).is_some_and(|number| [libc::SYS_write, libc::SYS_writev].contains(&number))
}

/// The system call that a process waits in.
fn system_call(pid: Pid) -> Option<libc::c_long> {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    call.split_whitespace().next()?.parse().ok()
}

/// Waits until none of `pids` runs, nor is a corpse of this scenario's, for at most `bound`.
#[track_caller]
pub(crate) fn assert_gone_within(pids: &[Pid], bound: Duration) {
    assert_none_within(pids, is_left, bound);
}

/// Waits until none of `pids` runs, for at most `bound`: where a corpse is kept on purpose.
#[track_caller]
pub(crate) fn assert_dead_within(pids: &[Pid], bound: Duration) {
    assert_none_within(pids, runs, bound);
}

#[track_caller]
fn assert_none_within(pids: &[Pid], is_left: fn(Pid) -> bool, bound: Duration) {
    let begin = Instant::now();
    loop {
        let elapsed = begin.elapsed();
        let left: Vec<_> = pids.iter().copied().filter(|pid| is_left(*pid)).collect();
        if left.is_empty() {
            return;
        }
        assert!(elapsed < bound, "still there after {elapsed:?}: {}", describe(&left));
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
