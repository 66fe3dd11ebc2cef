//! What a call by the fork server costs, beside the bare fork and beside a round trip to a process that is used again and
//! again: `cargo bench -p timeout-suite --bench forkserver`.
//!
//! What is compared in one row or with the row above is interleaved in short turns: read the ratios. The hosts of several
//! sizes come one after the other. Nothing here asserts a time.

#![expect(unsafe_code, reason = "the bare fork to compare with, and memory of a known page size")]

use std::{
    env,
    hint::black_box,
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::Command,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    unistd::{ForkResult, fork},
};
use timeout_runtime::timeout;

mod tools;

use tools::{MIB, Times, Touched, bare_fork};

#[timeout(30)]
fn by_fork(number: u64) -> u64 {
    black_box(number)
}

#[timeout(30, start = forkserver)]
fn by_server(number: u64) -> u64 {
    black_box(number)
}

#[timeout(30)]
fn bytes_by_fork(size: usize) -> Vec<u8> {
    vec![black_box(7); size]
}

#[timeout(30, start = forkserver)]
fn bytes_by_server(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// The argument that has this program make its first call, tell the microseconds that it took, and end.
const FIRST: &str = "first";

fn main() {
    if env::args().any(|argument| argument == FIRST) {
        let begin = Instant::now();
        by_server(1).expect("a first call");
        println!("{}", begin.elapsed().as_micros());
        return;
    }
    first();
    by_server(1).expect("a first call");
    let mut echo = Echo::start();

    println!(
        "| a call with 8 bytes each way, 0.5 ms apart | median | p99 | ratio to the bare fork |\n|---|---|---|---|"
    );
    let (bare, round, served) = small(&mut echo);
    let hosts = [(10, 1), (10, 64), (1024, 1), (1024, 64), (4096, 1), (4096, 64)];
    let medians = hosts.map(|(mebibytes, threads)| sized(mebibytes, threads, &bare));
    let [least, most] = [f64::min, f64::max].map(|choose| medians.into_iter().reduce(choose).unwrap_or(f64::NAN));
    println!(
        "\nA call by the fork server takes {:.1} times the round trip; in the host where it is slowest, {:.2} times what it \
         takes where it is fastest.",
        served.at(0.5) / round.at(0.5),
        most / least
    );
    println!("\n| calls per second | bare fork | fork server | ratio |\n|---|---|---|---|");
    [1, 2, 8].into_iter().for_each(sustained);
    println!("\n| 1 MiB | median | p99 | ratio |\n|---|---|---|---|");
    mebibyte();
    println!("\n| work of another thread of a host of 1 GiB, alone = 1 | median | half of all pairs |\n|---|---|---|");
    beside();
}

/// The first call of a program, which starts the server: of this one, run again and again.
fn first() {
    let program = env::current_exe().expect("this program");
    let mut times = Times::default();
    for _ in 0..15 {
        let output = Command::new(&program).arg(FIRST).output().expect("this program");
        let micros = String::from_utf8_lossy(&output.stdout).trim().parse().expect("microseconds");
        times.0.push(Duration::from_micros(micros));
    }
    let (median, most) = (times.at(0.5) / 1e3, times.at(1.0) / 1e3);
    println!(
        "first call of a program, with the start of the server: {median:.1} ms at the median, {most:.1} ms at most\n"
    );
}

/// Measures, and leaves what runs behind a call the time to end, so that it does not count for the next.
fn measure(times: &mut Times, work: impl FnOnce()) {
    times.measure(work);
    thread::sleep(Duration::from_micros(500));
}

/// In turns of some calls of a kind: every page of a host that forks is copied when it is next written to, and what the
/// forks of this benchmark leave behind must not count for the calls that are there to avoid it.
fn small(echo: &mut Echo) -> (Times, Times, Times) {
    const TURN: std::ops::Range<u64> = 0..25;
    let [mut bare, mut round, mut forked, mut served] = [(); 4].map(|()| Times::default());
    for _ in 0..60 {
        TURN.for_each(|_| measure(&mut bare, bare_fork));
        TURN.for_each(|_| measure(&mut round, || echo.ask()));
        TURN.for_each(|number| measure(&mut forked, || assert_eq!(by_fork(number).expect("a call"), number)));
        TURN.for_each(|number| measure(&mut served, || assert_eq!(by_server(number).expect("a call"), number)));
    }
    bare.row("bare fork, small host", &bare);
    round.row("round trip to a process used again and again", &bare);
    forked.row("`start = fork`, small host", &bare);
    served.row("`start = forkserver`, small host", &bare);
    (bare, round, served)
}

/// Gives the median of a call by the fork server.
fn sized(mebibytes: usize, threads: usize, bare: &Times) -> f64 {
    let _touched = Touched::new(mebibytes * MIB);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    thread::park_timeout(Duration::from_millis(500));
                }
            });
        }
        let (mut forked, mut served) = (Times::default(), Times::default());
        for number in 0..300 {
            measure(&mut served, || assert_eq!(by_server(number).expect("a call"), number));
            if number % 60 == 0 {
                measure(&mut forked, bare_fork);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let host = format!("{mebibytes} MiB and {threads} threads");
        served.row(&format!("`start = forkserver`, host of {host}"), bare);
        forked.row(&format!("bare fork, host of {host}"), bare);
        served.at(0.5)
    })
}

