//! A call is over at its limit: never early, and never much later, whatever the body does.

mod common;

use std::{
    panic::{AssertUnwindSafe, Location, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use common::{
    LONG, Mark, SOON, Start, assert_fails,
    lateness::{check_lateness, lateness_of},
    procs, raw,
    travel::{Fun, clock},
};
use nix::{
    libc,
    sched::{CpuSet, sched_getaffinity},
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};
use timeout_runtime::{IntoLimit, Ran, Reason};

common::scenarios_everywhere![
    a_late_body_is_cut_off_on_time_and_never_early,
    a_limit_that_is_over_at_once_is_late,
    a_body_that_ends_in_time_finds_its_cores_and_its_slice_as_they_were,
    a_body_that_has_dirtied_a_gigabyte_is_cut_off_on_time,
    a_limit_beyond_all_time_is_no_limit,
    the_clock_starts_at_the_call,
    at_the_limit_a_call_gives_the_right_value_or_none,
    a_body_that_ends_when_asked_ends_the_call,
    a_value_given_within_the_grace_is_taken,
    a_body_deaf_to_sigterm_is_killed_when_the_grace_is_over,
    the_whole_tree_is_asked_to_end,
    a_grace_is_not_used_by_a_body_in_time,
    a_host_stopped_beyond_the_deadline_takes_a_whole_value,
    a_host_stopped_beyond_the_deadline_is_late_when_it_goes_on,
];

// No call is made.
common::scenarios_by_fork![an_impossible_limit_panics_at_the_callers_line];

fn a_late_body_is_cut_off_on_time_and_never_early(start: Start) {
    check_lateness(start, Duration::from_millis(25));
}

fn a_body_that_has_dirtied_a_gigabyte_is_cut_off_on_time(start: Start) {
    let mark = Mark::new();
    // Long enough for the gigabyte, which is most of it.
    let limit = Duration::from_secs(8);
    let call = || {
        start.run(&start.call(limit), mark.again(), |mark| {
            let mut memory = vec![0u8; 1 << 30];
            memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
            mark.now();
            std::hint::black_box(&memory);
            raw::pause()
        })
    };
    let late = lateness_of(limit, call);
    // It takes some 60 ms to die, and whoever had waited for that would find nothing here. A worker is its server's child.
    let is_dying = start == Start::Forkserver || raw::has_children();
    let returned = Instant::now();
    assert!(mark.is_told(), "there was no time for the gigabyte");
    assert!(late < Duration::from_secs(1), "{late:?} late");
    procs::assert_childless_within(SOON);
    println!("{late:?} late, its memory was given back {:?} after that", returned.elapsed());
    assert!(is_dying, "the call, {late:?} late, waited for its child's memory to be given back");
}

fn a_limit_that_is_over_at_once_is_late(start: Start) {
    let mark = Mark::new();
    for limit in [Duration::ZERO, Duration::from_nanos(1)] {
        let begin = Instant::now();
        let result = start.run(&start.call(limit), mark.again(), |mark| mark.now());
        assert_fails!(result, Reason::Late { .. }, Ran::No | Ran::Maybe);
        assert!(begin.elapsed() < SOON);
    }
    for zero in [start.call(0), start.call(0.0), start.call(-0.0)] {
        assert_fails!(start.run(&zero, mark.again(), |mark| mark.now()), Reason::Late { .. }, Ran::No);
    }
    // Less than a nanosecond is rounded to the nearest one.
    assert_fails!(start.run(&start.call(1e-12), (), |()| raw::pause()), Reason::Late { .. }, _);
}

/// The cores that this thread may run on, and how it is scheduled.
fn place() -> (Vec<usize>, String) {
    let cores = sched_getaffinity(Pid::from_raw(0)).unwrap();
    ((0..CpuSet::count()).filter(|core| cores.is_set(*core).unwrap()).collect(), raw::scheduling())
}

fn a_body_that_ends_in_time_finds_its_cores_and_its_slice_as_they_were(start: Start) {
    let look = |()| {
        let first = place();
        let begin = Instant::now();
        // The caller keeps a body that computes off its core when the limit is near, and hurries one that sleeps.
        while begin.elapsed() < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        let second = place();
        thread::sleep(Duration::from_millis(10));
        [first, second, place()]
    };
    for limit in [SOON, LONG] {
        for _ in 0..5 {
            assert_eq!(start.run(&start.call(limit), (), look).unwrap(), [place(), place(), place()]);
        }
    }
}

fn a_limit_beyond_all_time_is_no_limit(start: Start) {
    let calls = [
        start.call(Duration::MAX),
        start.call(u64::MAX),
        start.call(f64::INFINITY),
        start.call(1e300),
        start.call(Duration::MAX).grace(Duration::MAX),
    ];
    for call in calls {
        let value = start.run(&call, (), |()| {
            thread::sleep(Duration::from_millis(20));
            7
        });
        assert_eq!(value.unwrap(), 7);
        assert!(start.run(&call, (), |()| -> u8 { panic!("told") }).unwrap_err().is_panic());
    }
}

#[track_caller]
fn panic_of(call: impl FnOnce()) -> (String, u32) {
    // The hook sees the place, the payload does not have it.
    static PLACE: std::sync::Mutex<Option<(String, u32)>> = std::sync::Mutex::new(None);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().unwrap_or(Location::caller());
        *PLACE.lock().unwrap() = Some((place.file().to_owned(), place.line()));
    }));
    let caught = catch_unwind(AssertUnwindSafe(call));
    std::panic::set_hook(before);
    let payload = caught.unwrap_err();
    let text = payload.downcast_ref::<&str>().map(|text| String::from(*text));
    let message = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
    let (file, line) = PLACE.lock().unwrap().take().unwrap();
    assert_eq!(file, file!(), "{message}");
    (message, line)
}

