//! A child that has lost its mind: whatever it does to its descriptors, its caller gets the right value or a true reason.

mod common;

use std::{
    fs,
    os::fd::{AsRawFd, RawFd},
    thread,
    time::{Duration, Instant},
};

use common::{LONG, SOON, Start, procs, raw, travel::Fun};
use nix::time::ClockId;
use timeout_runtime::{Ran, Reason, TimedOut};

common::scenarios_everywhere![
    junk_on_every_descriptor_before_the_value_loses_it,
    a_few_bytes_of_junk_lose_the_value_as_well,
    junk_on_every_descriptor_while_the_value_is_sent_never_changes_it,
    junk_without_end_is_over_at_once,
    a_few_bytes_of_junk_from_a_body_that_goes_on_are_told_as_such,
    a_child_that_ends_while_it_sends_gives_no_value,
    a_child_that_closes_everything_has_lost_its_value,
    a_child_that_puts_a_file_over_its_pipe_has_lost_its_value,
    a_child_that_closes_everything_and_goes_on_is_late,
    a_caller_sleeps_while_it_waits_for_a_child_that_has_closed_its_pipe,
    a_crash_of_a_child_that_has_closed_everything_is_told,
];

/// Every descriptor that the library may have open here. Those below are the standard streams.
const DESCRIPTORS: std::ops::Range<RawFd> = 3..64;

fn write_junk(length: usize) {
    let junk = vec![0xa5; length];
    for fd in DESCRIPTORS {
        let _ = raw::write(fd, &junk);
    }
}

fn close_everything() {
    DESCRIPTORS.for_each(raw::close);
}

#[track_caller]
fn assert_lost<T: std::fmt::Debug>(result: Result<T, TimedOut>) {
    let error = result.unwrap_err();
    assert!(matches!(error.reason(), Reason::Lost { .. }), "{error:?}");
}

fn junk_on_every_descriptor_before_the_value_loses_it(start: Start) {
    for length in [32, 64, 4096, 50_000] {
        let begin = Instant::now();
        assert_lost(start.run(&start.call(LONG), length, |length| {
            write_junk(length);
            7
        }));
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    }
    // The next call has a pipe of its own.
    assert_eq!(start.run(&start.call(LONG), (), |()| 7).unwrap(), 7);
}

fn a_few_bytes_of_junk_lose_the_value_as_well(start: Start) {
    for length in [1, 8, 31] {
        for _ in 0..10 {
            assert_lost(start.run(&start.call(LONG), length, |length| {
                write_junk(length);
                7
            }));
        }
    }
}

fn a_few_bytes_of_junk_from_a_body_that_goes_on_are_told_as_such(start: Start) {
    for length in [1, 8, 31, 32] {
        assert_lost(start.run(&start.call(LONG), length, |length| {
            write_junk(length);
            raw::pause()
        }));
    }
}

fn junk_on_every_descriptor_while_the_value_is_sent_never_changes_it(start: Start) {
    let (mut whole, mut lost) = (0, 0);
    for round in 0..60u64 {
        let result = start.run(&start.call(LONG), round, |round: u64| {
            let begin = Instant::now();
            thread::spawn(move || {
                // From some moment on, until the end of the process.
                while begin.elapsed() < Duration::from_micros(round * 50) {
                    std::hint::spin_loop();
                }
                loop {
                    write_junk(1 + round as usize);
                }
            });
            vec![round; 1 << 20]
        });
        match result {
            Ok(value) => {
                assert!(value == vec![round; 1 << 20], "a wrong value");
                whole += 1;
            }
            Err(error) => {
                assert!(matches!(error.reason(), Reason::Lost { .. }), "{error:?}");
                lost += 1;
            }
        }
    }
    println!("{whole} whole, {lost} lost");
    assert!(procs::status("VmHWM") < 200 << 10, "the host took in {} KiB", procs::status("VmHWM"));
}

