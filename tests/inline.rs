//! With `TIMEOUT_INLINE=1` a call is a plain call: a debugger that follows its caller follows the body.

mod common;

use std::{
    cell::Cell,
    convert::Infallible,
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    panic::{self, catch_unwind},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{LONG, assert_fails, raw, scenario, stdout::Turned, subscriber::subscriber};
use serde::{Deserialize, Serialize};
use timeout_runtime::{Call, Cancel, Ran, Reason, RemoteError, TimedOut, timeout};
use tracing::{Level, subscriber::with_default};

const VARIABLE: &str = "TIMEOUT_INLINE";

/// Turns functions into tests that run in a process of their own, with the variable set to a value.
macro_rules! with_variable {
    ($module:ident $value:literal [$($name:ident),* $(,)?]) => {
        mod $module {
            $(#[test]
            fn $name() {
                use crate::common::scenario::{here, run_as};
                let path = concat!(module_path!(), "::", stringify!($name));
                run_as(&here(), path, &[(super::VARIABLE, $value)], super::$name);
            })*
        }
    };
}

with_variable!(set "1" [
    the_body_runs_in_the_caller,
    the_variable_is_read_once,
    it_is_said_once_on_stderr,
    a_late_body_runs_on,
    the_value_is_given_as_it_is,
    an_error_is_given_as_it_is,
    what_was_used_is_told,
    mutable_arguments_are_changed,
    a_panic_is_printed_and_told,
    a_panic_goes_on_where_it_is_to_be_resumed,
    a_body_that_never_returns_may_panic,
    a_used_token_ends_a_call_that_has_not_begun,
    a_subscriber_is_told_of_no_process,
]);

with_variable!(set_to_zero "0" [the_body_runs_in_a_child]);
with_variable!(set_to_nothing "" [the_body_runs_in_a_child]);

#[timeout(60)]
fn process_and_thread() -> (u32, String) {
    (process::id(), format!("{:?}", thread::current().id()))
}

#[timeout(60, start = forkserver)]
fn served() -> (u32, String) {
    here()
}

/// Far less memory than any process has, and no CPU time to speak of.
#[timeout(60, memory = "1MiB", cpu = 1ms)]
fn beyond_all_bounds() -> (u32, String) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(50) {
        std::hint::black_box(vec![1u8; 64 << 20]);
    }
    here()
}

fn here() -> (u32, String) {
    (process::id(), format!("{:?}", thread::current().id()))
}

fn the_body_runs_in_the_caller() {
    assert_eq!(process_and_thread().unwrap(), here());
    assert_eq!(timeout_runtime::call(LONG, here).unwrap(), here());
    // And so does one in a body.
    assert_eq!(timeout_runtime::call(LONG, || process_and_thread().unwrap()).unwrap(), here());
    // So do those that a worker of the fork server would run, and none is started for them.
    assert_eq!(served().unwrap(), here());
    assert_eq!(Call::new(LONG).run_in_server((), |()| here()).unwrap(), here());
    // There is no limit of any kind.
    assert_eq!(beyond_all_bounds().unwrap(), here());
    let bounded = Call::new(LONG).memory(1 << 20).cpu(Duration::from_millis(1));
    assert_eq!(bounded.run(|| beyond_all_bounds().unwrap()).unwrap(), here());
    let changed = Cell::new(1);
    timeout_runtime::call(LONG, || changed.set(2)).unwrap();
    assert_eq!(changed.get(), 2);
}

fn the_body_runs_in_a_child() {
    let turned = Turned::to_file(2);
    let (pid, _) = process_and_thread().unwrap();
    assert_eq!(turned.end(), "");
    assert_ne!(pid, process::id());
}

fn the_variable_is_read_once() {
    assert_eq!(process_and_thread().unwrap(), here());
    raw::remove_variable(VARIABLE);
    assert_eq!(process_and_thread().unwrap(), here());
}

fn it_is_said_once_on_stderr() {
    let turned = Turned::to_file(2);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| process_and_thread().unwrap());
        }
    });
    process_and_thread().unwrap();
    let said = turned.end();
    assert_eq!(said, "timeout-runtime: TIMEOUT_INLINE is set: calls run in their caller, without a limit\n");
}

fn a_late_body_runs_on() {
    let long = Duration::from_millis(100);
    for limit in [Duration::ZERO, Duration::from_millis(1)] {
        let begin = Instant::now();
        let value = timeout_runtime::call(limit, || {
            thread::sleep(long);
            7
        });
        assert_eq!(value.unwrap(), 7);
        assert!(begin.elapsed() >= long);
    }
}

/// A type whose value cannot cross.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Stays(#[serde(serialize_with = "refuse")] u8);

fn refuse<S: serde::Serializer>(_value: &u8, _serializer: S) -> Result<S::Ok, S::Error> {
    Err(serde::ser::Error::custom("refused"))
}

fn the_value_is_given_as_it_is() {
    assert_eq!(timeout_runtime::call(LONG, || Stays(7)).unwrap(), Stays(7));
    let text = String::from("where it lies");
    let place = text.as_ptr() as usize;
    let text = timeout_runtime::call(LONG, move || text).unwrap();
    assert_eq!(text.as_ptr() as usize, place);
}

#[derive(Serialize, Deserialize)]
struct Game {
    moves: u32,
}

impl Game {
    #[timeout(60)]
    fn play(&mut self, log: &mut Vec<String>, cells: &mut [u8], fails: bool) -> usize {
        self.moves += 1;
        log.push(format!("move {}", self.moves));
        cells.reverse();
        assert!(!fails, "the game is lost");
        log.len()
    }
}

