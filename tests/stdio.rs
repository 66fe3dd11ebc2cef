//! What is printed is printed once, whole and in order, and no lock of another thread holds a call up.

mod common;

use std::{
    fmt,
    io::{Write, stderr, stdout},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{LONG, SOON, Start, endings, raw, scenario, shapes, stdout::Turned, travel::Fun};
use timeout_runtime::Reason;

common::scenarios_everywhere![
    text_from_before_a_call_is_printed_once,
    text_of_a_body_is_printed_however_it_ends,
    text_is_printed_once_in_a_host_of_one_thread,
    text_of_nested_calls_is_printed_once_and_in_order,
    calls_work_while_another_thread_prints_all_the_time,
    calls_work_while_several_threads_print_all_the_time,
    calls_work_while_another_thread_owns_stdout_for_good,
    a_tree_dies_while_another_thread_owns_stdout_for_good,
    nested_calls_work_while_another_thread_owns_stdout_for_good,
    calls_work_while_another_thread_owns_stderr_for_good,
    a_call_is_not_held_up_by_a_thread_that_takes_stdout_at_any_moment,
    a_call_works_inside_a_display_that_is_being_printed,
    calls_work_with_any_standard_stream_closed,
    a_tree_dies_with_any_standard_stream_closed,
    bodies_may_print_to_a_closed_stream,
];

const TURNS: [fn(i32) -> Turned; 2] = [Turned::to_file, Turned::to_pipe];

/// Prints half a line. A host that has had several threads does not flush it before a call by the fork server.
fn print_half(start: Start, text: &str) {
    print!("{text}");
    if start == Start::Forkserver {
        stdout().flush().unwrap();
    }
}

/// Half a line before a call, half a line in it, and the rest after it.
fn print_around_calls(start: Start) {
    for turn in TURNS {
        let turned = turn(1);
        print_half(start, "before, ");
        let call = start.call(LONG);
        start.run(&call, (), |()| print!("inside, ")).unwrap();
        print_half(start, "between, ");
        start.run(&call, (), |()| ()).unwrap();
        start.run(&call, (), |()| println!("inside again")).unwrap();
        println!("after");
        assert_eq!(turned.end(), "before, inside, between, inside again\nafter\n");
    }
}

fn text_from_before_a_call_is_printed_once(start: Start) {
    print_around_calls(start);
}

fn text_is_printed_once_in_a_host_of_one_thread(start: Start) {
    scenario::alone(|| print_around_calls(start));
}

fn text_of_nested_calls_is_printed_once_and_in_order(start: Start) {
    for turn in TURNS {
        let turned = turn(1);
        print_half(start, "host, ");
        let nested = start.run(&start.call(LONG), start == Start::Fork, |is_forked| {
            let start = if is_forked { Start::Fork } else { Start::Forkserver };
            print_half(start, "child, ");
            start.run(&start.call(LONG), (), |()| print!("grandchild, ")).unwrap();
            print!("child again, ");
        });
        nested.unwrap();
        println!("host again");
        assert_eq!(turned.end(), "host, child, grandchild, child again, host again\n");
    }
}

fn text_of_a_body_is_printed_however_it_ends(start: Start) {
    let ends = [
        ("a value", (|| 1) as fn() -> i32),
        ("exit", || process::exit(3)),
        ("a panic", || panic!("not printed")),
        ("an exit on another thread", || {
            let _ = thread::spawn(|| process::exit(3)).join();
            raw::pause()
        }),
    ];
    for turn in TURNS {
        for (name, end) in ends {
            let turned = turn(1);
            print_half(start, "before, ");
            let _ = start.run(&start.call(LONG), Fun(end), |Fun(end): Fun<i32>| {
                print!("half a line");
                end()
            });
            assert_eq!(turned.end(), "before, half a line", "{name}");
        }
        // A late body is cut off: its whole lines are there.
        let turned = turn(1);
        let late = start.run(&start.call(Duration::from_millis(300)), (), |()| {
            println!("a whole line");
            raw::pause()
        });
        assert!(late.unwrap_err().is_late());
        assert_eq!(turned.end(), "a whole line\n");
    }
    // stderr has no buffer, and a panic of the body is told and not printed.
    let turned = Turned::to_file(2);
    let _ = start.run(&start.call(LONG), (), |()| -> i32 {
        eprint!("half a line");
        panic!("not printed")
    });
    assert_eq!(turned.end(), "half a line");
}

/// Calls whose bodies print, while other threads never stop printing. With a limit that a stuck body would meet.
fn call_among_printers(start: Start, printers: usize, limit: Duration) {
    let turned = [Turned::to_null(1), Turned::to_null(2)];
    let stop = AtomicBool::new(false);
    let mut stuck = 0;
    let mut slowest = Duration::ZERO;
    thread::scope(|scope| {
        for _ in 0..printers {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    println!("all the time");
                    eprintln!("all the time");
                }
            });
        }
        for round in 0..100 {
            let begin = Instant::now();
            let result = start.run(&start.call(limit), round, |round: i32| {
                println!("from the body");
                eprintln!("from the body");
                round
            });
            slowest = slowest.max(begin.elapsed());
            match result {
                Ok(value) => assert_eq!(value, round),
                Err(error) => {
                    assert!(error.is_late(), "{error:?}");
                    stuck += 1;
                    break;
                }
            }
        }
        let failures = catch_unwind(AssertUnwindSafe(|| fail_among_printers(start, limit)));
        stop.store(true, Ordering::Relaxed);
        failures.unwrap_or_else(|payload| resume_unwind(payload));
    });
    drop(turned);
    println!("beside {printers} printers, the slowest call took {slowest:?}");
    assert_eq!(stuck, 0, "a body that prints was stuck beside {printers} threads that never stop printing");
}

