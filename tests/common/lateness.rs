//! How late calls are that are cut off.

use std::time::{Duration, Instant};

use timeout_runtime::{Ran, Reason, TimedOut};

use super::{LONG, SOON, Start, assert_fails, median, raw, travel::Fun};

fn spin() -> i32 {
    let begin = Instant::now();
    while begin.elapsed() < LONG {
        std::hint::spin_loop();
    }
    1
}

/// Makes a call that is late; gives by how much.
#[track_caller]
pub(crate) fn lateness_of(limit: Duration, call: impl FnOnce() -> Result<i32, TimedOut>) -> Duration {
    let begin = Instant::now();
    let result = call();
    let elapsed = begin.elapsed();
    let error = assert_fails!(result, Reason::Late { .. }, Ran::Maybe | Ran::No);
    assert!(elapsed >= limit, "early: {elapsed:?} of {limit:?}");
    assert!(error.elapsed() >= limit && error.elapsed() <= elapsed, "{error:?}");
    elapsed - limit
}

/// Checks by how much bodies that sleep and bodies that spin are late, in the middle of several calls.
#[track_caller]
pub(crate) fn check_lateness(start: Start, bound: Duration) {
    for (name, function) in [("sleeps", raw::pause as fn() -> i32), ("spins", spin)] {
        for (millis, rounds) in [(5, 20), (50, 15), (300, 7)] {
            let limit = Duration::from_millis(millis);
            let call = start.call(limit);
            let body = |Fun(body): Fun<i32>| body();
            let one = || lateness_of(limit, || start.run(&call, Fun(function), body));
            let times: Vec<_> = (0..rounds).map(|_| one()).collect();
            let (worst, median) = (*times.iter().max().unwrap(), median(times));
            println!("a body that {name}, {millis} ms: {median:?} late, {worst:?} at the worst");
            assert!(worst < SOON && median < bound, "{name}, {millis} ms: {median:?} late, {worst:?} at the worst");
        }
    }
}
