//! What a timed call costs beside a bare fork, all in one run: `cargo bench -p timeout-suite`. With `--bench overhead -- late`
//! it is only measured how late a call is.
//!
//! The bare loop is `pipe2`, `fork`, an 8-byte write, `poll`, `read` and `waitpid`, and nothing else. Whatever is compared
//! is interleaved call by call, so that a noisy machine disturbs both alike: read the ratios. Nothing here asserts a time.

#![expect(unsafe_code, reason = "the bare fork to compare with, and memory of a known page size")]

use std::{
    env, fs,
    hint::black_box,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    unistd::{read, write},
};
use timeout_runtime::{Reason, TimedOut, timeout};

mod tools;

use tools::{MIB, Times, Touched, bare_fork, forked};

fn main() {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores; times in microseconds; the ratio is of the medians, to the bare row above\n");

    if !env::args().any(|argument| argument == "late") {
        costs();
    }
    println!(
        "\n| late by | rounds | median | p99 | a bare sleep: rounds | median | p99 |\n|---|---|---|---|---|---|---|"
    );
    lateness("idle");
    let busy: Vec<Busy> = (0..cores).map(|_| Busy::new()).collect();
    lateness("all cores busy");
    drop(busy);
}

fn costs() {
    println!("| a call that returns 8 bytes | median | p99 | ratio |\n|---|---|---|---|");
    small_calls("small host", 1500);
    back_to_back("small host, back to back with its reap", 20);
    let gibibyte = Touched::new(1024 * MIB);
    small_calls("host with 1 GiB in 4 KiB pages", 15);
    drop(gibibyte);

    println!("\n| a large result | median | p99 | ratio |\n|---|---|---|---|");
    results("1 MiB", MIB, 300);
    results("64 MiB", 64 * MIB, 15);
}

// ---- Calls ----------------------------------------------------------------------------------------------------------

#[timeout(10)]
fn eight_bytes() -> u64 {
    black_box(7)
}

#[timeout(10, grace = 1, memory = "1GiB", cpu = 10)]
fn eight_bytes_bounded() -> u64 {
    black_box(7)
}

fn small_calls(host: &str, rounds: usize) {
    let (mut bare, mut timed, mut bounded) = (Times::default(), Times::default(), Times::default());
    for _ in 0..rounds {
        bare.measure(bare_fork);
        apart();
        timed.measure(|| assert_eq!(eight_bytes().expect("a call"), 7));
        apart();
        bounded.measure(|| assert_eq!(eight_bytes_bounded().expect("a call"), 7));
        apart();
    }
    bare.row(&format!("bare fork, {host}"), &bare);
    timed.row(&format!("timed call, {host}"), &bare);
    bounded.row(&format!("with grace, memory and cpu, {host}"), &bare);
}

fn back_to_back(host: &str, rounds: usize) {
    const CALLS: u32 = 100;
    let (mut bare, mut timed) = (Times::default(), Times::default());
    for _ in 0..rounds {
        bare.measure(|| (0..CALLS).for_each(|_| bare_fork()));
        timed.measure(|| {
            for _ in 0..CALLS {
                eight_bytes().expect("a call");
            }
            wait_until_dead();
        });
    }
    let (bare, timed) = (divide(&bare, CALLS), divide(&timed, CALLS));
    bare.row(&format!("bare fork, {host}"), &bare);
    timed.row(&format!("timed call, {host}"), &bare);
}

fn divide(times: &Times, by: u32) -> Times {
    Times(times.0.iter().map(|time| *time / by).collect())
}

/// Leaves what runs behind a call the time to end, so that it does not count for the next.
fn apart() {
    wait_until_dead();
    thread::sleep(Duration::from_micros(500));
}

/// Waits until no child is left alive. Reaping the last one is a matter of some microseconds, but may be done up to 2 ms
/// later, by a thread that looks no more often.
fn wait_until_dead() {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while waitid(Id::All, flags) == Ok(WaitStatus::StillAlive) {
        thread::sleep(Duration::from_micros(50));
    }
}

// ---- Results --------------------------------------------------------------------------------------------------------

#[timeout(60)]
fn bytes(size: usize) -> Vec<u8> {
    vec![black_box(7); size]
}

#[timeout(60)]
fn text(size: usize) -> String {
    "7".repeat(black_box(size))
}

#[timeout(60)]
fn numbers(size: usize) -> Vec<u64> {
    vec![black_box(7); size / size_of::<u64>()]
}

fn results(name: &str, size: usize, rounds: usize) {
    /// Makes a call whose result has so many bytes; gives how many have come.
    type Fetch = fn(usize) -> usize;
    let calls: [(&str, Fetch); 3] = [
        ("Vec<u8>", |size| bytes(size).expect("a call").len()),
        ("String", |size| text(size).expect("a call").len()),
        ("Vec<u64>", |size| numbers(size).expect("a call").len() * size_of::<u64>()),
    ];
    let (mut raw, mut timed) = (Times::default(), calls.map(|_| Times::default()));
    for _ in 0..rounds {
        raw.measure(|| assert_eq!(raw_bytes(size).len(), size));
        apart();
        for ((_, call), timed) in calls.iter().zip(&mut timed) {
            timed.measure(|| assert_eq!(call(size), size));
            apart();
        }
    }
    raw.row(&format!("{name}, `Vec<u8>`, raw over a 64 KiB pipe"), &raw);
    for ((kind, _), timed) in calls.iter().zip(timed) {
        timed.row(&format!("{name}, `{kind}`, timed call"), &raw);
    }
}

