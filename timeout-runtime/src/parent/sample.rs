//! Looks at a child whose time is over, before it is killed: what it is doing, and where.
//!
//! What does not depend on that moment is made ready shortly before, while the caller waits anyway. Then the kernel is
//! asked first, as that needs nothing of the child; then the child's threads are asked for their stacks, and waited for
//! as long as an answer may still come, but not for long. What they answer is data, and checked.

use std::{
    hint,
    time::{Duration, Instant},
};

use nix::{
    libc,
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

use super::{
    activity::{self, Handling},
    kin, tree,
    worker::Worker,
};
use crate::{
    report::{Activity, Doing, Foreign, RawStack, Usage},
    sys::{
        image,
        procfs::{self, Directory},
        sampler::Then,
        sched::{self, Alarm},
        sheet::SLOTS,
        unwind,
    },
    wire::{
        stage::Stage,
        trace::{Asked, Sighting},
    },
};

/// What a look at a child has shown.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub(crate) doing: Doing,
    /// The body's thread first, if it has answered.
    pub(crate) stacks: Vec<RawStack>,
    /// Where the addresses belong that are code in the child and not in this process.
    pub(crate) foreign: Vec<Foreign>,
    /// What the child says that it had used by then.
    pub(crate) usage: Option<Usage>,
}

/// What is ready for a look at a child.
pub(crate) struct Prepared {
    /// The body's thread first, with the names that they have.
    threads: Vec<(Pid, Option<String>)>,
    main: Option<activity::Files>,
}

/// A thread that sleeps answers at once; one that has not by now is looked at.
const FIRST_LOOK: Duration = Duration::from_millis(2);

/// How long at the most an answer is waited for that may come, of a tree with so many threads.
fn patience(handling: Handling, threads: usize) -> Duration {
    /// So many for each core have all had their turn when the shorter time is over.
    const FEW: usize = 4;
    /// A tree of more holds itself up, and is not to hold its caller up.
    const CROWD: Duration = Duration::from_millis(25);
    /// A few are held up by others, or by whoever runs this virtual machine, and so is all else here.
    const STARVED: Duration = Duration::from_millis(100);
    match handling {
        Handling::Never => Duration::ZERO,
        Handling::Surely if threads <= FEW * sched::cores() as usize => STARVED,
        Handling::Surely | Handling::Perhaps => CROWD,
    }
}

/// Makes a look at a child ready, and its threads quick to wake. It takes some 0.1 ms and asks nothing of the child.
pub(crate) fn prepare(worker: &Worker) -> Prepared {
    let pid = worker.pid();
    tree::prepare(pid);
    let Ok(directory) = Directory::of_threads(pid) else {
        return Prepared { threads: vec![(pid, None)], main: None };
    };
    let others = directory.numbers(SLOTS).into_iter().filter(|thread| *thread != pid);
    let threads = std::iter::once(pid).chain(others).map(|thread| (thread, activity::name(&directory, thread)));
    let threads: Vec<_> = threads.inspect(|(thread, _)| sched::hurry(*thread)).collect();
    Prepared { threads, main: activity::Files::open(&directory, pid) }
}

/// Looks at a child whose time is over; `then` is whether it goes on for its grace.
pub(crate) fn take(worker: &Worker, prepared: Prepared, alarm: &Alarm, then: Then) -> Sample {
    let pid = worker.pid();
    let has_begun = worker.stage().is_none_or(|stage| stage >= Stage::Hooks);
    if !has_begun || !worker.lives() {
        return Sample::default();
    }
    let Prepared { threads, main } = prepared;
    let activity = main.map_or_else(|| activity::of(pid), |main| main.activity());
    let mut sample = Sample { doing: Doing { activity, cpu: cpu(pid) }, ..Sample::default() };
    // The first of several that stops would keep the others from answering.
    let then = if threads.len() == 1 { then } else { Then::GoesOn };
    let Some(asked) = worker.origin().room.ask(pid, threads.iter().map(|(thread, _)| *thread), then) else {
        return sample;
    };
    if sample.doing.activity == Some(Activity::Running) {
        wait_awake(&asked);
    }
    wait(&asked, pid, threads.len(), alarm);
    let mut sightings = asked.sightings();
    drop(asked);

    sample.usage = sightings.first().and_then(|first| told(first, pid, sample.doing.cpu));
    if let Some(inner) = sightings.first().and_then(|first| innermost(pid, first)) {
        sample.doing = Doing { activity: activity::of(inner), cpu: cpu(inner) };
    }
    sample.foreign = match worker.foreign_code() {
        None => foreign(&sightings, pid),
        Some(code) => translate(&mut sightings, pid, code),
    };
    let name_of = |thread| threads.iter().find(|(other, _)| *other == thread).and_then(|(_, name)| name.clone());
    let stack_of = |sighting: Sighting| RawStack {
        is_body: sighting.thread == pid,
        thread: name_of(sighting.thread),
        frames: sighting.stacks.into_iter().map(|stack| stack.frames).collect(),
    };
    sample.stacks = sightings.into_iter().map(stack_of).collect();
    sample
}

