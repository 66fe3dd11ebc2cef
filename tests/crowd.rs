//! Many calls at once: none is delayed, cut or mixed up by another, and nothing is left of thousands.

mod common;

use std::{
    hint::black_box,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process,
    sync::{
        Barrier,
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use common::{LONG, Mark, SOON, Start, busy, median, procs, raw, travel::Fun};
use nix::{
    sys::signal::{Signal, kill},
    unistd::getpid,
};
use timeout_runtime::{Cancel, Reason};

common::scenarios_everywhere![
    sixty_four_threads_get_what_is_theirs,
    so_they_do_on_a_busy_machine,
    no_end_waits_for_a_sibling,
    bodies_may_exit_and_start_threads_while_others_call,
    more_calls_at_once_than_any_table_has_room_for,
    thousands_of_calls_leave_nothing,
];

// The control of the last, which makes no calls.
common::scenarios_by_fork![a_leak_of_two_kilobytes_per_call_is_seen];

const KINDS: u64 = 9;

/// Makes a call that ends in one of many ways, each with the number in it, and checks what comes of it.
fn call_and_check(start: Start, number: u64, cancels: &Sender<Cancel>) {
    let (call, short) = (start.call(LONG), Duration::from_millis(5));
    match number % KINDS {
        0 => assert_eq!(start.run(&call, number, |number: u64| number).unwrap(), number),
        1 => {
            let numbers = start.run(&call, number, |number: u64| vec![number; 40_000]);
            assert_eq!(numbers.unwrap(), vec![number; 40_000]);
        }
        2 => {
            let error = start.run(&call, number, |number: u64| -> u8 { panic!("number {number}") }).unwrap_err();
            let Reason::Panicked { message, .. } = error.reason() else { panic!("{error:?}") };
            assert_eq!(*message, format!("number {number}"));
        }
        3 => {
            let code = (number % 200) as i32;
            let error = start.run(&call, code, |code: i32| -> u8 { process::exit(code) }).unwrap_err();
            assert!(matches!(error.reason(), Reason::Exited { code: told, .. } if *told == code), "{code}: {error:?}");
        }
        4 => {
            let code = (number % 200) as i32;
            let error = start.run(&call, code, |code: i32| -> u8 { raw::exit_now(code) }).unwrap_err();
            assert!(matches!(error.reason(), Reason::Exited { code: told, .. } if *told == code), "{code}: {error:?}");
        }
        5 => {
            let error = start.run(&call, (), |()| -> u8 { process::abort() }).unwrap_err();
            assert!(matches!(error.reason(), Reason::Crashed { signal: 6, .. }), "{error:?}");
        }
        6 => {
            let signal = [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGUSR1][number as usize / 9 % 3];
            let error = start.run(&call, signal as i32, |signal| {
                kill(getpid(), Signal::try_from(signal).unwrap()).unwrap();
                raw::pause()
            });
            let error = error.unwrap_err();
            let told = matches!(error.reason(), Reason::Crashed { signal: told, .. } if *told == signal as i32);
            assert!(told, "{signal}: {error:?}");
        }
        7 => {
            let begin = Instant::now();
            let error = start.run(&start.call(short), (), |()| raw::pause()).unwrap_err();
            assert!(error.is_late() && begin.elapsed() >= short, "{error:?}");
        }
        _ => {
            let cancel = Cancel::new();
            cancels.send(cancel.clone()).unwrap();
            let error = start.run(&call.cancel(&cancel), (), |()| raw::pause()).unwrap_err();
            assert!(matches!(error.reason(), Reason::Cancelled), "{error:?}");
        }
    }
}

/// Gives `calls` a way to have a token used by another thread. There is one such thread: a body that exits while the
/// host starts or ends threads may find a lock of std held for ever.
fn with_canceller(calls: impl FnOnce(&Sender<Cancel>)) {
    let (cancels, to_cancel) = mpsc::channel::<Cancel>();
    thread::scope(|scope| {
        scope.spawn(|| to_cancel.into_iter().for_each(|cancel| cancel.cancel()));
        calls(&cancels);
        drop(cancels);
    });
}

fn crowd(start: Start, threads: u64, rounds: u64) {
    // Nobody begins before the last thread has started, and none ends before the last call has.
    let all_here = Barrier::new(threads as usize);
    with_canceller(|cancels| {
        thread::scope(|scope| {
            for thread in 0..threads {
                let all_here = &all_here;
                scope.spawn(move || {
                    all_here.wait();
                    let numbers = thread * rounds..(thread + 1) * rounds;
                    let calls = || numbers.for_each(|number| call_and_check(start, number, cancels));
                    let result = catch_unwind(AssertUnwindSafe(calls));
                    all_here.wait();
                    result.unwrap_or_else(|payload| resume_unwind(payload));
                });
            }
        });
    });
}

fn sixty_four_threads_get_what_is_theirs(start: Start) {
    crowd(start, 64, 2 * KINDS);
}

fn so_they_do_on_a_busy_machine(start: Start) {
    let _busy = busy();
    crowd(start, 32, KINDS);
}

fn no_end_waits_for_a_sibling(start: Start) {
    const SLEEPERS: usize = 12;
    let (sleeping, cancel) = (Mark::new(), Cancel::new());
    thread::scope(|scope| {
        for _ in 0..SLEEPERS {
            // Forked before, between and after the others, they have every pipe that there is to be had.
            scope.spawn(|| {
                let sleeper = start.run(&start.call(LONG).cancel(&cancel), sleeping.again(), |sleeping: Mark| {
                    sleeping.now();
                    raw::pause()
                });
                assert!(matches!(sleeper.unwrap_err().reason(), Reason::Cancelled));
            });
            sleeping.hear();
            for end in [|| process::abort(), || raw::exit_now(4), || panic!("told")] as [fn() -> u8; 3] {
                let mark = Mark::new();
                let delays = (0..3).map(|_| {
                    let result = start.run(&start.call(LONG), (mark.again(), Fun(end)), |(mark, Fun(end))| {
                        mark.now();
                        end()
                    });
                    assert!(!result.unwrap_err().is_late());
                    mark.moment().elapsed()
                });
                let delays: Vec<_> = delays.collect();
                assert!(median(delays.clone()) < SOON / 10, "{delays:?}");
            }
        }
        cancel.cancel();
    });
}

fn bodies_may_exit_and_start_threads_while_others_call(start: Start) {
    // Both take a lock of std (`stack_overflow::thread_info`) that a thread of the host holds for a moment when it starts
    // and when it ends. The host's threads here do neither, so that only a thread of the library's own could be at fault.
    const THREADS: usize = 6;
    let _busy = busy();
    let all_here = Barrier::new(THREADS);
    let limit = Duration::from_secs(10);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                all_here.wait();
                let stuck = (0..250).find_map(|_| {
                    let call = start.call(limit);
                    let exit = start.run(&call, (), |()| -> u8 { process::exit(3) }).unwrap_err();
                    let spawn = start.run(&call, (), |()| thread::spawn(|| 7).join().unwrap());
                    if exit.is_late() { Some(exit) } else { spawn.err() }
                });
                all_here.wait();
                assert!(stuck.is_none(), "{stuck:?}");
            });
        }
    });
}

