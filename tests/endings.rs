//! Every way a body can end is told as what it is, at once, and none is taken for another.

mod common;

use std::{
    env, fs,
    sync::atomic::{AtomicI32, Ordering},
    time::{Duration, Instant},
};

use common::{
    LONG, Mark, SOON, Start, assert_fails,
    endings::{self, Ending, LONG_MESSAGE, Told},
    median, raw, scenario,
    shown::{assert_shows, backtrace},
};
use nix::{
    libc,
    sys::signal::{Signal, kill},
    unistd::{Pid, getpid},
};
use timeout_runtime::{Ran, Reason};

common::scenarios_everywhere![
    a_panic_is_told_with_its_message,
    a_panic_while_panicking_is_told_with_the_bodys_words,
    a_crash_is_told_with_its_signal,
    an_exit_is_told_with_its_code,
    a_returned_number_is_never_taken_for_a_status,
    every_ending_is_told_the_same_in_a_host_of_one_thread,
    every_ending_is_told_the_same_in_a_call_inside_a_call,
    an_ending_is_told_when_it_happens_and_not_at_the_limit,
    a_panic_is_told_with_its_place,
    a_panic_of_another_thread_that_is_passed_on_is_told_with_its_place,
    a_long_message_is_cut_and_its_length_told,
    a_null_pointer_is_told_with_its_address,
    a_signal_from_outside_is_a_crash,
    an_abort_signal_from_outside_is_a_crash,
    the_hosts_exit_handlers_never_run_in_a_child,
    a_panic_is_raised_again_on_request,
    a_limit_of_zero_starts_nothing,
    a_failure_tells_the_function_the_line_and_the_times,
    a_failure_tells_what_the_child_used,
    a_stack_overflow_is_told_as_one,
];

// A worker takes its core limit from its server.
common::scenarios_by_fork![a_crash_writes_no_core_file];

fn check_all(start: Start, endings: &[Ending]) {
    let mark = Mark::new();
    for ending in endings {
        ending.check(start, &mark);
        let told = mark.moment().elapsed();
        assert!(told < SOON, "{} was told after {told:?}", ending.name);
    }
}

fn a_panic_is_told_with_its_message(start: Start) {
    check_all(start, endings::PANICS);
}

fn a_panic_while_panicking_is_told_with_the_bodys_words(start: Start) {
    check_all(start, &[endings::DOUBLE_PANIC]);
}

fn a_stack_overflow_is_told_as_one(start: Start) {
    let [on_body, elsewhere] = endings::OVERFLOWS;
    check_all(start, &[on_body]);
    match start {
        Start::Fork => check_all(start, &[elsewhere]),
        // Other threads of a worker have no stack of std's to run a handler on.
        Start::Forkserver => check_all(start, &[Ending { told: Told::Crashed(Signal::SIGSEGV, false), ..elsewhere }]),
    }
}

fn a_crash_is_told_with_its_signal(start: Start) {
    check_all(start, endings::CRASHES);
}

fn an_exit_is_told_with_its_code(start: Start) {
    check_all(start, endings::EXITS);
}

fn a_returned_number_is_never_taken_for_a_status(start: Start) {
    check_all(start, endings::RETURNS);
}

fn every_ending_is_told_the_same_in_a_host_of_one_thread(start: Start) {
    scenario::alone(|| {
        let mark = Mark::new();
        endings::all().for_each(|ending| ending.check(start, &mark));
    });
}

/// What a failure may take to be told, at the median.
const AT_ONCE: Duration = Duration::from_millis(50);

fn assert_at_once(name: &str, delays: impl Iterator<Item = Duration>) {
    let delay = median(delays.collect());
    println!("{name}: told after {delay:?}");
    assert!(delay < AT_ONCE, "{name} was told after {delay:?}");
}

fn every_ending_is_told_the_same_in_a_call_inside_a_call(start: Start) {
    let result = start.run(&start.call(LONG), (), |()| {
        let mark = Mark::new();
        let begin = Instant::now();
        endings::all().for_each(|ending| ending.check(Start::Fork, &mark));
        begin.elapsed()
    });
    let elapsed = result.unwrap();
    assert!(elapsed < SOON * 2, "told after {elapsed:?}");
}

fn an_ending_is_told_when_it_happens_and_not_at_the_limit(start: Start) {
    let mark = Mark::new();
    for ending in endings::failures() {
        if start == Start::Forkserver && ending.name == endings::OVERFLOWS[1].name {
            // Told as a crash: see `a_stack_overflow_is_told_as_one`.
            continue;
        }
        let delays = (0..9).map(|_| {
            ending.check(start, &mark);
            mark.moment().elapsed()
        });
        assert_at_once(ending.name, delays);
    }
    let delays = (0..9).map(|_| check_signal_from_outside(start, Signal::SIGKILL));
    assert_at_once("SIGKILL from outside", delays);
}

