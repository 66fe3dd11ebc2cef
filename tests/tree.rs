//! A call owns everything its body starts: when it ends, however it ends, nothing of that runs on.

mod common;

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    LONG, Mark, SOON, Start, median, procs, raw,
    shapes::{self, GONE, Shape, plant, plant_and_time},
};
use nix::{
    libc,
    sys::{
        prctl,
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
    nothing_is_left_where_orphans_are_reaped,
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
    so_it_does_while_a_large_value_is_on_its_way,
    so_it_does_in_the_middle_of_a_grace,
    so_it_does_around_the_kill_of_a_late_tree,
    the_children_of_several_threads_die_when_their_host_is_killed,
    a_body_that_joined_its_hosts_group_takes_nobody_along,
    a_call_is_not_cut_when_another_thread_ends,
];

/// When everything is gone after a return, as the median of several.
const GONE_AFTER_A_RETURN: Duration = Duration::from_millis(100);

/// When everything is gone after the caller was killed, as the median of several.
const GONE_AFTER_A_KILL: Duration = Duration::from_millis(50);

/// Plants every shape and ends the call in the same way each time; everything is gone as soon as is promised.
fn plant_all(start: Start, limit: Duration, end: fn() -> i32, is_right: impl Fn(&Result<i32, TimedOut>) -> bool) {
    let one = |shape: &Shape| {
        let (result, gone) = plant_and_time(start, limit, shape, end);
        assert!(is_right(&result), "{}: {result:?}", shape.name);
        println!("{}: gone {gone:?} after the return", shape.name);
        gone
    };
    let gone = median(shapes::all().map(one).collect());
    assert!(gone < GONE_AFTER_A_RETURN, "gone {gone:?} after the return");
}

fn check_late(start: Start) {
    let is_late = |result: &Result<i32, TimedOut>| result.as_ref().is_err_and(TimedOut::is_late);
    plant_all(start, Duration::from_millis(700), raw::pause, is_late);
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
    plant_all(start, LONG, || 7, |result| matches!(result, Ok(7)));
}

fn nothing_runs_on_after_a_panic(start: Start) {
    plant_all(start, LONG, || panic!("after planting"), |result| result.as_ref().is_err_and(TimedOut::is_panic));
}

fn nothing_runs_on_after_an_exit(start: Start) {
    let is_told = |error: &TimedOut| matches!(error.reason(), Reason::Exited { code: 3, .. });
    plant_all(start, LONG, || process::exit(3), |result| result.as_ref().is_err_and(is_told));
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

/// Kills a host and waits until all that it had started is gone; gives how long that took.
fn kill_and_time(host: Pid) -> Duration {
    let begin = Instant::now();
    kill(host, Signal::SIGKILL).unwrap();
    waitpid(host, None).unwrap();
    procs::assert_alone_after(begin, GONE)
}

#[track_caller]
fn assert_gone_after_a_kill(times: Vec<Duration>) {
    let (slowest, gone) = (*times.iter().max().unwrap(), median(times));
    println!("gone {gone:?} after the kill, {slowest:?} at the worst");
    assert!(gone < GONE_AFTER_A_KILL, "gone {gone:?} after the kill, {slowest:?} at the worst");
}

fn wait_exactly(delay: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < delay {
        std::hint::spin_loop();
    }
}

fn the_child_dies_when_its_caller_is_killed(start: Start) {
    const ROUNDS: u64 = 240;
    let mut caught = 0;
    let one = |round| {
        let mark = Mark::new();
        let host = raw::fork(|| {
            mark.tell(0);
            let _ = start.call(LONG).run(|| {
                mark.tell(1);
                raw::pause()
            });
        });
        // From before the fork to the middle of the body, in steps: small ones, and such that a busy machine gets there.
        assert_eq!(mark.hear(), 0);
        let step = if round < ROUNDS * 2 / 3 { 10 } else { 250 };
        wait_exactly(Duration::from_micros(step * (round % 80)));
        let gone = kill_and_time(host);
        caught += u64::from(!mark.is_told());
        gone
    };
    assert_gone_after_a_kill((0..ROUNDS).map(one).collect());
    println!("{caught} of {ROUNDS} never began");
    assert!(0 < caught && caught < ROUNDS, "this proves little: {caught} of {ROUNDS} never began");
}

fn the_tree_dies_when_its_caller_is_killed(start: Start) {
    let one = |shape: &Shape| {
        let mark = Mark::new();
        let host = raw::fork(|| {
            let _ = start.call(LONG).run(|| {
                shape.plant_and_tell(&mark);
                raw::pause()
            });
        });
        let tree: Vec<_> = (0..shape.tellers).map(|_| Pid::from_raw(mark.hear() as i32)).collect();
        let gone = kill_and_time(host);
        procs::assert_gone_within(&tree, GONE);
        println!("{}: gone after {gone:?}", shape.name);
        gone
    };
    assert_gone_after_a_kill(shapes::IN_THE_GROUP.iter().map(one).collect());
}

fn so_it_does_while_a_large_value_is_on_its_way(start: Start) {
    let one = |round| {
        let (mark, go) = (Mark::new(), Mark::new());
        let host = raw::fork(|| {
            let _ = start.call(LONG).run(|| {
                shapes::IN_THE_GROUP[0].plant_and_tell(&mark);
                mark.tell(process::id().into());
                go.hear();
                vec![1u8; 64 << 20]
            });
        });
        let tree = [mark.hear(), mark.hear()].map(|pid| Pid::from_raw(pid as i32));
        if round % 2 == 0 {
            // It stands still in the middle: the host does not read what fills the pipe.
            kill(host, Signal::SIGSTOP).unwrap();
            go.now();
            let begin = Instant::now();
            while !procs::writes(tree[1]) {
                assert!(begin.elapsed() < SOON, "it sends nothing: {}", procs::describe(&tree));
            }
        } else {
            go.now();
            wait_exactly(Duration::from_millis(round));
        }
        let gone = kill_and_time(host);
        procs::assert_gone_within(&tree, GONE);
        gone
    };
    assert_gone_after_a_kill((0..20).map(one).collect());
}

fn so_it_does_in_the_middle_of_a_grace(start: Start) {
    let one = |_| {
        // It is deaf, as is what it starts.
        let (mark, asked) = (Mark::new(), Mark::new());
        let host = raw::fork(|| {
            let _ = start.call(Duration::from_millis(50)).grace(LONG).run(|| {
                let is_asked = Arc::new(AtomicBool::new(false));
                signal_hook::flag::register(libc::SIGTERM, is_asked.clone()).unwrap();
                shapes::IN_THE_GROUP[1].plant_and_tell(&mark);
                while !is_asked.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                }
                asked.now();
                raw::pause()
            });
        });
        asked.hear();
        let gone = kill_and_time(host);
        let told: Vec<_> = mark.hear_all().into_iter().map(|pid| Pid::from_raw(pid as i32)).collect();
        assert_eq!(told.len(), 1);
        procs::assert_gone_within(&told, GONE);
        gone
    };
    assert_gone_after_a_kill((0..10).map(one).collect());
}

fn so_it_does_around_the_kill_of_a_late_tree(start: Start) {
    let limit = Duration::from_millis(60);
    let mut returned = 0;
    const ROUNDS: u32 = 30;
    let one = |round| {
        let (mark, back) = (Mark::new(), Mark::new());
        let host = raw::fork(|| {
            mark.now();
            let _ = start.call(limit).run(|| {
                (shapes::IN_THE_GROUP[3].plant)(&Mark::new());
                raw::pause()
            });
            back.now();
            raw::pause();
        });
        // From before the deadline to after the return, in steps.
        let end = mark.moment() + limit + Duration::from_micros(200) * round;
        wait_exactly(end.saturating_duration_since(Instant::now()));
        let gone = kill_and_time(host);
        returned += u32::from(back.is_told());
        gone
    };
    assert_gone_after_a_kill((0..ROUNDS).map(one).collect());
    println!("{returned} of {ROUNDS} had returned");
    assert!(returned < ROUNDS, "this proves nothing");
}

/// Here orphans are reaped by this process, so that whatever lives on is missed, however it hides, and no corpse stays.
fn nothing_is_left_where_orphans_are_reaped(start: Start) {
    prctl::set_child_subreaper(true).unwrap();
    let mark = Mark::new();
    let host = raw::fork(|| {
        start.prepare();
        for shape in shapes::all() {
            let body = |(name, mark): (String, Mark)| {
                shapes::named(&name).plant_and_tell(&mark);
                raw::pause()
            };
            let call = start.call(Duration::from_millis(700));
            let error = start.run(&call, (shape.name.to_owned(), mark.again()), body).unwrap_err();
            assert!(error.is_late(), "{}: {error:?}", shape.name);
        }
    });
    let mut end = None;
    let mut orphans = 0;
    while let Ok(status) = waitpid(None, None) {
        match status.pid() == Some(host) {
            true => end = Some((status, Instant::now())),
            false => orphans += 1,
        }
    }
    prctl::set_child_subreaper(false).unwrap();
    let (status, ended) = end.unwrap();
    assert_eq!(status, WaitStatus::Exited(host, 0));
    assert!(ended.elapsed() < GONE, "the last was reaped {:?} after the host", ended.elapsed());
    let told: Vec<_> = mark.hear_all().into_iter().map(|pid| Pid::from_raw(pid as i32)).collect();
    assert_eq!(told.len(), shapes::all().map(|shape| shape.tellers).sum::<usize>());
    assert!(told.iter().all(|pid| procs::state(*pid).is_none()), "{}", procs::describe(&told));
    println!("{orphans} orphans were reaped");
    assert!(orphans > 0, "this proves nothing");
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
