//! Looks at a child whose time is over, before it is killed: what it is doing, and where.
//!
//! The kernel is asked first, as that needs nothing of the child; then the child's threads are asked for their stacks,
//! and waited for as long as an answer may still come, but not for long. What they answer is data, and checked.

use std::{
    fs,
    io::Read,
    time::{Duration, Instant},
};

use nix::{
    libc,
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

use super::{activity, tree, worker::Worker};
use crate::{
    report::{Doing, Foreign, RawStack},
    sys::unwind,
    wire::{
        stage::Stage,
        trace::{Asked, Sheets, Sighting},
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
}

/// A thread that sleeps answers at once; one that has not by now is looked at.
const FIRST_LOOK: Duration = Duration::from_millis(2);

/// The longest wait for threads that wait for a core, after `ran`: a tenth of what the call has taken anyway.
fn patience(ran: Duration) -> Duration {
    (ran / 10).clamp(Duration::from_millis(5), Duration::from_millis(50))
}

/// Looks at a child that has `ran` for so long.
pub(crate) fn take(worker: &Worker, sheets: &Sheets, ran: Duration) -> Sample {
    let pid = worker.pid();
    let has_begun = worker.stage().is_none_or(|stage| stage >= Stage::Hooks);
    if !has_begun || !worker.is_alive() {
        return Sample::default();
    }
    let mut sample = Sample { doing: doing(pid), ..Sample::default() };
    let threads = threads(pid);
    let Some(asked) = sheets.ask(pid, &threads) else { return sample };
    wait(&asked, pid, patience(ran));
    let sightings = asked.sightings();
    drop(asked);

    if let Some(inner) = sightings.first().and_then(|first| innermost(pid, first)) {
        sample.doing = doing(inner);
    }
    sample.foreign = foreign(&sightings, pid);
    let stack_of = |sighting: Sighting| RawStack {
        is_body: sighting.thread == pid,
        thread: activity::name(pid, sighting.thread),
        frames: sighting.stacks.into_iter().map(|stack| stack.frames).collect(),
    };
    sample.stacks = sightings.into_iter().map(stack_of).collect();
    sample
}

/// What the main thread of a process is doing, and the time it has had.
fn doing(process: Pid) -> Doing {
    let cpu = clock_getcpuclockid(process).and_then(clock_gettime).ok().map(Duration::from);
    Doing { activity: activity::of(process, process), cpu }
}

/// The threads of a process, the main one first.
fn threads(process: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let numbers = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    let others = numbers.filter(|thread| *thread != process);
    std::iter::once(process).chain(others).collect()
}

/// Waits for the answers that may still come.
fn wait(asked: &Asked<'_>, process: Pid, patience: Duration) {
    let begin = Instant::now();
    let mut until = FIRST_LOOK;
    loop {
        let left = until.saturating_sub(begin.elapsed());
        if !left.is_zero() {
            if asked.wait(left) {
                return;
            }
            continue;
        }
        // A thread that blocks the signal, is stopped or stuck in the kernel will not answer.
        let is_coming = |(process, thread): (Pid, Pid)| activity::is_about_to_handle(process, thread, libc::SIGURG);
        let mut silent = asked.silent().into_iter().map(|thread| (process, thread));
        // With none silent, it is the answer of a process further in that is missing.
        let mut inner = tree::descendants(process).into_iter().map(|pid| (pid, pid));
        if begin.elapsed() >= patience || !(silent.any(is_coming) || inner.any(is_coming)) {
            return;
        }
        until = begin.elapsed() + FIRST_LOOK;
    }
}

/// The process of the innermost call, if what the answers say of it is true.
fn innermost(outermost: Pid, sighting: &Sighting) -> Option<Pid> {
    let processes: Vec<Pid> = sighting.stacks.iter().rev().map(|stack| stack.process).collect();
    let is_chain = processes.windows(2).all(|pair| tree::parent_of(pair[1]) == Some(pair[0]));
    (processes.len() > 1 && processes[0] == outermost && is_chain).then(|| processes[processes.len() - 1])
}

/// Names the modules that the child has loaded and this process has not.
fn foreign(sightings: &[Sighting], process: Pid) -> Vec<Foreign> {
    /// Where a process has mapped more than this, the rest is not looked at: it takes too long.
    const LONGEST: u64 = 256 << 10;
    let addresses = sightings.iter().flat_map(|sighting| &sighting.stacks).flat_map(|stack| &stack.frames);
    let unknown: Vec<u64> =
        addresses.copied().filter(|address| unwind::enclosing_function(*address).is_none()).collect();
    if unknown.is_empty() {
        return Vec::new();
    }
    let mut maps = Vec::new();
    if let Ok(file) = fs::File::open(format!("/proc/{process}/maps")) {
        let _ = file.take(LONGEST).read_to_end(&mut maps);
    }
    Foreign::find(&unknown, &String::from_utf8_lossy(&maps))
}
