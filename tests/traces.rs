//! A body that hung shows where, and what it was doing.

mod common;

use std::{
    env, fs,
    hint::black_box,
    io::{Read, pipe},
    path::PathBuf,
    process,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    LONG, Mark, Start, assert_fails, median, raw, scenario,
    shown::{assert_shows, backtrace, functions},
    travel::Fun,
};
use nix::{
    libc,
    sys::signal::{SigSet, Signal, kill},
    unistd::getpid,
};
use timeout_runtime::{Call, Frame, Portable, Ran, Reason, TimedOut};

// What the host has locked or loaded is in a copy of it alone.
common::scenarios_by_fork![a_lock_of_another_thread_is_told_with_the_cure, code_in_c_without_frame_pointers_is_named];

common::scenarios_everywhere![
    a_spinning_body_is_named_with_its_line_and_its_cpu_time,
    a_sleeping_body_is_named,
    a_body_in_a_read_is_named_with_its_descriptor,
    a_body_that_waits_for_its_own_lock_is_told_so,
    a_body_that_waits_for_a_process_is_told_so,
    a_body_inside_the_allocator_is_named,
    a_library_that_only_the_child_has_loaded_is_told_by_its_module,
    code_that_cannot_be_unwound_is_shown_and_nothing_made_up_behind_it,
    every_thread_of_the_child_is_shown,
    a_deep_recursion_is_cut_to_its_innermost_calls,
    the_innermost_of_nested_calls_is_shown,
    the_innermost_is_shown_across_fork_servers,
    an_inner_call_has_its_own_trace,
    with_a_grace_it_is_shown_where_the_body_was_at_the_limit,
    a_body_deaf_to_signals_is_still_told_to_be_running,
    a_stopped_body_is_told_to_be_stopped,
    a_value_that_is_never_encoded_is_told_with_the_place,
    a_trace_does_not_hold_a_call_up,
    many_late_calls_at_once_are_all_shown,
];

/// Time enough to get to the place that is to be shown.
const LIMIT: Duration = Duration::from_secs(1);

/// Makes a call that is late in `body`, which tells before it hangs.
#[track_caller]
fn late<T>(start: Start, body: impl Fn(&Mark) -> T + Copy) -> TimedOut {
    late_with(start, &Mark::new(), (), move |mark, ()| body(mark))
}

/// The same for a body that needs something of its caller, and may tell more.
#[track_caller]
fn late_with<A: Portable, T>(start: Start, mark: &Mark, arguments: A, body: impl Fn(&Mark, A) -> T + Copy) -> TimedOut {
    let result = start.run(&start.call(LIMIT), (mark.again(), arguments), move |(mark, arguments)| {
        body(&mark, arguments);
    });
    let error = assert_fails!(result, Reason::Late { .. }, Ran::Maybe);
    assert!(mark.is_told(), "there was no time for the body");
    error
}

/// Checks the innermost user's function and what it was doing, in the text.
#[track_caller]
fn assert_stuck(error: &TimedOut, function: &str, doing: &str) {
    assert_shows(error, function);
    let text = error.to_string();
    let place = format!(" ms: it was in traces::{function} at tests/traces.rs:");
    assert!(text.contains(&place) || text.contains(&place.replace(" ms", " s")), "{text}");
    assert!(text.contains(&format!(" ({doing}")), "{text}");
}

const SPIN_LINE: u32 = line!() + 7;

#[inline(never)]
fn spin() {
    let mut count = 0u64;
    let begin = Instant::now();
    while count.is_multiple_of(1 << 20) || begin.elapsed() < LONG {
        count = black_box(count + 1);
    }
}

fn a_spinning_body_is_named_with_its_line_and_its_cpu_time(start: Start) {
    let error = late(start, |mark| {
        mark.now();
        spin();
    });
    assert_stuck(&error, "spin", "running, ");
    assert!(error.to_string().ends_with(" of CPU)"), "{error}");
    let frame = backtrace(&error).frames().iter().find(|frame| frame.function() == Some("traces::spin")).unwrap();
    assert_eq!(frame.file(), Some("tests/traces.rs"));
    assert!(frame.line().is_some_and(|line| line.abs_diff(SPIN_LINE) <= 1), "{frame}");
    assert!(frame.column().is_some() && frame.address() > 0 && frame.offset() > Some(0));
    assert!(frame.module().is_some_and(|module| module.starts_with("traces-")), "{frame:?}");
    let listed = backtrace(&error).to_string();
    assert!(listed.contains("0: ") && listed.contains("at tests/traces.rs:"), "{listed}");
    assert!(format!("{:?}", backtrace(&error)).len() < 60);
}