fn an_impossible_limit_panics_at_the_callers_line(_: Start) {
    use timeout_runtime::{Call, call};
    let line = line!() + 2;
    let panics = [
        panic_of(|| drop(call(f64::NAN, || 1))),
        panic_of(|| drop(call(-1, || 1))),
        panic_of(|| drop(Call::new(-0.5))),
        panic_of(|| drop(Call::new(f64::NEG_INFINITY))),
        panic_of(|| drop(Call::new(1).grace(f64::NAN))),
        panic_of(|| assert_ne!((-3).into_limit(), LONG)),
    ];
    for (offset, (message, at)) in (0..).zip(panics) {
        assert_eq!(at, line + offset, "{message}");
        assert!(message.contains("limit of") || message.contains("must be a number"), "{message}");
    }
}

fn the_clock_starts_at_the_call(start: Start) {
    let call = start.call(Duration::from_millis(200));
    thread::sleep(Duration::from_millis(250));
    for _ in 0..3 {
        // A call can be used again, with its whole limit.
        assert_eq!(start.run(&call, (), |()| 7).unwrap(), 7);
    }
    // What it takes to start counts: this host is slow to copy, and its argument to travel.
    let ballast = vec![1u8; 256 << 20];
    let limit = Duration::from_millis(2);
    let begin = Instant::now();
    let error = start.run(&start.call(limit), ballast, |ballast| ballast[1] + raw::pause() as u8).unwrap_err();
    let elapsed = begin.elapsed();
    assert!(error.is_late() && elapsed >= limit && elapsed < SOON, "{elapsed:?} {error:?}");
}

fn at_the_limit_a_call_gives_the_right_value_or_none(start: Start) {
    let (mut values, mut lates) = (0, 0);
    // With the longer limit, a body that ends in time does so on a crowded machine, too.
    for (limit, rounds) in [(4, 400), (200, 20)].map(|(limit, rounds)| (Duration::from_millis(limit), rounds)) {
        for round in 0..rounds {
            // The body ends from half a limit before to half a limit after the limit.
            let end = clock() + limit / 2 + limit * round / rounds;
            let result = start.run(&start.call(limit), (end, round), |(end, round)| {
                while clock() < end {
                    std::hint::spin_loop();
                }
                vec![u64::from(round); 1000]
            });
            match result {
                Ok(value) => {
                    assert_eq!(value, vec![u64::from(round); 1000]);
                    values += 1;
                }
                Err(error) => {
                    assert!(error.is_late() && error.elapsed() >= limit, "{error:?}");
                    lates += 1;
                }
            }
        }
    }
    println!("{values} values, {lates} late");
    assert!(values > 0 && lates > 50, "this proves nothing");
}

fn a_body_that_ends_when_asked_ends_the_call(start: Start) {
    let limit = Duration::from_millis(60);
    let exits: fn() -> i32 = || {
        raw::exit_on::<0>(libc::SIGTERM);
        raw::pause()
    };
    for (name, body) in [("the default", raw::pause as fn() -> i32), ("a handler that exits", exits)] {
        let begin = Instant::now();
        let result = start.run(&start.call(limit).grace(LONG), Fun(body), |Fun(body): Fun<i32>| body());
        let elapsed = begin.elapsed();
        // Whatever it did when asked: it was late.
        assert_fails!(result, Reason::Late { .. }, Ran::Maybe);
        assert!(elapsed >= limit && elapsed < SOON, "{name}: {elapsed:?}");
    }
}

