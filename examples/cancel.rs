//! A `Cancel` token ends calls from other threads: two searches race, and the first to arrive calls the other off.
//!
//! `cargo run --example cancel`

use std::{thread, time::Instant};

use timeout_runtime::{Call, Cancel, Reason, TimedOut};

const PRODUCT: u64 = 995_000_029 * 1_005_000_047;

/// Searches and, when the search is over, ends every call made with the same token.
fn race(name: &str, search: impl FnOnce() -> Option<u64>, token: &Cancel) -> Result<Option<u64>, TimedOut> {
    let begin = Instant::now();
    let result = Call::new(60).cancel(token).run(search);
    let elapsed = begin.elapsed().as_millis();
    match &result {
        Ok(factor) => println!("{name}  {elapsed:4} ms  {factor:?}"),
        Err(error) => println!("{name}  {elapsed:4} ms  {error}"),
    }
    result.inspect(|_| token.cancel())
}

fn upwards() -> Option<u64> {
    (2..=PRODUCT.isqrt()).find(|factor| PRODUCT.is_multiple_of(*factor))
}

fn downwards() -> Option<u64> {
    (2..=PRODUCT.isqrt()).rev().find(|factor| PRODUCT.is_multiple_of(*factor))
}

fn main() {
    let token = Cancel::new();
    let (up, down) = thread::scope(|scope| {
        let up = scope.spawn(|| race("upwards  ", upwards, &token));
        let down = race("downwards", downwards, &token);
        (up.join().expect("the other thread"), down)
    });
    assert_eq!(down.expect("the shorter way"), Some(995_000_029));
    assert!(matches!(up.expect_err("the longer way").reason(), Reason::Cancelled));
}