/// A value through a plain pipe, its length known: built in the child, written, and read into one allocation.
fn raw_bytes(size: usize) -> Vec<u8> {
    let (ours, child) = forked(|theirs| {
        let value = vec![black_box(7u8); size];
        let mut rest = value.as_slice();
        while let Ok(written @ 1..) = write(theirs, rest) {
            rest = &rest[written..];
        }
    });
    let mut value = vec![0; size];
    let mut filled = 0;
    while filled < size {
        filled += read(&ours, &mut value[filled..]).expect("read");
    }
    waitpid(child, None).expect("waitpid");
    value
}

// ---- Lateness -------------------------------------------------------------------------------------------------------

const LIMIT: Duration = Duration::from_millis(50);
const LIMIT_TO_DIRTY: Duration = Duration::from_millis(1500);

#[timeout(LIMIT)]
fn sleeps() {
    thread::sleep(Duration::from_secs(60));
}

#[timeout(LIMIT)]
fn spins() {
    loop {
        black_box(());
    }
}

#[timeout(LIMIT_TO_DIRTY)]
fn dirties_a_gibibyte() {
    let touched = Touched::new(1024 * MIB);
    thread::sleep(Duration::from_secs(60));
    drop(touched);
}

fn lateness(machine: &str) {
    lateness_of(&format!("sleeping child, {machine}"), LIMIT, 300, sleeps);
    lateness_of(&format!("spinning child, {machine}"), LIMIT, 300, spins);
    lateness_of(&format!("child with 1 GiB dirtied, {machine}"), LIMIT_TO_DIRTY, 36, dirties_a_gibibyte);
}

/// How late a call is, and in turn with it a bare sleep, of a thread that has nothing to do when it wakes: that is the
/// machine's part.
///
/// A virtual machine whose time is taken for others is not idle. So the second row is of those rounds, as many as are
/// asked for if that takes no more than twice as many, in which nothing was taken.
fn lateness_of(name: &str, limit: Duration, rounds: usize, call: fn() -> Result<(), TimedOut>) {
    let (mut late, mut bare) = (Late::default(), Late::default());
    let (mut total, mut traces) = (0, 0);
    while late.undisturbed.0.len() < rounds && total < 2 * rounds {
        total += 1;
        let result = late.measure(limit, call);
        let has_trace = |reason: &Reason| matches!(reason, Reason::Late { stuck_at, .. } if !stuck_at.is_empty());
        traces += usize::from(result.is_err_and(|error| has_trace(error.reason())));
        // A gibibyte takes its time to be given back.
        thread::sleep(limit / 5);
        bare.measure(LIMIT, || thread::sleep(LIMIT));
    }
    let early = if late.is_early { "EARLY" } else { "not early" };
    late_row(&format!("{name}; {early}, {traces} with a trace"), &late.all, &bare.all);
    late_row("of these, no time taken from the machine", &late.undisturbed, &bare.undisturbed);
}

fn late_row(name: &str, late: &Times, bare: &Times) {
    let part = |times: &Times| format!("{} | {:.0} | {:.0}", times.0.len(), times.at(0.5), times.at(0.99));
    println!("| {name} | {} | {} |", part(late), part(bare));
}

/// How late something was, of all times and of those when no time was taken from the machine.
#[derive(Default)]
struct Late {
    all: Times,
    undisturbed: Times,
    is_early: bool,
}

impl Late {
    fn measure<T>(&mut self, limit: Duration, work: impl FnOnce() -> T) -> T {
        /// What is taken is told in hundredths of a second: so long a time shows what is taken from a short one.
        const LEAD: Duration = Duration::from_millis(50);
        let begin = Instant::now();
        let before = thread::spawn(move || {
            thread::sleep(limit.saturating_sub(LEAD));
            taken()
        });
        let done = work();
        let took = begin.elapsed();
        thread::sleep(LEAD / 5);
        let is_undisturbed = before.join().expect("a look at what is taken") == taken();
        let late = took.saturating_sub(limit);
        self.is_early |= took < limit;
        self.all.0.push(late);
        if is_undisturbed {
            self.undisturbed.0.push(late);
        }
        done
    }
}

/// The time that a hypervisor has taken from this machine's cores for others, as proc_stat(5) tells it.
fn taken() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().next()?.split_whitespace().nth(8)?.parse().ok()
}

// ---- Tools ----------------------------------------------------------------------------------------------------------

/// A process that keeps a core busy.
struct Busy(Child);

impl Busy {
    fn new() -> Busy {
        let shell = Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn();
        Busy(shell.expect("a shell"))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