fn a_value_given_within_the_grace_is_taken(start: Start) {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };
    let limit = Duration::from_millis(60);
    let begin = Instant::now();
    let result = start.run(&start.call(limit).grace(LONG), (), |()| {
        let asked = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(libc::SIGTERM, asked.clone()).unwrap();
        while !asked.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        String::from("put away")
    });
    let elapsed = begin.elapsed();
    assert_eq!(result.unwrap(), "put away");
    assert!(elapsed >= limit && elapsed < SOON, "{elapsed:?}");
}

fn a_body_deaf_to_sigterm_is_killed_when_the_grace_is_over(start: Start) {
    for (limit, grace) in [(20, 150), (100, 30)] {
        let (limit, grace) = (Duration::from_millis(limit), Duration::from_millis(grace));
        let begin = Instant::now();
        let result = start.run(&start.call(limit).grace(grace), (), |()| {
            raw::ignore(libc::SIGTERM);
            raw::pause()
        });
        let elapsed = begin.elapsed();
        let error = assert_fails!(result, Reason::Late { .. }, Ran::Maybe);
        assert_eq!(error.limit(), limit);
        // On a machine that is too busy for the body to begin in time, it is not deaf yet.
        assert!(elapsed >= limit && elapsed < limit + grace + SOON, "{elapsed:?}");
        if limit.as_millis() == 100 {
            assert!(elapsed >= limit + grace, "killed within its grace: {elapsed:?}");
        }
    }
}

fn the_whole_tree_is_asked_to_end(start: Start) {
    // A grandchild in the group, one outside of it, and one that is stopped: each says when it is asked.
    fn listen(ready: &Mark, asked: &Mark, apart: bool, stopped: bool) -> Pid {
        raw::fork(|| {
            if apart {
                nix::unistd::setsid().unwrap();
            }
            let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            signal_hook::flag::register(libc::SIGTERM, flag.clone()).unwrap();
            ready.now();
            if stopped {
                kill(getpid(), Signal::SIGSTOP).unwrap();
            }
            while !flag.load(std::sync::atomic::Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            asked.now();
        })
    }
    let (ready, asked) = (Mark::new(), Mark::new());
    let begin = Instant::now();
    let call = start.call(Duration::from_millis(500)).grace(LONG);
    let result = start.run(&call, (ready.again(), asked.again()), |(ready, asked): (Mark, Mark)| -> i32 {
        raw::ignore(libc::SIGTERM);
        let all = [(false, false), (true, false), (false, true)]
            .map(|(apart, stopped)| listen(&ready, &asked, apart, stopped));
        for child in all {
            waitpid(child, None).unwrap();
        }
        raw::exit_now(0)
    });
    assert_fails!(result, Reason::Late { .. }, Ran::Maybe);
    assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
    assert_eq!((ready.hear_all().len(), asked.hear_all().len()), (3, 3), "not everybody was asked");
}

fn a_grace_is_not_used_by_a_body_in_time(start: Start) {
    let begin = Instant::now();
    let call = start.call(LONG).grace(LONG);
    assert_eq!(start.run(&call, (), |()| 7).unwrap(), 7);
    assert!(start.run(&call, (), |()| -> u8 { panic!("told") }).unwrap_err().is_panic());
    assert!(begin.elapsed() < SOON);
}

/// Stops a host that makes a call of one second for one and a half. `body` goes on when the host has been stopped.
fn stop_a_host(start: Start, body: fn() -> i32) -> u64 {
    let limit = Duration::from_secs(1);
    let (running, stopped, told) = (Mark::new(), Mark::new(), Mark::new());
    let host = raw::fork(|| {
        let arguments = (running.again(), stopped.again(), Fun(body));
        let result =
            start.run(&start.call(limit), arguments, |(running, stopped, Fun(body)): (Mark, Mark, Fun<i32>)| {
                running.now();
                stopped.hear();
                body()
            });
        told.tell(match result {
            Ok(7) => 1,
            Err(error) if error.is_late() => 2,
            _ => 3,
        });
    });
    running.hear();
    kill(host, Signal::SIGSTOP).unwrap();
    assert_eq!(waitpid(host, Some(WaitPidFlag::WUNTRACED)), Ok(WaitStatus::Stopped(host, Signal::SIGSTOP)));
    stopped.now();
    thread::sleep(limit * 3 / 2);
    let begin = Instant::now();
    kill(host, Signal::SIGCONT).unwrap();
    let told = told.hear();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(waitpid(host, None), Ok(WaitStatus::Exited(host, 0)));
    told
}

fn a_host_stopped_beyond_the_deadline_takes_a_whole_value(start: Start) {
    // It was there in time, or in any case before the host looked at the clock.
    assert_eq!(stop_a_host(start, || 7), 1);
}

fn a_host_stopped_beyond_the_deadline_is_late_when_it_goes_on(start: Start) {
    assert_eq!(stop_a_host(start, raw::pause), 2);
}