fn sustained(callers: usize) {
    let rate = |call: fn()| {
        let (calls, start) = (AtomicU64::new(0), Barrier::new(callers));
        let time = Duration::from_millis(1000);
        thread::scope(|scope| {
            for _ in 0..callers {
                scope.spawn(|| {
                    start.wait();
                    let begin = Instant::now();
                    while begin.elapsed() < time {
                        call();
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        calls.load(Ordering::Relaxed) as f64 / time.as_secs_f64()
    };
    let (mut bare, mut served) = (0.0, 0.0);
    for _ in 0..3 {
        bare += rate(bare_fork) / 3.0;
        served += rate(|| assert_eq!(by_server(1).expect("a call"), 1)) / 3.0;
    }
    println!("| {callers} callers | {bare:.0} | {served:.0} | {:.2} |", served / bare);
}

fn mebibyte() {
    let bytes = vec![3; MIB];
    let (mut forked, mut served) = (Times::default(), Times::default());
    for _ in 0..300 {
        measure(&mut forked, || assert_eq!(bytes_by_fork(MIB).expect("a call").len(), MIB));
        measure(&mut served, || assert_eq!(bytes_by_server(&bytes).expect("a call").len(), MIB));
    }
    forked.row("result, `start = fork`", &forked);
    served.row("argument and result, `start = forkserver`", &forked);
}

/// How much a thread gets done that writes through its memory, while another one calls ten times a second.
///
/// It is counted from call to call, in turns of a tenth of a second: one without a call, and one with. What else goes on in
/// the machine changes more slowly than that, so that it is the same for both of a pair, and the median is taken of pairs.
fn beside() {
    let touched = Touched::new(1024 * MIB);
    let (rounds, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let turn = |call: &dyn Fn()| {
        let (before, begin) = (rounds.load(Ordering::Relaxed), Instant::now());
        call();
        thread::sleep(Duration::from_millis(100).saturating_sub(begin.elapsed()));
        (rounds.load(Ordering::Relaxed) - before) as f64 / begin.elapsed().as_secs_f64()
    };
    let pairs = |count: usize, call: &dyn Fn()| {
        let mut ratios: Vec<_> = (0..count)
            .map(|index| match index % 2 {
                0 => 1.0 / (turn(&|| ()) / turn(call)),
                _ => turn(call) / turn(&|| ()),
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        (ratios[count / 2], ratios[count / 4], ratios[count * 3 / 4])
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut page = 0;
            while !is_over.load(Ordering::Relaxed) {
                (page..page + 64).for_each(|page| touched.write(page));
                page += 64;
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let served = pairs(60, &|| assert_eq!(by_server(1).expect("a call"), 1));
        let forked = pairs(20, &|| assert_eq!(by_fork(1).expect("a call"), 1));
        is_over.store(true, Ordering::Relaxed);
        for (name, (median, low, high)) in [("the fork server", served), ("fork", forked)] {
            println!("| while calls by {name} run, ten a second | {median:.3} | {low:.3} to {high:.3} |");
        }
    });
}

/// A process that answers whatever it is told.
struct Echo(UnixStream);

impl Echo {
    fn start() -> Echo {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        // SAFETY: this process has one thread.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { .. } => Echo(ours),
            ForkResult::Child => {
                drop(ours);
                let mut bytes = [0; 8];
                while theirs.read_exact(&mut bytes).and_then(|()| theirs.write_all(&bytes)).is_ok() {}
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) }
            }
        }
    }

    fn ask(&mut self) {
        self.0.write_all(&[7; 8]).expect("write");
        self.0.read_exact(&mut [0; 8]).expect("read");
    }
}