#[inline(never)]
fn sleep() {
    raw::pause();
}

fn a_sleeping_body_is_named(start: Start) {
    let error = late(start, |mark| {
        mark.now();
        thread::sleep(LONG);
        black_box(())
    });
    assert_shows(&error, "a_sleeping_body_is_named::{{closure}}");
    // The control: what was not under way is not shown.
    assert!(!functions(backtrace(&error)).contains(&"traces::spin"), "{}", backtrace(&error));
    assert!(error.to_string().ends_with("(sleeping)"), "{error}");
    assert!(error.to_string().contains("it was in traces::a_sleeping_body_is_named at tests/traces.rs:"), "{error}");
}

#[inline(never)]
fn read_for_ever(mut from: impl Read) {
    from.read_exact(&mut [0]).unwrap();
}

fn a_body_in_a_read_is_named_with_its_descriptor(start: Start) {
    use std::os::fd::AsRawFd;
    let mark = Mark::new();
    let error = late_with(start, &mark, (), |mark, ()| {
        let (reader, _writer) = pipe().unwrap();
        mark.tell(reader.as_raw_fd() as u64);
        read_for_ever(&reader);
    });
    assert_stuck(&error, "read_for_ever", &format!("in read(fd {})", mark.hear()));
}

static LOCK: Mutex<u32> = Mutex::new(0);

#[inline(never)]
fn take_the_lock() -> u32 {
    *LOCK.lock().unwrap()
}

fn a_body_that_waits_for_its_own_lock_is_told_so(start: Start) {
    scenario::alone(|| {
        let error = late(start, |mark| {
            let _held = LOCK.lock();
            mark.now();
            take_the_lock();
        });
        assert_stuck(&error, "take_the_lock", "waiting for a lock)");
        assert!(!error.to_string().contains("threads"), "{error}");
    });
}

fn a_lock_of_another_thread_is_told_with_the_cure(start: Start) {
    let (is_held, wait_for_it) = mpsc::channel();
    let (let_go, wait_for_the_end) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let _held = LOCK.lock();
            is_held.send(()).unwrap();
            let _ = wait_for_the_end.recv();
        });
        wait_for_it.recv().unwrap();
        let error = late(start, |mark| {
            mark.now();
            take_the_lock();
        });
        drop(let_go);
        assert_stuck(&error, "take_the_lock", "waiting for a lock; the process had ");
        assert!(error.to_string().contains("threads when it forked, and a lock that another of them held"), "{error}");
        assert!(error.to_string().contains("make the call before starting threads"), "{error}");
    });
}

fn a_body_that_waits_for_a_process_is_told_so(start: Start) {
    let error = late(start, |mark| {
        let child = raw::fork(sleep);
        mark.now();
        nix::sys::wait::waitpid(child, None)
    });
    assert!(error.to_string().ends_with("(waiting for a process)"), "{error}");
}

#[inline(never)]
fn allocate_for_ever() {
    let begin = Instant::now();
    let mut size = 1;
    while begin.elapsed() < LONG {
        for _ in 0..1000 {
            size = size * 7 % 100_003;
            drop(black_box(Vec::<u8>::with_capacity(size)));
        }
    }
}

fn a_body_inside_the_allocator_is_named(start: Start) {
    let mut inside = 0;
    for _ in 0..20 {
        let mark = Mark::new();
        let result = start.run(&start.call(Duration::from_millis(150)), mark.again(), |mark| {
            mark.now();
            allocate_for_ever();
        });
        let error = result.unwrap_err();
        if mark.is_told() {
            assert_stuck(&error, "allocate_for_ever", "running, ");
            let innermost = &backtrace(&error).frames()[0];
            inside += u32::from(innermost.module().is_some_and(|module| module.starts_with("libc")));
        }
    }
    assert!(inside > 0, "no sample was taken inside the allocator");
}

/// A library in C, built without frame pointers and gone again from the file system when dropped.
struct Library(PathBuf);

impl Library {
    fn build() -> Library {
        Library::compile(
            "int inner_in_c(volatile int *go_on) { int n = 0; while (*go_on) n++; return n; }\n\
             int outer_in_c(volatile int *go_on) { return inner_in_c(go_on) + 1; }\n\
             int call_in_c(int (*back)(void)) { return back() + 1; }\n",
            &[],
        )
    }