fn an_error_is_given_as_it_is() {
    #[timeout(LONG)]
    fn fails(trace: &mut Vec<u32>) -> io::Result<u8> {
        trace.push(process::id());
        Err(io::Error::other("no"))
    }

    #[timeout(LONG, flatten)]
    fn fails_flat() -> io::Result<u32> {
        Ok(process::id())
    }

    let mut trace = Vec::new();
    let error = fails(&mut trace).unwrap().unwrap_err();
    assert_eq!((error.to_string().as_str(), trace.as_slice()), ("no", &[process::id()][..]));
    // A copy from another process would hold a stand-in.
    assert!(error.get_ref().is_some_and(|inner| !inner.is::<RemoteError>()));
    assert_eq!(fails_flat().unwrap(), process::id());
    let result = Call::new(LONG).run_result(|| -> io::Result<u32> { Ok(process::id()) });
    assert_eq!(result.unwrap().unwrap(), process::id());
}

fn what_was_used_is_told() {
    let body = || {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(60) {}
        process::id()
    };
    let (pid, usage) = Call::new(LONG).run_measured(body).unwrap();
    assert_eq!(pid, process::id());
    // Something of a core, on any machine.
    assert!(usage.cpu() > Duration::from_millis(1) && usage.peak_memory() > 0, "{usage:?}");
}

fn mutable_arguments_are_changed() {
    let mut game = Game { moves: 0 };
    let (mut log, mut cells) = (vec![], [1, 2, 3]);
    assert_eq!(game.play(&mut log, &mut cells, false).unwrap(), 1);
    assert_eq!((game.moves, &*log, cells), (1, &["move 1".to_owned()][..], [3, 2, 1]));
    // A body that panics has changed them, too.
    assert!(game.play(&mut log, &mut cells, true).unwrap_err().is_panic());
    assert_eq!((game.moves, log.len(), cells), (2, 2, [1, 2, 3]));
}

/// Counts the panics that the program's hook sees while `act` runs.
fn panics_seen<T>(act: impl FnOnce() -> T) -> (T, usize) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        assert!(info.location().is_some_and(|place| place.file() == file!()));
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    let result = act();
    panic::set_hook(before);
    (result, seen.load(Ordering::SeqCst))
}

fn a_panic_is_printed_and_told() {
    let (result, seen) = panics_seen(|| timeout_runtime::call(LONG, || -> u8 { panic!("number {}", 7) }));
    let error =
        assert_fails!(result, Reason::Panicked { message, location: None, .. } if message == "number 7", Ran::Yes);
    assert_eq!(error.to_string(), "`inline::a_panic_is_printed_and_told` panicked: number 7");
    assert_eq!(error.called_from().file(), file!());
    assert_eq!(seen, 1);
}

fn a_panic_goes_on_where_it_is_to_be_resumed() {
    let call = Call::new(LONG).resume_panics();
    let (result, seen) = panics_seen(|| catch_unwind(|| call.run(|| -> u8 { panic::panic_any(7u8) })));
    assert_eq!(result.unwrap_err().downcast_ref::<u8>(), Some(&7), "the payload should be the body's own");
    assert_eq!(seen, 1);
}

#[timeout(60)]
fn serve() -> ! {
    panic!("out of order")
}

fn a_body_that_never_returns_may_panic() {
    let result: Result<Infallible, TimedOut> = serve();
    assert_fails!(result, Reason::Panicked { message, .. } if message == "out of order", Ran::Yes);
}

fn a_used_token_ends_a_call_that_has_not_begun() {
    let cancel = Cancel::new();
    let call = Call::new(LONG).cancel(&cancel);
    let value = call.run(|| {
        cancel.cancel();
        7
    });
    assert_eq!(value.unwrap(), 7);
    let begun = Mutex::new(false);
    let result = call.run(|| *begun.lock().unwrap() = true);
    assert_fails!(result, Reason::Cancelled, Ran::No);
    assert!(!begun.into_inner().unwrap());
}

fn a_subscriber_is_told_of_no_process() {
    let (writer, reader) = subscriber(Level::TRACE, |_| ());
    let error = with_default(writer, || timeout_runtime::call(LONG, || -> u8 { panic!("inside") }).unwrap_err());
    let told = reader.take();
    let [span, event] = &*told else { panic!("{told:?}") };
    assert!(span.is_span && span.is_closed, "{span:?}");
    assert_eq!((event.fields.text("reason"), event.fields.text("pid")), ("panicked", ""));
    assert_eq!(event.fields.text("message"), error.to_string());
}

/// Only the superuser can make a program that runs with the rights of another; what such a program decides is tested
/// without one beside the code.
#[test]
fn a_set_uid_program_ignores_the_variable() {
    const NOBODY: u32 = 65534;
    let copy = std::env::temp_dir().join(format!("timeout-suite-set-uid-{}", process::id()));
    let mut program = scenario::here();
    if raw::is_root() && !raw::has_foreign_rights() {
        raw::copy_program(&program, &copy);
        chown(&copy, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
        program.clone_from(&copy);
    }
    let path = "inline::a_set_uid_program_ignores_the_variable";
    let result = catch_unwind(|| {
        scenario::run_as(&program, path, &[(VARIABLE, "1")], || match raw::has_foreign_rights() {
            true => the_body_runs_in_a_child(),
            false => the_body_runs_in_the_caller(),
        })
    });
    let _ = fs::remove_file(copy);
    result.unwrap_or_else(|panic| panic::resume_unwind(panic));
}
