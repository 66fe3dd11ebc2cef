//! Ends a child together with everything it started, without privileges and without a survivor.
//!
//! A group kill misses what called `setsid`, and a walk down the tree is outrun by whoever forks while it walks. But the
//! child is the subreaper of its descendants: every orphan becomes its child. Once it is *stopped* it neither forks nor
//! reaps, so its list of children only grows and no number in it is given away. When two readings of the list are equal
//! and everything in it is dead, nothing lives below the child: the topmost living descendant would be in the list.
//!
//! What this cannot reach: processes that changed their user, and those of a child that somebody else killed first.

use std::{
    collections::BTreeSet,
    hint,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    sys::signal::{self, Signal},
    unistd::{Pid, getpgid},
};

use super::{
    kin::{self, Children, children},
    worker::Worker,
};
use crate::sys::{
    pidfd,
    sched::{self, Alarm},
};

/// How long the walk may take before the child is killed with what it has left.
const PATIENCE: Duration = Duration::from_millis(50);

/// From how many children on they are taken for the corpses that somebody leaves behind who forks on and on.
const MANY: usize = 50;

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
    // Stopped and still in its group, it has had the group's signal. A second one would wait for that to be taken, which is
    // on another core.
    let was_halted = worker.is_halted();
    let is_sent = worker.signal_group(Signal::SIGKILL);
    if !(was_halted && is_sent && getpgid(Some(worker.pid())) == Ok(worker.pid())) {
        worker.signal(Signal::SIGKILL);
    }
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
            if kin::group(pid).is_some_and(|group| group != worker.pid()) {
                signal_child(parent, pid, Signal::SIGTERM, false);
                signal_child(parent, pid, Signal::SIGCONT, false);
            }
            parents.push(pid);
        }
    }
}

fn kill_descendants(worker: &Worker) {
    let (begin, mut halt) = (Instant::now(), Halt::new());
    let mut dead: BTreeSet<Pid> = BTreeSet::new();
    let mut count = 0;
    let mut before: Option<Vec<Pid>> = None;
    let mut halted = worker.is_halted();
    while begin.elapsed() < PATIENCE {
        let Children { list, threads } = children(worker.pid());
        if list.len() > count.max(MANY) {
            chase(worker, begin + PATIENCE, halted);
        }
        count = list.len();
        for pid in list.iter().rev() {
            if begin.elapsed() < PATIENCE
                && !dead.contains(pid)
                && signal_child(worker.pid(), *pid, Signal::SIGKILL, halted)
            {
                dead.insert(*pid);
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

/// Kills the youngest children until none comes after them. To look at all corpses takes tens of milliseconds, in which
/// one that forks on and on would be far away.
fn chase(worker: &Worker, end: Instant, halted: bool) {
    let mut before = Vec::new();
    while Instant::now() < end {
        let youngest = kin::youngest(worker.pid(), 4);
        if youngest == before {
            return;
        }
        for &pid in &youngest {
            signal_child(worker.pid(), pid, Signal::SIGKILL, halted);
        }
        before = youngest;
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
    if !held && kin::parent_of(pid) != Some(parent) {
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
            Err(_) => kin::is_dead(pid),
        }
}

fn is_gone(pidfd: &impl AsFd, patience: u8) -> bool {
    poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], patience).is_ok_and(|ready| ready > 0)
}

/// Has what [`kill`] reads there before it is needed: the kernel makes entries of `/proc` when they are first looked for.
pub(crate) fn prepare(pid: Pid) {
    children(pid);
    sched::crowd();
}
