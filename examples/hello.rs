//! The whole idea: an endless call is cut, a good one returns its value.
//!
//! `cargo run --example hello`

use std::time::Instant;

use timeout_runtime::{TimedOut, timeout};

/// Halves an even number and triples an odd one until it is 1; for 0 that never happens.
#[timeout(0.5)]
fn steps_to_one(mut number: u64) -> u32 {
    let mut steps = 0;
    while number != 1 {
        number = if number.is_multiple_of(2) { number / 2 } else { 3 * number + 1 };
        steps += 1;
    }
    steps
}

fn main() -> Result<(), TimedOut> {
    println!("27 takes {} steps", steps_to_one(27)?);

    let begin = Instant::now();
    match steps_to_one(0) {
        Ok(steps) => println!("0 takes {steps} steps"),
        Err(error) => println!("{error}; {} ms had passed", begin.elapsed().as_millis()),
    }

    println!("and the program goes on: 97 takes {} steps", steps_to_one(97)?);
    Ok(())
}
