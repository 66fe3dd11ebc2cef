//! A body that eats memory and one that burns CPU time are cut, each with its reason, while the caller lives on.
//!
//! `cargo run --example memory`

use std::hint::black_box;

use timeout_runtime::{Call, Reason, Resource, TimedOut, timeout};

/// A decompression bomb: a few bytes that say they are very many. Without a bound it would take the whole machine along.
#[timeout(10, memory = "64MiB")]
fn unpack(announced: usize) -> usize {
    let mut page = Vec::new();
    while page.len() < announced {
        page.extend_from_slice(&[0; 4096]);
    }
    page.len()
}

/// The time on the wall says little about a busy machine; CPU time is what a body has really had.
#[timeout(10, cpu = 200ms)]
fn search(last: u64) -> u64 {
    (0..last).fold(0u64, |sum, number| black_box(sum.wrapping_add(number)))
}

/// What a program would decide by.
fn kind(error: &TimedOut) -> &'static str {
    match error.reason() {
        Reason::OutOf(Resource::Memory) => "out of memory",
        Reason::OutOf(Resource::Cpu) => "out of CPU time",
        _ => "something else",
    }
}

fn main() {
    let hungry = unpack(1 << 40).expect_err("there is not so much");
    println!("{:16}{hungry}", kind(&hungry));
    assert_eq!(kind(&hungry), "out of memory");

    let busy = search(u64::MAX).expect_err("that takes too long");
    println!("{:16}{busy}", kind(&busy));
    assert_eq!(kind(&busy), "out of CPU time");
    let used = busy.usage().expect("the child had begun").cpu();
    println!("{:16}it was cut after {used:?}", "");

    // Within their bounds both return, and the caller has not noticed anything.
    println!("{:16}{:?}, {:?}", "fine", unpack(1 << 20), search(1000));
    let (sum, usage) = Call::new(10).run_measured(|| (0..10_000_000u64).map(black_box).sum::<u64>()).expect("a sum");
    println!("{:16}{sum} took {:?} of CPU time", "measured", usage.cpu());
}
