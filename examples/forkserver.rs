//! A host of 1 GiB with 16 threads that print: the same call by both start methods, side by side.
//!
//! `cargo run --release --example forkserver`

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use timeout_runtime::{TimedOut, timeout};

#[timeout(10)]
fn vowels_by_fork(text: &str) -> usize {
    text.chars().filter(|letter| "aeiou".contains(*letter)).count()
}

#[timeout(10, start = forkserver)]
fn vowels_by_forkserver(text: &str) -> usize {
    text.chars().filter(|letter| "aeiou".contains(*letter)).count()
}

/// The median time of some calls.
fn median(call: fn(&str) -> Result<usize, TimedOut>) -> Result<Duration, TimedOut> {
    let mut times = Vec::new();
    for _ in 0..20 {
        let begin = Instant::now();
        assert_eq!(call("neither of them copies the other")?, 11);
        times.push(begin.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

fn main() -> Result<(), TimedOut> {
    let mut gibibyte = vec![0u8; 1 << 30];
    gibibyte.iter_mut().step_by(4096).for_each(|byte| *byte = 1);

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..16 {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    println!("thread {number} prints");
                    thread::sleep(Duration::from_millis(50));
                }
            });
        }
        let first = Instant::now();
        let started = vowels_by_forkserver("a first call starts the server").map(|_| first.elapsed());
        let times = (started, median(vowels_by_forkserver), median(vowels_by_fork));
        is_over.store(true, Ordering::Relaxed);
        black_box(&gibibyte);
        let (first, forkserver, fork) = (times.0?, times.1?, times.2?);
        println!("\n1 GiB, 17 threads: fork {fork:?}, forkserver {forkserver:?} (its first call {first:?})");
        Ok(())
    })
}
