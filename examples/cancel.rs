//! A `Cancel` token ends calls from other threads: two searches race, and the first to arrive calls the other off.
//!
//! `cargo run --example cancel`

use std::{thread, time::Instant};

use timeout_runtime::{Cancel, Reason, TimedOut, timeout};

const PRODUCT: u64 = 995_000_029 * 1_005_000_047;

/// Looks for a factor in the order given. The token is an argument, as the call is made with it.
#[timeout(60, cancel = token)]
fn search(mut candidates: impl Iterator<Item = u64>, token: &Cancel) -> Option<u64> {
    candidates.find(|factor| PRODUCT.is_multiple_of(*factor))
}

/// Searches and, when the search is over, ends every call made with the same token.
fn race(name: &str, candidates: impl Iterator<Item = u64>, token: &Cancel) -> Result<Option<u64>, TimedOut> {
    let begin = Instant::now();
    let result = search(candidates, token);
    let elapsed = begin.elapsed().as_millis();
    match &result {
        Ok(factor) => println!("{name}  {elapsed:4} ms  {factor:?}"),
        Err(error) => println!("{name}  {elapsed:4} ms  {error}"),
    }
    result.inspect(|_| token.cancel())
}

fn main() {
    let token = Cancel::new();
    let (up, down) = thread::scope(|scope| {
        let up = scope.spawn(|| race("upwards  ", 2..=PRODUCT.isqrt(), &token));
        let down = race("downwards", (2..=PRODUCT.isqrt()).rev(), &token);
        (up.join().expect("the other thread"), down)
    });
    assert_eq!(down.expect("the shorter way"), Some(995_000_029));
    assert!(matches!(up.expect_err("the longer way").reason(), Reason::Cancelled));
}
