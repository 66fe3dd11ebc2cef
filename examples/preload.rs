//! A table that takes long to make: made once in the fork server, and inherited by every worker.
//!
//! `cargo run --release --example preload`

use std::{sync::OnceLock, time::Instant};

use timeout_runtime::{forkserver, timeout};

/// The smallest divisor of every number below a few millions.
static DIVISORS: OnceLock<Vec<u32>> = OnceLock::new();

fn sieve() -> Vec<u32> {
    let mut divisors = vec![0; 4_000_000];
    for number in 2..divisors.len() {
        if divisors[number] == 0 {
            divisors[number..].iter_mut().step_by(number).filter(|it| **it == 0).for_each(|it| *it = number as u32);
        }
    }
    divisors
}

#[timeout(10, start = forkserver)]
fn factors(mut number: u32) -> Vec<u32> {
    // Without the preload each call would have to make it.
    let divisors = DIVISORS.get_or_init(sieve);
    let mut factors = Vec::new();
    while number > 1 {
        let divisor = divisors[number as usize];
        factors.push(divisor);
        number /= divisor;
    }
    factors
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    forkserver::preload(|| {
        DIVISORS.get_or_init(sieve);
    })?;

    let begin = Instant::now();
    forkserver::start(60)?;
    println!(
        "the server has made its table after {:?}; the host has none: {}",
        begin.elapsed(),
        DIVISORS.get().is_none()
    );

    for number in [3_628_800, 3_999_971, 1_048_576] {
        let begin = Instant::now();
        println!("{number} = {:?}, in {:?}", factors(number)?, begin.elapsed());
    }
    Ok(())
}
