//! Arguments on their way to a worker of the fork server: whole, or told as what kept them, and the body has not begun.

mod common;

use std::{
    process,
    time::{Duration, Instant},
};

use common::{LONG, SOON, Start, assert_fails, procs, raw};
use serde::{Deserialize, Deserializer, Serialize};
use timeout_runtime::{Call, Ran, Reason, Resource};

common::with_start_method!(started Forkserver [
    a_gigabyte_arrives_whole
    arguments_that_fail_are_lost_before_the_body
    arguments_that_panic_are_lost_before_the_body
    arguments_that_never_end_are_late_and_named
    arguments_that_need_too_much_memory_are_told_so
    arguments_that_crash_or_exit_are_told_so
    arguments_that_arrive_after_the_limit_are_late
    the_order_of_a_failed_call_is_nobody_elses
]);

fn a_gigabyte_arrives_whole(_: Start) {
    const SIZE: usize = 1 << 30;
    let mut bytes = vec![7u8; SIZE];
    bytes.iter_mut().enumerate().step_by(4093).for_each(|(at, byte)| *byte = (at / 4093) as u8);
    let result = Call::new(LONG).run_in_server(bytes, |bytes: Vec<u8>| {
        let marks = bytes.iter().enumerate().step_by(4093).all(|(at, byte)| *byte == (at / 4093) as u8);
        (bytes.len(), marks, bytes[1..4093].iter().all(|byte| *byte == 7))
    });
    assert_eq!(result.unwrap(), (SIZE, true, true));
    // The host holds the value and what it is packed into; the kernel has a socket's worth at a time.
    let peak = procs::status("VmHWM") << 10;
    assert!(peak < 5 * (SIZE as u64) / 2, "{peak} bytes");
}

/// An argument that does something else than arrive.
#[derive(Clone, Copy, Debug, Serialize)]
struct Argument(Deed);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Deed {
    Arrive,
    Fail,
    Panic,
    Loop,
    Allocate,
    Abort,
    Exit,
}

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Argument, D::Error> {
        match Deed::deserialize(deserializer)? {
            Deed::Arrive => Ok(Argument(Deed::Arrive)),
            Deed::Fail => Err(serde::de::Error::custom("it would rather not")),
            Deed::Panic => panic!("not with me"),
            Deed::Loop => loop {
                std::hint::spin_loop();
            },
            Deed::Allocate => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
                }
            }
            Deed::Abort => process::abort(),
            Deed::Exit => process::exit(3),
        }
    }
}

/// The body: it does not begin.
fn body(_: Argument) -> i32 {
    raw::pause()
}

/// What is said of arguments, and what is not: no hook has run, and the body has no part in it.
#[track_caller]
fn assert_names_arguments(text: &str) {
    assert!(text.contains("its arguments") && !text.contains("on_child"), "{text}");
}

fn arguments_that_fail_are_lost_before_the_body(_: Start) {
    let result = Call::new(LONG).run_in_server(Argument(Deed::Fail), body);
    let text = assert_fails!(result, Reason::Lost { .. }, Ran::No).to_string();
    assert!(text.contains("it would rather not"), "{text}");
    assert_names_arguments(&text);
}

fn arguments_that_panic_are_lost_before_the_body(_: Start) {
    let result = Call::new(LONG).run_in_server(Argument(Deed::Panic), body);
    let text = assert_fails!(result, Reason::Lost { .. }, Ran::No).to_string();
    assert!(text.contains("not with me") && text.contains("`Deserialize` panicked"), "{text}");
    assert_names_arguments(&text);
}

fn arguments_that_never_end_are_late_and_named(_: Start) {
    let (limit, begin) = (Duration::from_millis(100), Instant::now());
    let result = Call::new(limit).run_in_server(Argument(Deed::Loop), body);
    let elapsed = begin.elapsed();
    let text = assert_fails!(result, Reason::Late { .. }, Ran::No).to_string();
    assert!(elapsed >= limit && elapsed < SOON, "{elapsed:?}");
    assert_names_arguments(&text);
}

fn arguments_that_need_too_much_memory_are_told_so(_: Start) {
    let result = Call::new(LONG).memory(64 << 20).run_in_server(Argument(Deed::Allocate), body);
    let text = assert_fails!(result, Reason::OutOf(Resource::Memory), Ran::No).to_string();
    assert_names_arguments(&text);
}

fn arguments_that_crash_or_exit_are_told_so(_: Start) {
    let aborted = Call::new(LONG).run_in_server(Argument(Deed::Abort), body);
    assert_names_arguments(&assert_fails!(aborted, Reason::Crashed { signal: 6, .. }, Ran::No).to_string());
    let exited = Call::new(LONG).run_in_server(Argument(Deed::Exit), body);
    assert_names_arguments(&assert_fails!(exited, Reason::Exited { code: 3, .. }, Ran::No).to_string());
}

fn arguments_that_arrive_after_the_limit_are_late(_: Start) {
    // More than any socket carries in that time; the vector itself costs nothing, as nobody touches it before.
    let limit = Duration::from_millis(20);
    let bytes = vec![0u8; 1 << 30];
    let begin = Instant::now();
    let result = Call::new(limit).run_in_server(bytes, |bytes: Vec<u8>| bytes.len());
    assert_fails!(result, Reason::Late { .. }, Ran::No);
    // The arguments are packed in the host, whatever the limit.
    assert!(begin.elapsed() >= limit && begin.elapsed() < 2 * SOON, "{:?}", begin.elapsed());
}

fn the_order_of_a_failed_call_is_nobody_elses(_: Start) {
    for round in 0..20i32 {
        let call = Call::new(0.005);
        assert!(call.run_in_server(vec![0u8; 8 << 20], |_: Vec<u8>| raw::pause()).unwrap_err().is_late());
        assert_eq!(Call::new(LONG).run_in_server(round, |round: i32| round).unwrap(), round);
        let arrived = Call::new(LONG).run_in_server(Argument(Deed::Arrive), |argument: Argument| argument.0);
        assert_eq!(arrived.unwrap(), Deed::Arrive);
    }
}