fn more_calls_at_once_than_any_table_has_room_for(start: Start) {
    const CALLS: u64 = 300;
    let (running, go_on) = (Mark::new(), Mark::new());
    thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLS)
            .map(|number| {
                let (running, go_on) = (&running, &go_on);
                let call = move || {
                    let arguments = (running.again(), go_on.again(), number);
                    start.run(&start.call(LONG), arguments, |(running, go_on, number): (Mark, Mark, u64)| {
                        running.now();
                        go_on.hear();
                        number
                    })
                };
                thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, call).unwrap()
            })
            .collect();
        (0..CALLS).for_each(|_| assert_ne!(running.hear(), 0));
        (0..CALLS).for_each(|_| go_on.now());
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.join().unwrap().unwrap(), number as u64);
        }
    });
}

fn thousands_of_calls_leave_nothing(start: Start) {
    with_canceller(|cancels| {
        assert_keeps_its_size(|numbers| numbers.for_each(|number| call_and_check(start, number, cancels)));
    });
}

/// Has `calls` make 300 calls, and then 2200 more, by which this process may not grow.
fn assert_keeps_its_size(calls: impl Fn(Range<u64>)) {
    calls(0..300);
    let before = procs::status("VmRSS");
    calls(300..2500);
    let after = procs::status("VmRSS");
    println!("{before} KiB resident after 300 calls, {after} KiB after 2500");
    assert!(after < before + 2048, "{before} KiB before, {after} KiB after");
}

fn a_leak_of_two_kilobytes_per_call_is_seen(_: Start) {
    let leak =
        |numbers: Range<u64>| numbers.for_each(|number| assert_eq!(black_box(vec![number; 256].leak()).len(), 256));
    assert!(catch_unwind(|| assert_keeps_its_size(leak)).is_err());
    assert_keeps_its_size(|numbers| numbers.for_each(|number| drop(black_box(vec![number; 256]))));
}
