//! A call owns everything its body starts: when it ends, however it ends, nothing of that runs on.

mod common;

use std::{
    process, thread,
    time::{Duration, Instant},
};

use common::{
    LONG, Mark, SOON, Start, procs, raw,
    shapes::{self, Shape},
    travel::Fun,
};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, getpid, setpgid},
};
use timeout_runtime::{Reason, TimedOut};

common::scenarios_everywhere![
    a_late_body_is_killed_with_all_it_started,
    nothing_runs_on_after_a_value,
    nothing_runs_on_after_a_panic,
    nothing_runs_on_after_an_exit,
    what_stayed_in_the_group_does_not_outlive_a_crash,
    what_left_the_group_does_not_outlive_a_crash,
    a_body_that_stops_itself_is_killed_on_time,
];

// Their bodies have a mark, a shape or a start method with them.
common::scenarios_by_fork![
    so_it_is_by_a_user_without_privileges,
    so_it_is_in_a_host_that_may_not_look_at_itself,
    a_grandchild_with_the_result_pipe_does_not_delay_the_return,
    nested_calls_die_with_the_outermost,
    a_nested_call_is_late_by_itself,
    the_child_dies_when_its_caller_is_killed,
    the_tree_dies_when_its_caller_is_killed,
    the_children_of_several_threads_die_when_their_host_is_killed,
    a_body_that_joined_its_hosts_group_takes_nobody_along,
    a_call_is_not_cut_when_another_thread_ends,
];

/// What a crowded machine may need for what is done in 100 ms by a quiet one.
const GONE: Duration = Duration::from_secs(1);

/// Has a body plant a tree and then `end`; gives what the call gave, once it is certain that nothing runs on.
fn plant(start: Start, limit: Duration, shape: &Shape, end: fn() -> i32) -> Result<i32, TimedOut> {
    let mark = Mark::new();
    let arguments = (shape.name.to_owned(), Fun(end), mark.again());
    let result = start.run(&start.call(limit), arguments, |(name, Fun(end), mark): (String, Fun<i32>, Mark)| {
        shapes::named(&name).plant_and_tell(&mark);
        end()
    });
    let told: Vec<_> = mark.hear_all().into_iter().map(|pid| Pid::from_raw(pid as i32)).collect();
    assert_eq!(told.len(), shape.tellers, "{}: not all of it was started: {result:?}", shape.name);
    // By number first: a process in the middle of its death has no environment to be found by.
    procs::assert_gone_within(&told, GONE);
    let gone = procs::assert_alone_within(GONE);
    println!("{}: gone {gone:?} after the return", shape.name);
    result
}

fn check_late(start: Start) {
    for shape in shapes::all() {
        let error = plant(start, Duration::from_millis(700), shape, raw::pause).unwrap_err();
        assert!(error.is_late(), "{}: {error:?}", shape.name);
    }
}

fn a_late_body_is_killed_with_all_it_started(start: Start) {
    check_late(start);
}

fn so_it_is_by_a_user_without_privileges(start: Start) {
    raw::become_nobody();
    raw::set_dumpable();
    check_late(start);
}

fn so_it_is_in_a_host_that_may_not_look_at_itself(start: Start) {
    // After a change of user, /proc/self belongs to root.
    raw::become_nobody();
    for shape in [&shapes::IN_THE_GROUP[1], &shapes::OUT_OF_THE_GROUP[0], &shapes::OUT_OF_THE_GROUP[1]] {
        let mark = Mark::new();
        let error = start.call(Duration::from_millis(500)).run(|| {
            shape.plant_and_tell(&mark);
            raw::pause()
        });
        assert!(error.unwrap_err().is_late());
        let told: Vec<_> = mark.hear_all().into_iter().map(|pid| Pid::from_raw(pid as i32)).collect();
        assert_eq!(told.len(), shape.tellers);
        procs::assert_gone_within(&told, GONE);
    }
}

fn nothing_runs_on_after_a_value(start: Start) {
    for shape in shapes::all() {
        assert_eq!(plant(start, LONG, shape, || 7).unwrap(), 7, "{}", shape.name);
    }
}

fn nothing_runs_on_after_a_panic(start: Start) {
    for shape in shapes::all() {
        let error = plant(start, LONG, shape, || panic!("after planting")).unwrap_err();
        assert!(error.is_panic(), "{}: {error:?}", shape.name);
    }
}

