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
use timeout_runtime::timeout;

mod tools;

use tools::{MIB, Times, Touched, bare_fork, forked};

fn main() {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores; times in microseconds; the ratio is of the medians, to the bare row above\n");

    if !env::args().any(|argument| argument == "late") {
        costs();
    }
    println!(
        "\n| late by | rounds | median | p99 | earliest | a bare sleep: median | p99 |\n|---|---|---|---|---|---|---|"
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

    println!("\n| a `Vec<u8>` as result | median | p99 | ratio |\n|---|---|---|---|");
    results("1 MiB", MIB, 300);
    results("64 MiB", 64 * MIB, 15);
}

// ---- Calls ----------------------------------------------------------------------------------------------------------

#[timeout(10)]
fn eight_bytes() -> u64 {
    black_box(7)
}

fn small_calls(host: &str, rounds: usize) {
    let (mut bare, mut timed) = (Times::default(), Times::default());
    for _ in 0..rounds {
        bare.measure(bare_fork);
        apart();
        timed.measure(|| assert_eq!(eight_bytes().expect("a call"), 7));
        apart();
    }
    bare.row(&format!("bare fork, {host}"), &bare);
    timed.row(&format!("timed call, {host}"), &bare);
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

fn results(name: &str, size: usize, rounds: usize) {
    let (mut raw, mut timed) = (Times::default(), Times::default());
    for _ in 0..rounds {
        raw.measure(|| assert_eq!(raw_bytes(size).len(), size));
        apart();
        timed.measure(|| assert_eq!(bytes(size).expect("a call").len(), size));
        apart();
    }
    raw.row(&format!("{name}, raw over a 64 KiB pipe"), &raw);
    timed.row(&format!("{name}, timed call"), &raw);
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
    lateness_of(&format!("sleeping child, {machine}"), LIMIT, 300, || drop(sleeps()));
    lateness_of(&format!("spinning child, {machine}"), LIMIT, 300, || drop(spins()));
    lateness_of(&format!("child with 1 GiB dirtied, {machine}"), LIMIT_TO_DIRTY, 36, || drop(dirties_a_gibibyte()));
}

/// How late a call is, and in turn with it a bare sleep, of a thread that has nothing to do when it wakes: that is the
/// machine's part.
///
/// A virtual machine whose time is taken for others is not idle. So the second row is of those rounds, as many as are
/// asked for if that takes no more than twice as many, in which nothing was taken.
fn lateness_of(name: &str, limit: Duration, rounds: usize, call: impl Fn()) {
    let (mut late, mut bare) = (Late::default(), Late::default());
    let mut total = 0;
    while late.undisturbed.0.len() < rounds && total < 2 * rounds {
        total += 1;
        late.measure(limit, &call);
        // A gibibyte takes its time to be given back.
        thread::sleep(limit / 5);
        bare.measure(LIMIT, || thread::sleep(LIMIT));
    }
    let early = if late.is_early { "EARLY" } else { "not early" };
    for (name, late, bare) in
        [(name, late.all, bare.all), ("the same, no time taken from the machine", late.undisturbed, bare.undisturbed)]
    {
        let rounds = late.0.len();
        let [late, bare] = [late, bare].map(|times| (times.at(0.5), times.at(0.99)));
        println!("| {name} | {rounds} | {:.0} | {:.0} | {early} | {:.0} | {:.0} |", late.0, late.1, bare.0, bare.1);
    }
}

/// How late something was, of all times and of those when no time was taken from the machine.
#[derive(Default)]
struct Late {
    all: Times,
    undisturbed: Times,
    is_early: bool,
}

impl Late {
    fn measure(&mut self, limit: Duration, work: impl FnOnce()) {
        /// What is taken is told in hundredths of a second: so long a time shows what is taken from a short one.
        const LEAD: Duration = Duration::from_millis(50);
        let begin = Instant::now();
        let before = thread::spawn(move || {
            thread::sleep(limit.saturating_sub(LEAD));
            taken()
        });
        work();
        let took = begin.elapsed();
        thread::sleep(LEAD / 5);
        let is_undisturbed = before.join().expect("a look at what is taken") == taken();
        let late = took.saturating_sub(limit);
        self.is_early |= took < limit;
        self.all.0.push(late);
        if is_undisturbed {
            self.undisturbed.0.push(late);
        }
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
