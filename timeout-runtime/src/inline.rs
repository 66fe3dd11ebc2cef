//! `TIMEOUT_INLINE=1` in the environment: every call runs its body in the caller, so that a debugger steps into it.
//!
//! A debugger follows one process, and a body that stands at a breakpoint is soon late. So there is no child then, and no
//! limit. A program that was started with more rights than its user has must not lose its limits by that user's wish,
//! and ignores the variable.

use std::{
    any::Any,
    env,
    ffi::OsStr,
    io::{Write, stderr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU8, Ordering},
};

use crate::sys::process;

/// The variable, read at the first call of the process and never again.
const VARIABLE: &str = "TIMEOUT_INLINE";

/// What the variable said. No lock: a fork of the host's own may come at any moment.
static SAID: AtomicU8 = AtomicU8::new(NOT_READ);

const NOT_READ: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;

/// Whether calls run in the caller.
pub(crate) fn is_on() -> bool {
    match SAID.load(Ordering::Relaxed) {
        NOT_READ => read(),
        said => said == ON,
    }
}

/// Has every call of this process and its children go the usual way. The variable was for a host that would have read it.
pub(crate) fn turn_off() {
    SAID.store(OFF, Ordering::Relaxed);
}

/// Runs a body here; gives its panic, which the host's hook has seen, if it does not return.
pub(crate) fn run<R>(body: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(body))
}

#[cold]
fn read() -> bool {
    let said = if is_asked_for(env::var_os(VARIABLE).as_deref(), process::has_foreign_rights()) { ON } else { OFF };
    match SAID.compare_exchange(NOT_READ, said, Ordering::Relaxed, Ordering::Relaxed) {
        // Only the first to read it says so. A closed stderr is no reason to fail.
        Ok(_) if said == ON => {
            let _ =
                writeln!(stderr(), "timeout-runtime: {VARIABLE} is set: calls run in their caller, without a limit");
        }
        Ok(_) => {}
        Err(first) => return first == ON,
    }
    said == ON
}

/// Anything but nothing and `0` is a yes.
fn is_asked_for(value: Option<&OsStr>, has_foreign_rights: bool) -> bool {
    value.is_some_and(|value| !value.is_empty() && value != "0") && !has_foreign_rights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_a_yes_and_nothing_and_zero_are_not() {
        for (value, is_yes) in [(Some("1"), true), (Some("yes"), true), (Some("0"), false), (Some(""), false)] {
            assert_eq!(is_asked_for(value.map(OsStr::new), false), is_yes, "{value:?}");
        }
        assert!(!is_asked_for(None, false));
    }

    #[test]
    fn a_program_with_foreign_rights_does_not_ask() {
        assert!(!is_asked_for(Some(OsStr::new("1")), true));
    }

    #[test]
    fn this_program_has_the_rights_of_its_user() {
        assert!(!process::has_foreign_rights());
    }
}
