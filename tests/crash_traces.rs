//! A body that crashed or panicked shows where, on whichever thread, and says what a crash was.

mod common;

use std::{
    hint::black_box,
    io::{Read, pipe},
    process, thread,
};

use common::{
    LONG, Mark, SOON, Start, assert_fails, endings, raw,
    shown::{assert_shows, backtrace, functions},
    travel::Fun,
};
use nix::libc;
use timeout_runtime::{Call, Ran, Reason, Resource};

common::scenarios_everywhere![
    a_crash_shows_its_stack,
    a_crash_on_another_thread_shows_its_stack,
    a_crash_in_a_nested_call_is_told_at_once,
    a_hosts_handler_of_a_fault_comes_after_ours_and_that_of_an_abort_not_at_all,
    an_overflow_shows_its_stack_and_std_says_its_line,
    a_failed_allocation_is_told_from_an_abort,
    a_panic_shows_its_stack_and_its_thread,
    a_panic_that_ends_in_an_abort_shows_its_stack,
];

/// The address that a crash is told with.
enum Address {
    None,
    /// That of the instruction.
    Code,
    /// What the body has told.
    Told,
}

/// The processor says so, where there is an instruction for it; elsewhere the signal is sent.
const CODE: Address = if cfg!(target_arch = "x86_64") { Address::Code } else { Address::None };

type Crash = (fn(&Mark), &'static str, &'static str, Address);

const CRASHES: [Crash; 5] = [
    (
        |mark| {
            mark.tell(0);
            raw::read_null();
        },
        "raw::read_null",
        "SIGSEGV",
        Address::Told,
    ),
    (|mark| raw::bus_error_at(|address| mark.tell(address as u64)), "raw::bus_error_at", "SIGBUS", Address::Told),
    (|_| raw::divide_by_zero(), "raw::divide_by_zero", "SIGFPE", CODE),
    (|_| raw::illegal_instruction(), "raw::illegal_instruction", "SIGILL", CODE),
    (|_| process::abort(), "process::abort", "SIGABRT", Address::None),
];

fn a_crash_shows_its_stack(start: Start) {
    for (number, (_, function, signal, expected)) in CRASHES.into_iter().enumerate() {
        let mark = Mark::new();
        let result = start.run(&start.call(LONG), (number, mark.again()), |(number, mark)| CRASHES[number].0(&mark));
        let error = assert_fails!(result, Reason::Crashed { stack_overflow: false, .. }, Ran::Maybe);
        assert_shows(&error, function);
        let Reason::Crashed { address, .. } = error.reason() else { unreachable!() };
        match expected {
            Address::None => assert_eq!(*address, None),
            Address::Told => assert_eq!(*address, Some(mark.hear())),
            Address::Code if start == Start::Fork => {
                assert_eq!(*address, Some(backtrace(&error).frames()[0].address()))
            }
            // The worker's code lies elsewhere, by whole pages.
            Address::Code => assert_eq!(address.unwrap() % 4096, backtrace(&error).frames()[0].address() % 4096),
        }
        let told = error.to_string();
        let at = address.map_or(String::new(), |address| format!(" at address {address:#x}"));
        assert!(told.contains(&format!("crashed: {signal}{at} in ")), "{told}");
        assert!(told.contains(" at tests/common/raw.rs:") || signal == "SIGABRT", "{told}");
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
        let result = start.run(&start.call(LONG), Fun(crash), |Fun(crash)| {
            let _ = thread::spawn(crash).join();
            raw::pause();
        });
        let error = assert_fails!(result, Reason::Crashed { .. }, Ran::Maybe);
        assert_shows(&error, function);
        assert!(!backtrace(&error).threads()[0].is_body());
    }
    let result = start.run(&start.call(LONG), (), |()| {
        let _ = thread::spawn(|| assert_ne!(raw::overflow_stack(0), 1)).join();
        raw::pause();
    });
    if start == Start::Fork {
        let error = assert_fails!(result, Reason::Crashed { stack_overflow: true, .. }, Ran::Maybe);
        assert_shows(&error, "raw::overflow_stack");
    } else {
        // std has not made the thread's other stack ready, so that nobody can look.
        assert_fails!(result, Reason::Crashed { signal: libc::SIGSEGV, stack_overflow: false, .. }, Ran::Maybe);
    }
}

fn a_crash_in_a_nested_call_is_told_at_once(start: Start) {
    let crashes: [(fn(), &str); 4] = [
        (raw::read_null, "Crashed { signal: 11, address: Some(0), stack_overflow: false,"),
        (raw::bus_error, "Crashed { signal: 7, address: Some("),
        (|| assert_ne!(raw::overflow_stack(0), 1), " stack_overflow: true,"),
        (|| process::abort(), "Crashed { signal: 6, address: None, stack_overflow: false,"),
    ];
    for (is_chained, (crash, text)) in
        [false, true].into_iter().flat_map(|is_chained| crashes.map(|it| (is_chained, it)))
    {
        let (told, printed) = with_stderr(|| {
            start.run(&start.call(LONG), (Fun(crash), is_chained, Mark::new()), |(Fun(crash), is_chained, mark)| {
                if is_chained {
                    // As runtimes of other languages do, which call whom they have found there.
                    [libc::SIGSEGV, libc::SIGBUS].iter().for_each(|signal| raw::tell_and_chain(*signal, &mark));
                }
                Call::new(LONG).run(crash).map_err(|error| (format!("{:?}", error.reason()), error.elapsed()))
            })
        });
        let (told, elapsed) = told.unwrap().unwrap_err();
        assert!(told.contains(text) && told.contains(" frames of 1 threads>") && elapsed < SOON, "{told}");
        // std's handler comes after ours, if it is there and nothing else is before it.
        let is_printed = text.contains("overflow: true") && start == Start::Fork && !is_chained;
        assert_eq!(printed.contains("has overflowed its stack"), is_printed, "{printed}");
    }
}

