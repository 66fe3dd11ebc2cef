//! A library that is loaded by a program which knows nothing of it: another process of that program would not have it.

use std::ffi::c_int;

use timeout_runtime::{Call, Reason, forkserver};

/// Tries whatever needs a fork server, and a call by `fork`; gives a bit for each that ended as it must.
#[unsafe(no_mangle)]
pub extern "C" fn try_everything(_: *const c_int) -> c_int {
    let is_refused = |result: Result<i32, timeout_runtime::TimedOut>| {
        result.is_err_and(|error| matches!(error.reason(), Reason::NotStarted(_)))
    };
    let outcomes = [
        forkserver::start(10).is_err(),
        is_refused(Call::new(10).run_in_server(7, |number| number)),
        Call::new(10).run(|| 7).is_ok_and(|number| number == 7),
    ];
    outcomes.into_iter().fold(0, |bits, outcome| bits << 1 | c_int::from(outcome))
}
