//! Whose hook sees a panic, and how often it is printed.

mod common;

use std::{
    io::{Read, Write, pipe},
    panic::{self, AssertUnwindSafe, catch_unwind},
    process, thread,
    time::Duration,
};

use common::{LONG, Mark, Start, assert_fails, stdout::Turned};
use timeout_runtime::{Call, Ran, Reason};

common::scenarios_everywhere![
    a_panic_of_the_body_is_not_seen_by_the_hosts_hook_nor_printed,
    a_panic_that_is_raised_again_is_seen_and_printed_once,
    a_panic_of_another_thread_goes_to_the_hook_of_its_process,
    a_panic_that_the_body_catches_is_no_failure_and_not_printed,
    a_body_that_panics_beside_a_thread_in_the_panic_hook_is_told_truly,
];

/// Runs `act` under a panic hook of this process's own; gives what that has seen: the processes, and their messages.
fn witnessed<T>(act: impl FnOnce() -> T) -> (T, Vec<(u32, String)>) {
    let (mut read, write) = pipe().unwrap();
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let message = info.payload_as_str().unwrap_or("no text").lines().next().unwrap_or_default();
        let line = format!("{} {message}\n", process::id());
        (&write).write_all(line.as_bytes()).unwrap();
    }));
    let value = act();
    panic::set_hook(before);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    let seen = text.lines().map(|line| line.split_once(' ').unwrap());
    (value, seen.map(|(pid, message)| (pid.parse().unwrap(), message.to_owned())).collect())
}

/// Runs `act` and gives what it and its children have printed on stderr.
fn printed<T>(act: impl FnOnce() -> T) -> (T, String) {
    let turned = Turned::to_file(2);
    let value = act();
    (value, turned.end())
}

fn a_panic_of_the_body_is_not_seen_by_the_hosts_hook_nor_printed(start: Start) {
    let call = start.call(LONG);
    let panics = || start.run(&call, (), |()| -> u8 { panic!("the body's") });
    let (result, seen) = witnessed(panics);
    assert_fails!(result, Reason::Panicked { .. }, Ran::Yes);
    assert_eq!(seen, []);
    let (_, text) = printed(panics);
    assert_eq!(text, "");
    // The control: what panics here is seen and printed.
    let (_, seen) = witnessed(|| catch_unwind(|| panic!("the host's")));
    assert_eq!(seen, [(process::id(), "the host's".to_owned())]);
    let (_, text) = printed(|| catch_unwind(|| panic!("the host's")));
    assert_eq!(text.matches("the host's").count(), 1, "{text}");
}

fn a_panic_that_is_raised_again_is_seen_and_printed_once(start: Start) {
    let call = start.call(LONG).resume_panics();
    let panics = || catch_unwind(AssertUnwindSafe(|| start.run(&call, (), |()| -> u8 { panic!("passed on") })));
    let (caught, seen) = witnessed(panics);
    assert!(caught.is_err());
    assert_eq!(seen, [(process::id(), "passed on".to_owned())]);
    let (_, text) = printed(panics);
    assert_eq!(text.matches("passed on").count(), 1, "{text}");
    assert_eq!(text.matches(" panicked at ").count(), 1, "{text}");
}

fn a_panic_of_another_thread_goes_to_the_hook_of_its_process(start: Start) {
    let call = start.call(LONG);
    fn joins_one_that_panics() -> u32 {
        let _ = thread::spawn(|| panic!("another's")).join();
        process::id()
    }
    let joins = || start.run(&call, (), |()| joins_one_that_panics()).unwrap();
    let nested = || start.run(&call, (), |()| Call::new(LONG).run(joins_one_that_panics).unwrap()).unwrap();
    // A worker of the fork server has no copy of the host's hook, but std's.
    let seen_of = |pid| if start == Start::Fork { vec![(pid, "another's".to_owned())] } else { Vec::new() };
    for joins in [&joins as &dyn Fn() -> u32, &nested] {
        let (pid, seen) = witnessed(joins);
        assert_eq!(seen, seen_of(pid));
        let (_, text) = printed(joins);
        assert_eq!(text.matches("another's").count(), 1, "{text}");
    }
}

fn a_panic_that_the_body_catches_is_no_failure_and_not_printed(start: Start) {
    let call = start.call(LONG);
    let catches = || start.run(&call, (), |()| catch_unwind(|| panic!("caught")).is_err());
    let (result, seen) = witnessed(catches);
    assert!(result.unwrap() && seen.is_empty(), "{seen:?}");
    let (_, text) = printed(catches);
    assert_eq!(text, "");
}

fn a_body_that_panics_beside_a_thread_in_the_panic_hook_is_told_truly(start: Start) {
    let (inside, done) = (Mark::new(), Mark::new());
    let limit = Duration::from_secs(4);
    let (tell, wait) = (inside.again(), done.again());
    panic::set_hook(Box::new(move |_| {
        if thread::current().name() == Some("in the hook") {
            tell.now();
            wait.hear();
        }
    }));
    let result = thread::scope(|scope| {
        let stays = || assert!(catch_unwind(|| panic!("the host's")).is_err());
        thread::Builder::new().name("in the hook".into()).spawn_scoped(scope, stays).unwrap();
        inside.hear();
        let result = start.run(&start.call(limit), (), |()| -> u8 { panic!("the body's") });
        done.now();
        result
    });
    drop(panic::take_hook());
    let error = assert_fails!(result, Reason::Panicked { .. }, Ran::Yes);
    let Reason::Panicked { message, location, .. } = error.reason() else { unreachable!() };
    assert_eq!(message, "the body's");
    assert!(error.elapsed() < limit, "{error:?}");
    // A child that does without the hook does not know the place; a worker has no copy of its lock.
    assert_eq!(location.is_some(), start == Start::Forkserver, "{error:?}");
}