fn a_hosts_handler_of_a_fault_comes_after_ours_and_that_of_an_abort_not_at_all(start: Start) {
    let mark = Mark::new();
    let signals = [libc::SIGSEGV, libc::SIGABRT];
    signals.iter().for_each(|signal| raw::tell_and_chain(*signal, &mark));
    let before = signals.map(raw::disposition);
    let crashes: [(fn(), i32, &str); 2] =
        [(raw::read_null, libc::SIGSEGV, "raw::read_null"), (|| process::abort(), libc::SIGABRT, "process::abort")];
    for (crash, expected, function) in crashes {
        let pid = Mark::new();
        let result = start.run(&start.call(LONG), (Fun(crash), pid.again()), |(Fun(crash), pid)| {
            pid.tell(u64::from(process::id()));
            crash();
        });
        let error = assert_fails!(result, Reason::Crashed { signal, .. } if *signal == expected, Ran::Maybe);
        assert_shows(&error, function);
        // A worker of the fork server has none of the host's handlers.
        let runs = start == Start::Fork && expected == libc::SIGSEGV;
        assert_eq!(mark.hear_all(), if runs { vec![pid.hear()] } else { Vec::new() });
    }
    assert_eq!(signals.map(raw::disposition), before);
    // The control: they run where the library has no part.
    let plain = raw::fork(|| process::abort());
    nix::sys::wait::waitpid(plain, None).unwrap();
    assert_eq!(mark.hear(), plain.as_raw() as u64);
    signals.into_iter().for_each(raw::unchain);
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
    let (result, printed) = with_stderr(|| start.run(&start.call(LONG), (), |()| raw::overflow_stack(0)));
    let error = assert_fails!(result, Reason::Crashed { stack_overflow: true, .. }, Ran::Maybe);
    assert_shows(&error, "raw::overflow_stack");
    // In a worker std has not been started, and has no handler.
    assert_eq!(printed.matches("has overflowed its stack").count(), usize::from(start == Start::Fork), "{printed:?}");
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
    let (result, printed) = with_stderr(|| start.run(&start.call(LONG), (), |()| ask_for_too_much()));
    let error = assert_fails!(result, Reason::OutOf(Resource::Memory), Ran::Maybe);
    assert!(printed.contains("memory allocation of 70368744177664 bytes failed"), "{printed:?}");
    assert_shows(&error, "ask_for_too_much");
    let expected = "; it was in crash_traces::ask_for_too_much at tests/crash_traces.rs:";
    assert!(error.to_string().contains(expected), "{error}");

    // With the address space used up, where nothing more can be had for the report.
    let (result, _) = with_stderr(|| {
        start.run(&start.call(LONG), (), |()| {
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
        let calling =
            || assert_fails!(start.run(&start.call(LONG), (), |()| panic_here()), Reason::Panicked { .. }, Ran::Yes);
        caller.spawn_scoped(scope, calling).unwrap().join().unwrap()
    });
    assert_shows(&error, "panic_here");
    // What std does to panic is left out.
    assert!(functions(backtrace(&error))[0].ends_with("rust_begin_unwind"), "{}", backtrace(&error));
    let Reason::Panicked { thread, .. } = error.reason() else { unreachable!() };
    // A worker has no thread of its caller's.
    assert_eq!(thread.as_deref(), (start == Start::Fork).then_some("the caller"));
    assert!(!error.to_string().contains(" on thread "), "{error}");
    assert!(backtrace(&error).threads()[0].is_body());
}

fn a_panic_that_ends_in_an_abort_shows_its_stack(start: Start) {
    extern "C" fn cannot_unwind() {
        panic_here();
    }
    let bodies: [(fn(), &str, bool); 3] = [
        (|| assert_eq!((endings::DOUBLE_PANIC.body)(&Mark::new()), 0), "DOUBLE_PANIC::{{closure}}", true),
        (|| cannot_unwind(), "panic_here", true),
        (
            || {
                let other = thread::Builder::new().name("other".into()).spawn(|| cannot_unwind()).unwrap();
                let _ = other.join();
                raw::pause();
            },
            "panic_here",
            false,
        ),
    ];
    for (body, function, on_body) in bodies {
        let (result, printed) = with_stderr(|| start.run(&start.call(LONG), Fun(body), |Fun(body)| body()));
        let error = assert_fails!(result, Reason::Panicked { .. }, Ran::Yes);
        let names = functions(backtrace(&error)).join(" ");
        assert!(names.contains(function) || names.contains("PanicsWhenDropped"), "{}", backtrace(&error));
        assert_eq!(backtrace(&error).threads()[0].is_body(), on_body);
        assert_eq!(error.to_string().contains(" on thread `other`: here"), !on_body, "{error}");
        // Once, by the host's hook, if it is another thread's. That std gives up is its own to say.
        assert_eq!(printed.matches(" panicked at tests/").count(), usize::from(!on_body), "{printed}");
    }
}