fn a_panic_is_told_with_its_place(start: Start) {
    let line = line!() + 1;
    let result = start.run(&start.call(LONG), (), |()| -> u8 { panic!("here") });
    let error = assert_fails!(result, Reason::Panicked { .. }, Ran::Yes);
    let Reason::Panicked { location: Some(place), .. } = error.reason() else { panic!("no place: {error:?}") };
    assert_eq!((place.file(), place.line()), (file!(), line));
    assert!(error.is_panic() && !error.is_crash() && !error.is_late());
}

fn a_panic_of_another_thread_that_is_passed_on_is_told_with_its_place(start: Start) {
    let result = endings::PASSED_ON.call(start, &Mark::new());
    let error = assert_fails!(result, Reason::Panicked { .. }, Ran::Yes);
    let Reason::Panicked { location: Some(place), thread, .. } = error.reason() else { panic!("no place: {error:?}") };
    assert_eq!((place.file(), place.line()), endings::PASSED_ON_FROM);
    assert_eq!(thread.as_deref(), Some("bee 1"));
    assert!(error.to_string().contains(" on thread `bee 1`: from the thread"), "{error}");
    assert!(!backtrace(&error).threads()[0].is_body());
    assert_shows(&error, "endings::panic_elsewhere");
    // One that nobody had is told without a place.
    let own = |()| -> i32 { std::panic::resume_unwind(Box::new("made up")) };
    let error = assert_fails!(start.run(&start.call(LONG), (), own), Reason::Panicked { location: None, .. }, Ran::Yes);
    assert!(error.to_string().ends_with(" panicked: made up"), "{error}");
}

fn a_long_message_is_cut_and_its_length_told(start: Start) {
    let body = |()| -> u8 { std::panic::panic_any("long ".repeat(LONG_MESSAGE / 5)) };
    let result = start.run(&start.call(LONG), (), body);
    let error = assert_fails!(result, Reason::Panicked { .. }, Ran::Yes);
    let Reason::Panicked { message, .. } = error.reason() else { unreachable!() };
    assert!(message.len() < 64 << 10, "{} bytes", message.len());
    assert!(message.contains(&LONG_MESSAGE.to_string()), "{}", &message[message.len() - 100..]);
    assert!(error.to_string().len() < 1000);
}

fn a_null_pointer_is_told_with_its_address(start: Start) {
    let result = start.run(&start.call(LONG), (), |()| raw::read_null());
    let error = assert_fails!(result, Reason::Crashed { address: Some(0), stack_overflow: false, .. }, Ran::Maybe);
    assert!(error.is_crash() && error.to_string().contains("SIGSEGV"), "{error}");
}

fn a_signal_from_outside_is_a_crash(start: Start) {
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGSEGV, Signal::SIGFPE] {
        let told = check_signal_from_outside(start, signal);
        assert!(told < SOON, "{signal} was told after {told:?}");
    }
}

fn an_abort_signal_from_outside_is_a_crash(start: Start) {
    check_signal_from_outside(start, Signal::SIGABRT);
}

/// Sends a signal to a body; gives how long it took until that was told.
fn check_signal_from_outside(start: Start, signal: Signal) -> Duration {
    let (pid, killed) = (Mark::new(), Mark::new());
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            let pid = Pid::from_raw(pid.hear() as i32);
            killed.now();
            kill(pid, signal).unwrap();
        });
        start.run(&start.call(Duration::from_secs(10)), pid.again(), |pid| {
            pid.tell(getpid().as_raw() as u64);
            raw::pause();
        })
    });
    let told = killed.moment().elapsed();
    let error = assert_fails!(result, Reason::Crashed { stack_overflow: false, .. }, Ran::Maybe);
    assert!(matches!(error.reason(), Reason::Crashed { signal: number, .. } if *number == signal as i32), "{error:?}");
    told
}

fn the_hosts_exit_handlers_never_run_in_a_child(start: Start) {
    static WITNESS: AtomicI32 = AtomicI32::new(-1);
    extern "C" fn testify() {
        let _ = raw::write(WITNESS.load(Ordering::Relaxed), &[0; 8]);
    }
    use std::os::fd::AsRawFd;
    let (read, write) = std::io::pipe().unwrap();
    WITNESS.store(write.as_raw_fd(), Ordering::Relaxed);
    for _ in 0..3 {
        raw::at_exit(testify);
    }
    // The control: they do run in a process that the library knows nothing of.
    let plain = raw::fork(|| std::process::exit(0));
    nix::sys::wait::waitpid(plain, None).unwrap();
    let mut testimonies = [0; 64];
    assert_eq!(std::io::Read::read(&mut &read, &mut testimonies).unwrap(), 24);

    let mark = Mark::new();
    endings::all().for_each(|ending| ending.check(start, &mark));
    start.run(&start.call(Duration::from_millis(10)), (), |()| raw::pause()).unwrap_err();
    WITNESS.store(-1, Ordering::Relaxed);
    drop(write);
    assert_eq!(std::io::Read::read(&mut &read, &mut testimonies).unwrap(), 0, "an exit handler ran in a child");
}

