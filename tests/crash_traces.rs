//! A body that crashed or panicked shows where, on whichever thread, and says what a crash was.

mod common;

use std::{
    hint::black_box,
    io::{Read, pipe},
    process, thread,
};

use common::{
    LONG, Mark, Start, assert_fails, endings, raw,
    shown::{assert_shows, backtrace, functions},
};
use nix::libc;
use timeout_runtime::{Ran, Reason, Resource};

// A crash and a panic in a worker show the program's own code alone: see `forkserver.rs`.
common::scenarios_by_fork![
    a_crash_shows_its_stack,
    a_crash_on_another_thread_shows_its_stack,
    an_overflow_shows_its_stack_and_std_says_its_line,
    a_failed_allocation_is_told_from_an_abort,
    a_panic_shows_its_stack_and_its_thread,
    a_panic_that_ends_in_an_abort_shows_its_stack,
];

fn a_crash_shows_its_stack(start: Start) {
    let crashes: [(fn(), &str, &str); 5] = [
        (raw::read_null, "raw::read_null", "SIGSEGV at address 0x0"),
        (raw::bus_error, "raw::bus_error", "SIGBUS at address 0x"),
        (raw::divide_by_zero, "raw::divide_by_zero", "SIGFPE"),
        (raw::illegal_instruction, "raw::illegal_instruction", "SIGILL"),
        (|| process::abort(), "process::abort", "SIGABRT in crash_traces::a_crash_shows_its_stack"),
    ];
    for (crash, function, text) in crashes {
        let error = assert_fails!(start.call(LONG).run(crash), Reason::Crashed { .. }, Ran::Maybe);
        assert_shows(&error, function);
        let told = error.to_string();
        assert!(told.contains(text), "{told}");
        assert!(told.contains(" at tests/common/raw.rs:") || text.contains("ABRT"), "{told}");
        assert!(matches!(error.reason(), Reason::Crashed { stack_overflow: false, .. }));
        assert!(backtrace(&error).threads()[0].is_body());
    }
}

fn a_crash_on_another_thread_shows_its_stack(start: Start) {
    let crashes: [(fn(), &str); 4] = [
        (raw::read_null, "raw::read_null"),
        (raw::divide_by_zero, "raw::divide_by_zero"),
        (raw::illegal_instruction, "raw::illegal_instruction"),
        (|| process::abort(), "process::abort"),
    ];
    for (crash, function) in crashes {
        let result = start.call(LONG).run(|| {
            let _ = thread::spawn(crash).join();
            raw::pause();
        });
        let error = assert_fails!(result, Reason::Crashed { .. }, Ran::Maybe);
        assert_shows(&error, function);
        assert!(!backtrace(&error).threads()[0].is_body());
    }
    let result = start.call(LONG).run(|| {
        let _ = thread::spawn(|| assert_ne!(raw::overflow_stack(0), 1)).join();
        raw::pause();
    });
    let error = assert_fails!(result, Reason::Crashed { stack_overflow: true, .. }, Ran::Maybe);
    assert_shows(&error, "raw::overflow_stack");
}

/// Calls `body` with stderr going into a pipe; gives what was written there.
fn with_stderr<T>(body: impl FnOnce() -> T) -> (T, String) {
    use std::os::fd::AsRawFd;
    let (mut reader, writer) = pipe().unwrap();
    let before = raw::dup(2).unwrap();
    raw::dup_onto(writer.as_raw_fd(), 2);
    let value = body();
    raw::dup_onto(before, 2);
    raw::close(before);
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    (value, text)
}

fn an_overflow_shows_its_stack_and_std_says_its_line(start: Start) {
    let (result, printed) = with_stderr(|| start.call(LONG).run(|| raw::overflow_stack(0)));
    let error = assert_fails!(result, Reason::Crashed { stack_overflow: true, .. }, Ran::Maybe);
    assert_shows(&error, "raw::overflow_stack");
    assert!(printed.contains("has overflowed its stack"), "{printed:?}");
    assert!(error.to_string().contains("overflowed its stack ("), "{error}");
    assert!(
        error.to_string().contains(") in crash_traces::common::raw::overflow_stack at tests/common/raw.rs:"),
        "{error}"
    );
}

#[inline(never)]
fn ask_for_too_much() {
    black_box(vec![1u8; 1 << 46]);
}

fn a_failed_allocation_is_told_from_an_abort(start: Start) {
    let (result, printed) = with_stderr(|| start.call(LONG).run(ask_for_too_much));
    let error = assert_fails!(result, Reason::OutOf(Resource::Memory), Ran::Maybe);
    assert!(printed.contains("memory allocation of 70368744177664 bytes failed"), "{printed:?}");
    assert_shows(&error, "ask_for_too_much");
    let expected = "; it was in crash_traces::ask_for_too_much at tests/crash_traces.rs:";
    assert!(error.to_string().contains(expected), "{error}");

    // With the address space used up, where nothing more can be had for the report.
    let (result, _) = with_stderr(|| {
        start.call(LONG).run(|| {
            raw::set_soft_limit(libc::RLIMIT_AS, 1 << 30);
            let mut hoard = Vec::new();
            while hoard.len() < 1 << 30 {
                hoard.push(black_box(vec![1u8; 1 << 16]));
            }
        })
    });
    assert_fails!(result, Reason::OutOf(Resource::Memory), Ran::Maybe);
}

#[inline(never)]
fn panic_here() {
    panic!("here");
}

fn a_panic_shows_its_stack_and_its_thread(start: Start) {
    let caller = thread::Builder::new().name("the caller".into());
    let error = thread::scope(|scope| {
        let calling = || assert_fails!(start.call(LONG).run(panic_here), Reason::Panicked { .. }, Ran::Yes);
        caller.spawn_scoped(scope, calling).unwrap().join().unwrap()
    });
    assert_shows(&error, "panic_here");
    // What std does to panic is left out.
    assert!(functions(backtrace(&error))[0].ends_with("rust_begin_unwind"), "{}", backtrace(&error));
    let Reason::Panicked { thread, .. } = error.reason() else { unreachable!() };
    assert_eq!(thread.as_deref(), Some("the caller"));
    assert!(!error.to_string().contains("thread"), "{error}");
    assert!(backtrace(&error).threads()[0].is_body());
}

fn a_panic_that_ends_in_an_abort_shows_its_stack(start: Start) {
    extern "C" fn cannot_unwind() {
        panic_here();
    }
    let mark = Mark::new();
    let bodies: [(&dyn Fn(), &str, bool); 3] = [
        (&|| assert_eq!((endings::DOUBLE_PANIC.body)(&mark), 0), "DOUBLE_PANIC::{{closure}}", true),
        (&|| cannot_unwind(), "panic_here", true),
        (
            &|| {
                let other = thread::Builder::new().name("other".into()).spawn(|| cannot_unwind()).unwrap();
                let _ = other.join();
                raw::pause();
            },
            "panic_here",
            false,
        ),
    ];
    for (body, function, on_body) in bodies {
        let (result, _) = with_stderr(|| start.call(LONG).run(body));
        let error = assert_fails!(result, Reason::Panicked { .. }, Ran::Yes);
        let names = functions(backtrace(&error)).join(" ");
        assert!(names.contains(function) || names.contains("PanicsWhenDropped"), "{}", backtrace(&error));
        assert_eq!(backtrace(&error).threads()[0].is_body(), on_body);
        assert_eq!(error.to_string().contains(" on thread `other`: here"), !on_body, "{error}");
    }
}