/// Calls whose bodies print and then fail, each in its way.
fn fail_among_printers(start: Start, limit: Duration) {
    let ends = [(|| process::exit(3)) as fn() -> i32, || panic!("told"), raw::pause];
    for (kind, end) in ends.into_iter().enumerate().cycle().take(60) {
        let limit = if kind == 2 { Duration::from_millis(50) } else { limit };
        let result = start.run(&start.call(limit), Fun(end), |Fun(end): Fun<i32>| {
            println!("from the body");
            eprintln!("from the body");
            end()
        });
        let error = result.unwrap_err();
        let is_true = match error.reason() {
            Reason::Exited { code: 3, .. } => kind == 0,
            Reason::Panicked { message, .. } => kind == 1 && message == "told",
            Reason::Late { .. } => kind == 2,
            _ => false,
        };
        assert!(is_true, "{kind}: {error:?}");
    }
}

fn calls_work_while_another_thread_prints_all_the_time(start: Start) {
    call_among_printers(start, 1, Duration::from_secs(2));
}

fn calls_work_while_several_threads_print_all_the_time(start: Start) {
    call_among_printers(start, 4, Duration::from_secs(2));
}

/// Runs `check` while another thread owns a stream.
fn while_owned(own: impl FnOnce(&dyn Fn()) + Send, check: impl FnOnce()) {
    let (owned, done) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            own(&|| {
                owned.wait();
                done.wait();
            });
        });
        owned.wait();
        let result = catch_unwind(AssertUnwindSafe(check));
        done.wait();
        result.unwrap_or_else(|payload| resume_unwind(payload));
    });
}

fn own_stdout(hold: &dyn Fn()) {
    let mut lock = stdout().lock();
    write!(lock, "half a line").unwrap();
    hold();
    writeln!(lock).unwrap();
}

fn calls_work_while_another_thread_owns_stdout_for_good(start: Start) {
    while_owned(own_stdout, || {
        for round in 0..50 {
            let begin = Instant::now();
            assert_eq!(start.run(&start.call(LONG), round, |round: u64| round).unwrap(), round);
            assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        }
        let exit = start.run(&start.call(LONG), (), |()| -> i32 { process::exit(3) }).unwrap_err();
        assert!(exit.to_string().contains("code 3"), "{exit}");
        assert!(start.run(&start.call(LONG), (), |()| -> i32 { panic!("told") }).unwrap_err().is_panic());
        // A body that prints waits for a lock that nobody will give back: that ends with its limit, and no later.
        let limit = Duration::from_millis(100);
        let begin = Instant::now();
        if start == Start::Forkserver {
            // It has no copy of that lock.
            start.run(&start.call(LONG), (), |()| println!("at once")).unwrap();
            return;
        }
        let stuck = start.call(limit).run(|| println!("never")).unwrap_err();
        assert!(stuck.is_late() && begin.elapsed() >= limit && begin.elapsed() < SOON, "{stuck:?}");
    });
    endings::check_sample(start);
}

