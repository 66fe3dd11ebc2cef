//! A grace lets a late body end by itself: one that listens to SIGTERM tidies up and hands in the best it has; one that
//! is deaf to it is killed when the grace is over.
//!
//! `cargo run --example grace`

use std::{
    env,
    f64::consts::PI,
    fs,
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use signal_hook::{consts::SIGTERM, flag};
use timeout_runtime::timeout;

/// Looks for a fraction close to π, for ever. If it listens, it gives the closest so far when it is asked to end.
#[timeout(0.4, grace = 0.4)]
fn fraction_of_pi(scratch: &Path, listens: bool) -> (u64, u64) {
    // The handler is set in the child; the caller's stay as they are.
    let asked_to_end = Arc::new(AtomicBool::new(false));
    flag::register(SIGTERM, Arc::clone(&asked_to_end)).expect("a handler of SIGTERM");
    fs::write(scratch, "half a result").expect("a scratch file");

    let (mut closest, mut least) = ((3, 1), f64::INFINITY);
    let mut denominator = 1;
    while !(listens && asked_to_end.load(Ordering::Relaxed)) {
        let numerator = (PI * denominator as f64).round();
        let distance = (PI - numerator / denominator as f64).abs();
        if distance < least {
            (closest, least) = ((numerator as u64, denominator), distance);
        }
        denominator += 1;
    }

    fs::remove_file(scratch).expect("the scratch file");
    closest
}

fn main() {
    let scratch = env::temp_dir().join(format!("grace-example-{}", process::id()));
    for (name, listens) in [("listens", true), ("is deaf", false)] {
        let begin = Instant::now();
        let result = fraction_of_pi(&scratch, listens);
        let elapsed = begin.elapsed().as_millis();

        assert_eq!(result.is_ok(), listens, "{result:?}");
        match result {
            Ok((p, q)) => println!("{name}: {elapsed} ms, {p} / {q} = {:.15}", p as f64 / q as f64),
            Err(error) => println!("{name}: {elapsed} ms, {error}"),
        }
        // A killed process leaves its files where they are: that is for the caller.
        match fs::remove_file(&scratch) {
            Ok(()) => println!("         its scratch file had stayed"),
            Err(_) => println!("         its scratch file was gone"),
        }
    }
}
