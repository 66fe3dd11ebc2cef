//! Ends a child together with everything it started, without privileges and without a survivor.
//!
//! A group kill misses what called `setsid`, and a walk down the tree is outrun by whoever forks while it walks. But the
//! child is the subreaper of its descendants: every orphan becomes its child. Once it is *stopped* it neither forks nor
//! reaps, so its list of children only grows and no number in it is given away. When two readings of the list are equal
//! and everything in it is dead, nothing lives below the child: the topmost living descendant would be in the list.
//!
//! What this cannot reach: processes that changed their user, and those of a child that somebody else killed first.

use std::{
    fs, hint,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    sys::signal::{self, Signal},
    unistd::Pid,
};

use super::worker::Worker;
use crate::sys::{
    pidfd,
    sched::{self, Alarm},
};

/// How long the walk may take before the child is killed with what it has left.
const PATIENCE: Duration = Duration::from_millis(50);

/// Kills everything below the child, and the child. Its corpse is left to be reaped.
pub(crate) fn kill(worker: &mut Worker) {
    // The list takes a descriptor. Where the host has none left, the child's own is the one to give.
    if worker.pipe().try_clone_to_owned().is_err() {
        worker.give_up_descriptor();
    }
    worker.signal(Signal::SIGSTOP);
    kill_descendants(worker);
    // Only of our own: once it is reaped, its number may be another's.
    if worker.lives() {
        sched::keep_off_this_core(worker.pid());
    }
    worker.signal(Signal::SIGKILL);
    worker.signal_group(Signal::SIGKILL);
}

/// Asks the child and everything below it to end, stopped processes too.
pub(crate) fn terminate(worker: &Worker) {
    // The group first, in one call that nobody in it can outrun; then those that left it.
    for signal in [Signal::SIGTERM, Signal::SIGCONT] {
        worker.signal_group(signal);
    }
    let mut parents = vec![worker.pid()];
    while let Some(parent) = parents.pop() {
        for pid in children(parent).list {
            if group(pid).is_some_and(|group| group != worker.pid()) {
                signal_child(parent, pid, Signal::SIGTERM, false);
                signal_child(parent, pid, Signal::SIGCONT, false);
            }
            parents.push(pid);
        }
    }
}

fn kill_descendants(worker: &Worker) {
    let (begin, mut halt) = (Instant::now(), Halt::new());
    let mut dead: Vec<Pid> = Vec::new();
    let mut before: Option<Vec<Pid>> = None;
    let mut halted = worker.is_halted();
    while begin.elapsed() < PATIENCE {
        let Children { list, threads } = children(worker.pid());
        for &pid in list.iter().rev().filter(|pid| !dead.contains(pid)).collect::<Vec<_>>() {
            if signal_child(worker.pid(), pid, Signal::SIGKILL, halted) {
                dead.push(pid);
            }
        }
        let all_dead = list.iter().all(|pid| dead.contains(pid));
        // One thread's empty list is read at one moment; several lists, or a full one, take two equal readings.
        let sure = before.as_ref() == Some(&list) || (list.is_empty() && threads == 1);
        if halted && all_dead && sure {
            return;
        }
        before = (halted && all_dead).then_some(list);
        // Not before the first kills: a thread inside vfork stops only when the process it waits for is gone.
        if !halted {
            halted = halt.wait(worker);
        }
    }
}

/// Waits for the stop to take effect: the child has to be on a core for that.
struct Halt {
    alarm: Alarm,
    nap: Option<Duration>,
}

impl Halt {
    fn new() -> Halt {
        Halt { alarm: Alarm::set(), nap: None }
    }

    /// Waits a little, each time longer: whoever looks too often keeps the core that the child is waiting for.
    fn wait(&mut self, worker: &Worker) -> bool {
        match self.nap {
            // A child that slept on this core has it at once if it is left to it. Where others wait for it, too, all of them
            // would have their turn before this thread has another.
            None if sched::crowd() == 1 => thread::yield_now(),
            None => {}
            Some(nap) => self.alarm.during(|| thread::sleep(nap)),
        }
        // The first is hardly more than to lie down: a core that is left for longer falls asleep itself.
        self.nap = Some(self.nap.map_or(Duration::from_micros(5), |nap| (nap * 2).min(Duration::from_millis(2))));
        let begin = Instant::now();
        while !worker.is_halted() {
            if begin.elapsed() >= Duration::from_micros(20) {
                return false;
            }
            hint::spin_loop();
        }
        true
    }
}