    /// One with nothing that tells how to get from a function to its caller. Their stacks are full of what looks like it.
    fn without_tables() -> Library {
        Library::compile(
            "int decoy_in_c(int n) { return n * 7 + 1; }\n\
             #define DECOYS char *volatile decoys[64]; for (int i = 0; i < 64; i++) decoys[i] = (char *)decoy_in_c + 1;\n\
             int inner_in_c(volatile int *go_on) { DECOYS int n = 0; while (*go_on) n++; return n + (decoys[n & 63] != 0); }\n\
             int outer_in_c(volatile int *go_on) { DECOYS return inner_in_c(go_on) + (decoys[5] != 0); }\n\
             int call_in_c(int (*back)(void)) { DECOYS return back() + (decoys[5] != 0); }\n",
            &["-fno-unwind-tables", "-fno-asynchronous-unwind-tables"],
        )
    }

    fn compile(source: &str, more: &[&str]) -> Library {
        let folder = env::temp_dir().join(format!("timeout-suite-traces-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("code.c"), source).unwrap();
        let flags = ["-O2", "-fomit-frame-pointer", "-fno-inline", "-fno-optimize-sibling-calls", "-shared", "-fPIC"];
        let built = process::Command::new("cc")
            .args(flags)
            .args(more)
            .args(["-o", "libcode.so", "code.c"])
            .current_dir(&folder)
            .status();
        assert!(built.unwrap().success());
        Library(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.join("libcode.so")
    }

    fn open(&self) -> raw::Library {
        raw::Library::open(&self.path())
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

extern "C" fn spin_for_c() -> i32 {
    spin();
    1
}

fn code_in_c_without_frame_pointers_is_named(start: Start) {
    let library = Library::build();
    let code = library.open();
    let error = start.call(LIMIT).run(|| code.call_with_flag(c"outer_in_c")).unwrap_err();
    assert_shows(&error, "inner_in_c");
    assert_shows(&error, "outer_in_c");
    assert_shows(&error, "code_in_c_without_frame_pointers_is_named::{{closure}}");
    assert!(error.to_string().contains("it was in inner_in_c (running, "), "{error}");
    // Rust below C below Rust.
    let error = start.call(LIMIT).run(|| code.call_with_function(c"call_in_c", spin_for_c)).unwrap_err();
    assert_stuck(&error, "spin", "running, ");
    assert_shows(&error, "call_in_c");
}

fn a_library_that_only_the_child_has_loaded_is_told_by_its_module(start: Start) {
    let library = Library::build();
    let error = late_with(start, &Mark::new(), library.path(), |mark, path| {
        let code = raw::Library::open(&path);
        mark.now();
        code.call_with_flag(c"outer_in_c");
    });
    let frame = &backtrace(&error).frames()[0];
    assert_eq!((frame.module(), frame.function()), (Some("libcode.so"), None), "{}", backtrace(&error));
    assert!(error.to_string().contains("it was in libcode.so+0x"), "{error}");
    assert_shows(&error, "a_library_that_only_the_child_has_loaded_is_told_by_its_module::{{closure}}");
}

fn code_that_cannot_be_unwound_is_shown_and_nothing_made_up_behind_it(start: Start) {
    let library = Library::without_tables();
    // Where the host has it, too, its functions have names.
    let _loaded = library.open();
    for spins_in_rust in [false, true] {
        let error = late_with(start, &Mark::new(), (library.path(), spins_in_rust), |mark, (path, spins_in_rust)| {
            let code = raw::Library::open(&path);
            mark.now();
            match spins_in_rust {
                false => code.call_with_flag(c"outer_in_c"),
                true => code.call_with_function(c"call_in_c", spin_for_c),
            }
        });
        let trace = backtrace(&error);
        println!("{error}\n{trace}");
        assert_eq!(trace.threads().len(), 1, "{trace}");
        let is_in_c = |frame: &&Frame| frame.module() == Some("libcode.so");
        let (c, rust): (Vec<_>, Vec<_>) = trace.frames().iter().partition(is_in_c);
        // Of C only the innermost call is known: nothing tells who has made it.
        assert_eq!(c.len(), 1, "{trace}");
        if spins_in_rust {
            assert!(!is_in_c(&&trace.frames()[0]) && is_in_c(&trace.frames().last().unwrap()), "{trace}");
            assert_shows(&error, "traces::spin");
            assert_shows(&error, "traces::spin_for_c");
        } else {
            assert!(rust.is_empty() && error.to_string().contains("(running, "), "{error}\n{trace}");
        }
        let expected = if spins_in_rust { "call_in_c" } else { "inner_in_c" };
        assert_eq!(c[0].function(), Some(expected), "{trace}");
    }
}

fn every_thread_of_the_child_is_shown(start: Start) {
    let error = late(start, |mark| {
        let others: Vec<_> = (0..3)
            .map(|number| {
                let name = format!("bee {number}");
                let (mark, begun) = mpsc::channel();
                let bee = thread::Builder::new().name(name).spawn(move || {
                    drop(mark);
                    // Not three that spin: on a busy machine they would not all get a core in time to answer.
                    if number == 0 { spin() } else { sleep() }
                });
                let _: Result<(), _> = begun.recv();
                bee.unwrap()
            })
            .collect();
        mark.now();
        others.into_iter().for_each(|other| other.join().unwrap());
    });
    let threads = backtrace(&error).threads();
    assert_eq!(threads.len(), 4, "{}", backtrace(&error));
    assert!(threads[0].is_body() && threads[1..].iter().all(|stack| !stack.is_body()));
    let mut names: Vec<_> = threads[1..].iter().filter_map(|stack| stack.thread()).collect();
    names.sort_unstable();
    assert_eq!(names, ["bee 0", "bee 1", "bee 2"]);
    for stack in &threads[1..] {
        let expected = if stack.thread() == Some("bee 0") { "traces::spin" } else { "traces::sleep" };
        assert!(stack.frames().iter().any(|frame| frame.function() == Some(expected)), "{}", backtrace(&error));
    }
    assert!(error.to_string().contains("(waiting for another thread"), "{error}\n{}", backtrace(&error));
}

#[inline(never)]
fn descend(depth: u32) -> u32 {
    if depth == 0 {
        spin();
        return 0;
    }
    black_box(descend(black_box(depth) - 1)) + 1
}

fn a_deep_recursion_is_cut_to_its_innermost_calls(start: Start) {
    let error = late(start, |mark| {
        mark.now();
        descend(5_000)
    });
    assert_stuck(&error, "spin", "running, ");
    let names = functions(backtrace(&error));
    assert!(names.iter().filter(|name| **name == "traces::descend").count() > 40, "{}", backtrace(&error));
}

/// Checks that the body of the innermost call was shown as it spun, and behind it those around it, one thread of each.
#[track_caller]
fn assert_nested(error: &TimedOut, inside_out: &[&str]) {
    assert_stuck(error, "spin", "running, ");
    let names = functions(backtrace(error));
    let places = inside_out.iter().map(|function| names.iter().position(|name| name.ends_with(function)));
    let places: Vec<_> = places.collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{}", backtrace(error));
    assert_eq!(backtrace(error).threads().len(), 1);
}

fn the_innermost_of_nested_calls_is_shown(start: Start) {
    #[inline(never)]
    fn outer(mark: &Mark) {
        let inner = Call::new(LONG).run(|| middle(mark));
        unreachable!("{inner:?}");
    }
    #[inline(never)]
    fn middle(mark: &Mark) {
        let inner = Call::new(LONG).run(|| {
            mark.now();
            spin();
        });
        unreachable!("{inner:?}");
    }
    assert_nested(&late(start, outer), &["traces::spin", "::middle", "::outer"]);
}

fn the_innermost_is_shown_across_fork_servers(start: Start) {
    #[inline(never)]
    fn outer(mark: &Mark) {
        let inner = Call::new(LONG).run_in_server(mark.again(), |mark: Mark| middle(&mark));
        unreachable!("{inner:?}");
    }
    #[inline(never)]
    fn middle(mark: &Mark) {
        let inner = Call::new(LONG).run_in_server(mark.again(), |mark: Mark| inner(&mark));
        unreachable!("{inner:?}");
    }
    #[inline(never)]
    fn inner(mark: &Mark) {
        let inner = Call::new(LONG).run(|| {
            mark.now();
            spin();
        });
        unreachable!("{inner:?}");
    }
    assert_nested(&late(start, outer), &["traces::spin", "::inner", "::middle", "::outer"]);
}

fn an_inner_call_has_its_own_trace(start: Start) {
    let text = start.run(&start.call(LONG), (), |()| {
        late(Start::Fork, |mark| {
            mark.now();
            spin();
        })
        .to_string()
    });
    let text = text.unwrap();
    assert!(text.contains("it was in traces::spin at tests/traces.rs:") && text.contains("(running, "), "{text}");
}

fn with_a_grace_it_is_shown_where_the_body_was_at_the_limit(start: Start) {
    let mark = Mark::new();
    let result = start.run(&start.call(LIMIT).grace(LONG), mark.again(), |mark| {
        raw::exit_on::<0>(libc::SIGTERM);
        mark.now();
        spin();
    });
    let error = assert_fails!(result, Reason::Late { .. }, Ran::Maybe);
    assert!(mark.is_told());
    assert_stuck(&error, "spin", "running, ");
}

fn a_body_deaf_to_signals_is_still_told_to_be_running(start: Start) {
    let begin = Instant::now();
    let error = late(start, |mark| {
        SigSet::all().thread_block().unwrap();
        mark.now();
        spin();
    });
    assert!(begin.elapsed() < LIMIT + common::SOON);
    assert!(backtrace(&error).is_empty() && backtrace(&error).frames().is_empty());
    assert!(error.to_string().contains("did not return within 1 s: it was running, "), "{error}");
    assert!(error.to_string().ends_with(" of CPU"), "{error}");
    // And one that waits.
    let error = late(start, |mark| {
        SigSet::all().thread_block().unwrap();
        let _held = LOCK.lock();
        mark.now();
        take_the_lock()
    });
    let text = error.to_string();
    let (_, told) =
        text.split_once(": it was waiting for a lock or for another thread").unwrap_or_else(|| panic!("{text}"));
    // A worker is forked from a process of one thread.
    assert_eq!(told.contains("; the process had "), start == Start::Fork, "{text}");
}

fn a_stopped_body_is_told_to_be_stopped(start: Start) {
    let error = late(start, |mark| {
        mark.now();
        kill(getpid(), Signal::SIGSTOP).unwrap();
        sleep();
    });
    assert!(error.to_string().ends_with("did not return within 1 s: it was stopped"), "{error}");
}

struct NeverWritten;

impl serde::Serialize for NeverWritten {
    #[inline(never)]
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        loop {
            spin();
        }
    }
}

impl<'de> serde::Deserialize<'de> for NeverWritten {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<NeverWritten, D::Error> {
        Ok(NeverWritten)
    }
}

fn a_value_that_is_never_encoded_is_told_with_the_place(start: Start) {
    let error = start.run(&start.call(LIMIT), (), |()| NeverWritten).map(drop).unwrap_err();
    let text = error.to_string();
    let expected = "its value was being encoded by its `Serialize` in traces::spin at tests/traces.rs:";
    assert!(text.contains(expected), "{text}");
    assert!(functions(backtrace(&error)).iter().any(|name| name.contains("NeverWritten")), "{}", backtrace(&error));
}

fn a_trace_does_not_hold_a_call_up(start: Start) {
    let limit = Duration::from_millis(50);
    let bodies: [(&str, fn()); 3] = [
        ("spinning", spin),
        ("sleeping", sleep),
        ("deaf", || {
            SigSet::all().thread_block().unwrap();
            sleep();
        }),
    ];
    for (name, body) in bodies {
        let mut shown = 0;
        let times = (0..25).map(|_| {
            let begin = Instant::now();
            let error = start.run(&start.call(limit), Fun(body), |Fun(body)| body()).unwrap_err();
            let late = begin.elapsed() - limit;
            shown += u32::from(!backtrace(&error).is_empty());
            late
        });
        let late = median(times.collect());
        println!("{name}: {late:?} late, {shown} of 25 shown");
        // Alone on a machine it is about one millisecond.
        assert!(late < Duration::from_millis(100), "{name}: {late:?} late");
        assert!(name == "deaf" || shown >= 20, "{name}: {shown} of 25 shown");
    }
}

fn many_late_calls_at_once_are_all_shown(start: Start) {
    static SHOWN: AtomicU64 = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let error = late(start, |mark| {
                        mark.now();
                        sleep();
                    });
                    SHOWN.fetch_add(u64::from(!backtrace(&error).is_empty()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(SHOWN.load(Ordering::Relaxed), 24);
}