fn nothing_runs_on_after_an_exit(start: Start) {
    for shape in shapes::all() {
        let error = plant(start, LONG, shape, || process::exit(3)).unwrap_err();
        assert!(matches!(error.reason(), Reason::Exited { code: 3, .. }), "{}: {error:?}", shape.name);
    }
}

const CRASHES: [fn() -> i32; 4] = [
    || process::abort(),
    || {
        raw::read_null();
        1
    },
    || {
        kill(getpid(), Signal::SIGKILL).unwrap();
        raw::pause()
    },
    || raw::exit_now(4),
];

fn what_stayed_in_the_group_does_not_outlive_a_crash(start: Start) {
    for crash in CRASHES {
        for shape in shapes::IN_THE_GROUP {
            plant(start, LONG, shape, crash).unwrap_err();
        }
    }
}

fn what_left_the_group_does_not_outlive_a_crash(start: Start) {
    // Only where the child itself notices that it crashes: killed from outside, it can do nothing more for its own.
    for crash in &CRASHES[..2] {
        for shape in shapes::OUT_OF_THE_GROUP {
            plant(start, LONG, shape, *crash).unwrap_err();
        }
    }
}

fn a_body_that_stops_itself_is_killed_on_time(start: Start) {
    let limit = Duration::from_millis(100);
    let begin = Instant::now();
    let error = start.run(&start.call(limit), (), |()| kill(getpid(), Signal::SIGSTOP).unwrap()).unwrap_err();
    let elapsed = begin.elapsed();
    assert!(error.is_late(), "{error:?}");
    assert!(elapsed >= limit && elapsed < SOON, "{elapsed:?}");
    procs::assert_alone_within(GONE);
}

fn a_grandchild_with_the_result_pipe_does_not_delay_the_return(start: Start) {
    for shape in [&shapes::IN_THE_GROUP[0], &shapes::OUT_OF_THE_GROUP[0], &shapes::OUT_OF_THE_GROUP[1]] {
        let begin = Instant::now();
        assert_eq!(plant(start, LONG, shape, || 7).unwrap(), 7);
        assert!(begin.elapsed() < SOON, "{}: {:?}", shape.name, begin.elapsed());
    }
    // Nor where the body says nothing: here the pipe stays open, in a process that the library cannot find any more.
    let mark = Mark::new();
    let begin = Instant::now();
    let result = start.call(LONG).run(|| -> i32 {
        shapes::OUT_OF_THE_GROUP[0].plant_and_tell(&mark);
        raw::exit_now(3)
    });
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert!(matches!(result.unwrap_err().reason(), Reason::Exited { code: 3, .. }));
    let _ = kill(Pid::from_raw(mark.hear() as i32), Signal::SIGKILL);
    procs::assert_alone_within(GONE);
}

/// Calls within calls, with a grandchild at every level; the innermost pauses.
fn nest(start: Start, mark: &Mark, limit: Duration, depth: u32) -> Result<i32, TimedOut> {
    start.call(limit).run(|| {
        shapes::OUT_OF_THE_GROUP[0].plant_and_tell(mark);
        match depth {
            1 => raw::pause(),
            _ => i32::from(nest(start, mark, limit, depth - 1).is_err()),
        }
    })
}

fn nested_calls_die_with_the_outermost(start: Start) {
    for depth in 1..=4 {
        let mark = Mark::new();
        let limit = Duration::from_millis(600);
        let begin = Instant::now();
        let error = start.call(limit).run(|| nest(start, &mark, LONG, depth).is_ok()).unwrap_err();
        let elapsed = begin.elapsed();
        assert!(error.is_late(), "{error:?}");
        assert!(elapsed >= limit && elapsed < SOON, "{elapsed:?}");
        let gone = procs::assert_alone_within(GONE);
        println!("depth {depth}: returned after {elapsed:?}, gone {gone:?} later");
        assert_eq!(mark.hear_all().len(), depth as usize, "the nest was not complete");
    }
}

fn a_nested_call_is_late_by_itself(start: Start) {
    for depth in 1..=4 {
        let mark = Mark::new();
        let limit = Duration::from_millis(100);
        let inner = start.call(LONG).run(|| {
            // All have the same limit, so the second is the one that the first cuts, and so on.
            let begin = Instant::now();
            (nest(start, &mark, limit, depth).unwrap_err().is_late(), begin.elapsed())
        });
        let (late, elapsed) = inner.unwrap();
        assert!(late && elapsed >= limit && elapsed < SOON, "{late} {elapsed:?}");
        procs::assert_alone_within(GONE);
    }
}