fn a_tree_dies_while_another_thread_owns_stdout_for_good(start: Start) {
    while_owned(own_stdout, || shapes::check_late(start));
}

fn nested_calls_work_while_another_thread_owns_stdout_for_good(start: Start) {
    while_owned(own_stdout, || {
        let nested = start.run(&start.call(Duration::from_secs(10)), start == Start::Fork, |is_forked| {
            let start = if is_forked { Start::Fork } else { Start::Forkserver };
            start.run(&start.call(LONG), (), |()| 7).ok()
        });
        assert_eq!(nested.unwrap(), Some(7));
    });
}

fn calls_work_while_another_thread_owns_stderr_for_good(start: Start) {
    let own = |hold: &dyn Fn()| {
        let _lock = stderr().lock();
        hold();
    };
    while_owned(own, || {
        for round in 0..20 {
            let begin = Instant::now();
            assert_eq!(start.run(&start.call(LONG), round, |round: u64| round).unwrap(), round);
            assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        }
    });
    endings::check_sample(start);
}

fn a_call_is_not_held_up_by_a_thread_that_takes_stdout_at_any_moment(start: Start) {
    let mut slowest = Duration::ZERO;
    for round in 0..50 {
        let (taking, done) = (Barrier::new(2), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                taking.wait();
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_micros(10 * round) {
                    std::hint::spin_loop();
                }
                let _lock = stdout().lock();
                // For good, as far as the call can tell.
                while !done.load(Ordering::Relaxed) && begin.elapsed() < 2 * SOON {
                    thread::yield_now();
                }
            });
            taking.wait();
            let begin = Instant::now();
            for _ in 0..3 {
                assert_eq!(start.run(&start.call(LONG), round, |round: u64| round).unwrap(), round);
            }
            slowest = slowest.max(begin.elapsed());
            done.store(true, Ordering::Relaxed);
        });
        assert!(slowest < SOON, "round {round}: {slowest:?}");
    }
    println!("the slowest three calls took {slowest:?}");
}

struct CallsWhenShown(Start);

impl fmt::Display for CallsWhenShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = self.0.call(LONG);
        let value = self.0.run(&call, (), |()| 7).map_err(|error| error.to_string());
        let panics = self.0.run(&call, (), |()| -> i32 { panic!("told") }).is_err();
        write!(f, "{value:?} {panics}")
    }
}

fn a_call_works_inside_a_display_that_is_being_printed(start: Start) {
    let print = || {
        let turned = Turned::to_file(1);
        println!("shown: {}!", CallsWhenShown(start));
        let text = turned.end();
        assert_eq!(text, "shown: Ok(7) true!\n");
        eprintln!("shown: {}!", CallsWhenShown(start));
    };
    print();
    scenario::alone(print);
}

/// Runs `check` with each combination of standard streams closed. What is said meanwhile may be lost, so it is caught.
fn with_streams_closed(check: impl Fn()) {
    for combination in 1..8u8 {
        let closed: Vec<_> = (0..3).filter(|fd| combination >> fd & 1 == 1).map(Turned::closed).collect();
        let result = catch_unwind(AssertUnwindSafe(&check));
        drop(closed);
        if let Err(payload) = result {
            let message = payload.downcast_ref::<String>().cloned();
            panic!("with {combination:#05b} of 2, 1, 0 closed: {message:?}");
        }
    }
}

fn calls_work_with_any_standard_stream_closed(start: Start) {
    with_streams_closed(|| endings::check_sample(start));
}

fn a_tree_dies_with_any_standard_stream_closed(start: Start) {
    with_streams_closed(|| {
        // One that stays in the group, and one that leaves it.
        for shape in [&shapes::IN_THE_GROUP[3], &shapes::OUT_OF_THE_GROUP[1]] {
            let error = shapes::plant(start, Duration::from_millis(400), shape, raw::pause).unwrap_err();
            assert!(error.is_late(), "{}: {error:?}", shape.name);
        }
    });
}

fn bodies_may_print_to_a_closed_stream(start: Start) {
    with_streams_closed(|| {
        let result = start.run(&start.call(LONG), (), |()| {
            let _ = writeln!(stdout(), "into the blue");
            let _ = writeln!(stderr(), "into the blue");
            // Another thread's panic is printed by the host's hook.
            i32::from(thread::spawn(|| panic!("into the blue")).join().is_err())
        });
        assert_eq!(result.map_err(|error| error.to_string()), Ok(1));
    });
}