fn a_crash_writes_no_core_file(start: Start) {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let (_, hard) = raw::limit(libc::RLIMIT_CORE);
    let before = raw::set_soft_limit(libc::RLIMIT_CORE, hard);
    // The kernel takes a soft limit of exactly 1 as "neither a file nor a handler" (core(5)).
    let soft = start.call(LONG).run(|| raw::limit(libc::RLIMIT_CORE).0).unwrap();
    assert!(soft <= 1, "the core limit in the child is {soft}");

    let home = env::current_dir().unwrap();
    let directory = env::temp_dir().join(format!("timeout-suite-core-{}", getpid()));
    fs::create_dir(&directory).unwrap();
    env::set_current_dir(&directory).unwrap();
    let files = || fs::read_dir(".").unwrap().count();
    if hard > 1 << 30 && !pattern.starts_with(['|', '/']) {
        // The control: a crash outside a call does write one here.
        nix::sys::wait::waitpid(raw::fork(|| std::process::abort()), None).unwrap();
        assert_eq!(files(), 1, "no core file by the pattern {pattern:?}");
        fs::remove_file(fs::read_dir(".").unwrap().next().unwrap().unwrap().path()).unwrap();
    }
    let error = start.call(LONG).run(|| std::process::abort()).map(|(): ()| ()).unwrap_err();
    assert!(error.is_crash(), "{error:?}");
    assert_eq!(files(), 0, "a crash in a call wrote a core file");
    env::set_current_dir(home).unwrap();
    fs::remove_dir(directory).unwrap();
    raw::set_soft_limit(libc::RLIMIT_CORE, before);
}

fn a_panic_is_raised_again_on_request(start: Start) {
    let call = start.call(LONG).resume_panics();
    let line = line!() + 1;
    let caught = std::panic::catch_unwind(|| start.run(&call, (), |()| -> u8 { panic!("passed on") }));
    let payload = caught.unwrap_err();
    let message = payload.downcast_ref::<String>().unwrap();
    let (words, place) = message.split_once('\n').unwrap();
    assert_eq!(words, "passed on");
    assert!(place.contains(&format!(", at {}:{line}:", file!())), "{message}");
    // Every other failure stays a value.
    let error = start.run(&call, (), |()| -> u8 { std::process::exit(3) }).unwrap_err();
    assert!(matches!(error.reason(), Reason::Exited { code: 3, .. }), "{error:?}");
}

fn a_limit_of_zero_starts_nothing(start: Start) {
    let mark = Mark::new();
    let result = start.run(&start.call(Duration::ZERO), mark.again(), |mark| mark.now());
    assert_fails!(result, Reason::Late { .. }, Ran::No);
    assert!(!mark.is_told(), "the body ran");
}

fn a_failure_tells_the_function_the_line_and_the_times(start: Start) {
    let limit = Duration::from_millis(40);
    let begin = Instant::now();
    let line = line!() + 1;
    let error = start.run(&start.call(limit), (), |()| raw::pause()).unwrap_err();
    let end = begin.elapsed();
    assert_eq!((error.called_from().file(), error.called_from().line()), (file!(), line));
    assert_eq!(error.limit(), limit);
    assert!(error.elapsed() >= limit && error.elapsed() <= end, "{:?} of {end:?}", error.elapsed());
    let named = start.run(&start.call(LONG), (), |()| -> u8 { std::process::exit(1) }).unwrap_err();
    assert!(named.function().contains("a_failure_tells_the_function_the_line_and_the_times"), "{}", named.function());
    assert!(named.to_string().contains(named.function()));
}

fn a_failure_tells_what_the_child_used(start: Start) {
    let spin = |()| -> u8 {
        let begin = Instant::now();
        while begin.elapsed() < LONG {
            std::hint::spin_loop();
        }
        1
    };
    let error = start.run(&start.call(Duration::from_millis(300)), (), spin).unwrap_err();
    let usage = error.usage().unwrap();
    assert!(usage.cpu() > Duration::from_millis(10) && usage.cpu() < Duration::from_secs(5), "{usage:?}");
    assert!(usage.peak_memory() > 1 << 20, "{usage:?}");
}
