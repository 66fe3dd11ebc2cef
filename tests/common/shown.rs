//! What a failure shows of where it happened.

use timeout_runtime::{Backtrace, TimedOut};

/// The backtrace of any failure that has one.
pub(crate) fn backtrace(error: &TimedOut) -> &Backtrace {
    error.backtrace().unwrap_or_else(|| panic!("no backtrace in {error:?}"))
}

/// The functions of the thread in question, the innermost first.
pub(crate) fn functions(backtrace: &Backtrace) -> Vec<&str> {
    backtrace.frames().iter().filter_map(|frame| frame.function()).collect()
}

/// Checks that a function was under way, and that nothing is shown but the body's affair.
#[track_caller]
pub(crate) fn assert_shows(error: &TimedOut, function: &str) {
    let found = functions(backtrace(error)).into_iter().any(|name| name.ends_with(function));
    assert!(found, "{function} is not in\n{}", backtrace(error));
    // Neither how the library came there nor what the caller was doing.
    let ours = functions(backtrace(error)).into_iter().find(|name| {
        name.starts_with("timeout_runtime::") || name.contains("scenario::") || name.contains("start_thread")
    });
    assert_eq!(ours, None, "\n{}", backtrace(error));
}