/// Signals `pid` if it still is a child of `parent`; after a kill, tells whether it is dead. `held` says that `parent`
/// is stopped, so that the numbers of its children cannot be given away.
fn signal_child(parent: Pid, pid: Pid, signal: Signal, held: bool) -> bool {
    let pidfd = pidfd::open(pid);
    // The descriptor was opened by number: only if the number is that child's *now* was it that child's then.
    if !held && parent_of(pid) != Some(parent) {
        return false;
    }
    let sent = pidfd.as_ref().map_err(|errno| *errno).and_then(|pidfd| pidfd::signal(pidfd.as_fd(), signal));
    if sent.is_err_and(|errno| errno != Errno::ESRCH) {
        // No descriptors to be had, or no signals by them. By number a stranger could be hit only if the child ended,
        // was reaped and had its number given away since the line above.
        let _ = signal::kill(pid, signal);
    }
    signal == Signal::SIGKILL
        && match &pidfd {
            Ok(pidfd) => is_gone(pidfd, 2),
            Err(_) => state_of(pid).is_none_or(|state| state == 'Z' || state == 'X'),
        }
}

fn is_gone(pidfd: &impl AsFd, patience: u8) -> bool {
    poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], patience).is_ok_and(|ready| ready > 0)
}

/// The children of a process.
struct Children {
    /// Those of every thread, oldest first, living and dead. Empty without `/proc`.
    list: Vec<Pid>,
    /// How many threads' lists could be read.
    threads: usize,
}

fn children(pid: Pid) -> Children {
    // One descriptor at a time, as the host may have no more: an entry keeps its directory open.
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let tasks: Vec<_> = tasks.map(|task| task.path().join("children")).collect();
    let mut children = Children { list: Vec::new(), threads: 0 };
    for text in tasks.into_iter().filter_map(|task| fs::read_to_string(task).ok()) {
        children.list.extend(text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw));
        children.threads += 1;
    }
    children
}

/// Has what [`kill`] reads there before it is needed: the kernel makes entries of `/proc` when they are first looked for.
pub(crate) fn prepare(pid: Pid) {
    children(pid);
    sched::crowd();
}

/// The numbers of the processes below one, living and dead, of the levels that nested calls may have.
pub(crate) fn descendants(pid: Pid) -> Vec<Pid> {
    let mut found = children(pid).list;
    let mut seen = 0;
    while seen < found.len().min(16) {
        found.extend(children(found[seen]).list);
        seen += 1;
    }
    found
}

/// Whether the main thread of a process sleeps, as one that waits for a lock does.
pub(crate) fn is_asleep(pid: Pid) -> bool {
    state_of(pid) == Some('S')
}

/// Whether a process is stopped.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    matches!(state_of(pid), Some('T' | 't'))
}

/// The status of a corpse, as wait(2) gives it, where this process may see it.
pub(crate) fn code_of_corpse(pid: Pid) -> Option<i32> {
    if state_of(pid)? == 'Z' { stat_field(pid, 49)?.parse().ok() } else { None }
}

fn state_of(pid: Pid) -> Option<char> {
    stat_field(pid, 0)?.chars().next()
}

pub(crate) fn parent_of(pid: Pid) -> Option<Pid> {
    stat_field(pid, 1)?.parse().ok().map(Pid::from_raw)
}

fn group(pid: Pid) -> Option<Pid> {
    stat_field(pid, 2)?.parse().ok().map(Pid::from_raw)
}

/// A field of `/proc/<pid>/stat`, counted from behind the name, which may contain anything.
fn stat_field(pid: Pid, index: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(index).map(str::to_owned)
}