fn the_child_dies_when_its_caller_is_killed(start: Start) {
    let mut slowest = Duration::ZERO;
    let mut caught = 0;
    for round in 0..240 {
        let mark = Mark::new();
        let host = raw::fork(|| {
            mark.tell(0);
            let _ = start.call(LONG).run(|| {
                mark.tell(1);
                raw::pause()
            });
        });
        // From before the fork to the middle of the body, in steps.
        assert_eq!(mark.hear(), 0);
        let delay = Duration::from_micros(10 * (round % 80));
        let begin = Instant::now();
        while begin.elapsed() < delay {
            std::hint::spin_loop();
        }
        kill(host, Signal::SIGKILL).unwrap();
        waitpid(host, None).unwrap();
        slowest = slowest.max(procs::assert_alone_within(GONE));
        caught += usize::from(!mark.is_told());
    }
    println!("the slowest was gone after {slowest:?}; {caught} of 240 never began");
}

fn the_tree_dies_when_its_caller_is_killed(start: Start) {
    for shape in shapes::IN_THE_GROUP {
        let mark = Mark::new();
        let host = raw::fork(|| {
            let _ = start.call(LONG).run(|| {
                shape.plant_and_tell(&mark);
                raw::pause()
            });
        });
        let tree: Vec<_> = (0..shape.tellers).map(|_| Pid::from_raw(mark.hear() as i32)).collect();
        kill(host, Signal::SIGKILL).unwrap();
        waitpid(host, None).unwrap();
        procs::assert_gone_within(&tree, GONE);
        let gone = procs::assert_alone_within(GONE);
        println!("{}: gone after {gone:?}", shape.name);
    }
}

fn the_children_of_several_threads_die_when_their_host_is_killed(start: Start) {
    const THREADS: usize = 6;
    for round in 0..10 {
        let mark = Mark::new();
        let host = raw::fork(|| {
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        start.call(LONG).run(|| {
                            shapes::IN_THE_GROUP[0].plant_and_tell(&mark);
                            raw::pause()
                        })
                    });
                }
            });
        });
        // All of them in flight, or some of them still being started.
        for _ in 0..=(round % THREADS) {
            mark.hear();
        }
        kill(host, Signal::SIGKILL).unwrap();
        waitpid(host, None).unwrap();
        procs::assert_alone_within(GONE);
    }
}

fn a_body_that_joined_its_hosts_group_takes_nobody_along(start: Start) {
    let mark = Mark::new();
    let host = raw::fork(|| {
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
        let group = getpid();
        let _ = start.call(LONG).run(|| {
            // Refused where the body has a session of its own.
            let _ = setpgid(Pid::from_raw(0), group);
            mark.now();
            raw::pause()
        });
    });
    mark.hear();
    let bystander = raw::fork(|| {
        raw::pause();
    });
    setpgid(bystander, host).unwrap();
    kill(host, Signal::SIGKILL).unwrap();
    waitpid(host, None).unwrap();
    procs::exempt(&[bystander]);
    procs::assert_alone_within(GONE);
    assert!(procs::runs(bystander), "it was killed with the body");
    kill(bystander, Signal::SIGKILL).unwrap();
    let end = waitpid(bystander, None).unwrap();
    assert_eq!(end, WaitStatus::Signaled(bystander, Signal::SIGKILL, false));
}

fn a_call_is_not_cut_when_another_thread_ends(start: Start) {
    let started = &Mark::new();
    thread::scope(|scope| {
        let calls: Vec<_> = (0..6)
            .map(|number| {
                scope.spawn(move || {
                    start.call(LONG).run(|| {
                        started.now();
                        thread::sleep(Duration::from_millis(400));
                        number
                    })
                })
            })
            .collect();
        for _ in 0..6 {
            started.hear();
        }
        // Threads that call and end, and threads that only end.
        for number in 0..60 {
            let short = scope.spawn(move || start.call(LONG).run(|| number).unwrap());
            assert_eq!(short.join().unwrap(), number);
            scope.spawn(|| {}).join().unwrap();
        }
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.join().unwrap().unwrap(), number);
        }
    });
}