/// The CPU time that a process has had.
fn cpu(process: Pid) -> Option<Duration> {
    clock_getcpuclockid(process).and_then(clock_gettime).ok().map(Duration::from)
}

/// Waits a moment for the answers of threads that compute, mostly on other cores: that is less than it takes to fall asleep
/// and be woken. One that slept is better off with this core.
fn wait_awake(asked: &Asked<'_>) {
    let begin = Instant::now();
    while !asked.is_answered() && begin.elapsed() < Duration::from_micros(200) {
        hint::spin_loop();
    }
}

/// Waits for the answers that may still come from a process of so many threads.
fn wait(asked: &Asked<'_>, process: Pid, threads: usize, alarm: &Alarm) {
    let begin = Instant::now();
    let mut until = FIRST_LOOK;
    loop {
        let left = until.saturating_sub(begin.elapsed());
        if !left.is_zero() {
            if alarm.during(|| asked.wait(left)) {
                return;
            }
            continue;
        }
        let handling = |thread| activity::handling(process, thread, libc::SIGURG);
        let silent = asked.silent().into_iter().map(handling).max();
        // With none silent, it is the answer of a process further in that is missing.
        let descendants = kin::descendants(process);
        let inner = descendants.iter().map(|pid| activity::handling(*pid, *pid, libc::SIGURG)).max();
        let best = silent.max(inner).unwrap_or(Handling::Never);
        if begin.elapsed() >= patience(best, threads + descendants.len()) {
            return;
        }
        until = begin.elapsed() + FIRST_LOOK;
    }
}

/// The process of the innermost call, if what the answers say of it is true.
fn innermost(outermost: Pid, sighting: &Sighting) -> Option<Pid> {
    let processes: Vec<Pid> = sighting.stacks.iter().rev().map(|stack| stack.process).collect();
    // One that the fork server has forked is a grandchild.
    let is_below = |pid, ancestor| {
        let parent = kin::parent_of(pid);
        parent == Some(ancestor) || parent.and_then(kin::parent_of) == Some(ancestor)
    };
    let is_chain = processes.windows(2).all(|pair| is_below(pair[1], pair[0]));
    (processes.len() > 1 && processes[0] == outermost && is_chain).then(|| processes[processes.len() - 1])
}

/// What the body's thread says that its process has used: no less than the kernel's own clock had shown just before.
fn told(sighting: &Sighting, process: Pid, cpu: Option<Duration>) -> Option<Usage> {
    /// The kernel tells it in whole microseconds.
    const ROUNDING: Duration = Duration::from_millis(1);
    let usage = sighting.usage.filter(|_| sighting.thread == process)?;
    let claimed = usage.user.saturating_add(usage.system).saturating_add(ROUNDING);
    (usage.peak_memory > 0 && cpu.is_some_and(|cpu| claimed >= cpu)).then_some(usage)
}

/// Names the modules that the child has loaded and this process has not.
fn foreign(sightings: &[Sighting], process: Pid) -> Vec<Foreign> {
    let addresses = sightings.iter().flat_map(|sighting| &sighting.stacks).flat_map(|stack| &stack.frames);
    find(addresses.copied().filter(|address| unwind::enclosing_function(*address).is_none()).collect(), process)
}

/// Gives the frames of a worker, in which the program's code begins at `code`, the addresses that they have here. What is
/// not the program's own lies elsewhere in each process: it is told by its module, or left out.
fn translate(sightings: &mut [Sighting], process: Pid, code: u64) -> Vec<Foreign> {
    let here = |address: u64| image::translate(address, code);
    let stacks = || sightings.iter().flat_map(|sighting| &sighting.stacks);
    let others = stacks().flat_map(|stack| &stack.frames).copied().filter(|address| here(*address).is_none());
    let foreign = find(others.collect(), process);
    let is_told = |address: u64| foreign.iter().any(|foreign| foreign.address == address).then_some(address);
    for stack in sightings.iter_mut().flat_map(|sighting| &mut sighting.stacks) {
        let frames = stack.frames.iter().filter_map(|address| here(*address).or_else(|| is_told(*address)));
        stack.frames = frames.collect();
    }
    foreign
}

/// Finds the modules of addresses in a process.
fn find(addresses: Vec<u64>, process: Pid) -> Vec<Foreign> {
    if addresses.is_empty() { Vec::new() } else { Foreign::find(&addresses, &procfs::maps(process)) }
}