fn junk_without_end_is_over_at_once(start: Start) {
    let begin = Instant::now();
    assert_lost(start.run(&start.call(LONG), (), |()| -> i32 {
        loop {
            write_junk(60_000);
        }
    }));
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert!(procs::status("VmHWM") < 100 << 10, "the host took in {} KiB", procs::status("VmHWM"));
}

fn a_child_that_ends_while_it_sends_gives_no_value(start: Start) {
    let (mut whole, mut cut, mut exited) = (0, 0, 0);
    for round in 0..60u64 {
        let result = start.run(&start.call(LONG), round, |round: u64| {
            let begin = Instant::now();
            thread::spawn(move || {
                while begin.elapsed() < Duration::from_micros(1000 + round * 300) {
                    std::hint::spin_loop();
                }
                raw::exit_now(3)
            });
            vec![round; 1 << 20]
        });
        match result {
            Ok(value) => {
                assert!(value == vec![round; 1 << 20], "a wrong value");
                whole += 1;
            }
            Err(error) => match error.reason() {
                Reason::Lost { .. } => cut += 1,
                Reason::Exited { code: 3, .. } => exited += 1,
                _ => panic!("{error:?}"),
            },
        }
    }
    println!("{whole} whole, {cut} cut, {exited} exited");
    assert!(cut + exited > 0, "this proves nothing");
}

fn a_child_that_closes_everything_has_lost_its_value(start: Start) {
    let begin = Instant::now();
    let result = start.run(&start.call(LONG), (), |()| {
        close_everything();
        7
    });
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    let error = result.unwrap_err();
    assert!(matches!(error.reason(), Reason::Lost { .. }), "it did return: {error:?}");
    assert_eq!(error.ran(), Ran::Yes);
}

fn a_child_that_puts_a_file_over_its_pipe_has_lost_its_value(start: Start) {
    let result = start.run(&start.call(LONG), (), |()| {
        let null = fs::File::options().write(true).open("/dev/null").unwrap();
        for fd in DESCRIPTORS.filter(|fd| *fd != null.as_raw_fd()) {
            raw::dup_onto(null.as_raw_fd(), fd);
        }
        7
    });
    let error = result.unwrap_err();
    assert!(matches!(error.reason(), Reason::Lost { .. }), "it did return: {error:?}");
}

fn a_child_that_closes_everything_and_goes_on_is_late(start: Start) {
    let limit = Duration::from_millis(100);
    let begin = Instant::now();
    let error = start.run(&start.call(limit), (), |()| {
        close_everything();
        raw::pause()
    });
    let elapsed = begin.elapsed();
    assert!(error.unwrap_err().is_late());
    assert!(elapsed >= limit && elapsed < SOON, "{elapsed:?}");
}

fn a_caller_sleeps_while_it_waits_for_a_child_that_has_closed_its_pipe(start: Start) {
    let own_time = || Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap());
    let before = own_time();
    let result = start.run(&start.call(0.5), (), |()| {
        close_everything();
        raw::pause()
    });
    let spent = own_time() - before;
    assert!(result.unwrap_err().is_late());
    assert!(spent < Duration::from_millis(100), "{spent:?} of computing for half a second of waiting");
}

fn a_crash_of_a_child_that_has_closed_everything_is_told(start: Start) {
    let ends: [fn() -> i32; 3] = [|| std::process::abort(), || raw::exit_now(4), || panic!("unheard")];
    let told = ends.map(|end| {
        let begin = Instant::now();
        let result = start.run(&start.call(LONG), Fun(end), |Fun(end): Fun<i32>| {
            close_everything();
            end()
        });
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        result.unwrap_err()
    });
    assert!(told[0].is_crash(), "{:?}", told[0]);
    assert!(matches!(told[1].reason(), Reason::Exited { code: 4, .. }), "{:?}", told[1]);
    // Nobody can tell that it was a panic, but it was neither a value nor late.
    assert!(!told[2].is_late(), "{:?}", told[2]);
}
