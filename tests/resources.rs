//! What a body may use besides time: beyond its memory or CPU time it is told so, and the host's own bounds hold.

mod common;

use std::{
    hint::black_box,
    os::unix::process::ExitStatusExt,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use common::{
    LONG, Mark, SOON, Start, assert_fails, endings,
    greed::{self, EATERS, TICKS, burn, burn_on, check_burning},
    raw, seccomp, shapes,
    travel::Fun,
};
use nix::{
    errno::Errno,
    libc,
    sys::signal::{SigSet, Signal, raise},
};
use timeout_runtime::{Cancel, Ran, Reason, Resource, Rlimit, TimedOut, timeout};

common::scenarios_everywhere![
    a_body_that_eats_memory_is_out_of_it,
    a_body_within_its_memory_gives_its_value,
    c_code_that_runs_out_bit_by_bit_is_out_of_memory,
    a_crash_with_memory_left_is_a_crash,
    a_value_too_large_to_be_encoded_is_out_of_memory,
    a_request_that_nothing_could_meet_is_out_of_memory_without_a_bound,
    a_failed_try_reserve_is_the_bodys_own,
    a_body_that_burns_is_out_of_cpu_time_precisely,
    waiting_costs_no_cpu_time,
    all_threads_of_a_body_share_its_cpu_time,
    a_body_deaf_to_sigxcpu_is_killed,
    what_a_body_has_started_ends_with_its_cpu_time,
    a_sigxcpu_from_elsewhere_is_a_crash,
    every_resource_is_bound_soft_and_hard,
    every_failure_tells_what_was_used,
];

// They are about what a copy of the host has of it, or about `run_measured`, which is of `fork` alone.
common::scenarios_by_fork![
    what_is_reserved_for_the_hosts_threads_counts,
    what_the_host_has_mapped_does_not_count,
    a_stack_that_cannot_grow_is_out_of_memory,
    a_host_that_blocks_or_ignores_sigxcpu_changes_nothing,
    what_a_body_starts_is_bound_too,
    the_hosts_own_limits_are_not_loosened,
    a_file_that_grows_too_large_is_a_crash_by_its_signal,
    nothing_is_started_for_nothing,
    a_value_comes_with_what_it_took,
    the_attribute_sets_bounds,
    what_cannot_be_measured_is_not_made_up,
];

const MIB: u64 = 1 << 20;

fn megabytes(count: u64) -> usize {
    black_box(vec![1u8; (count * MIB) as usize]).len()
}

macro_rules! assert_out_of {
    ($resource:ident, $result:expr, $ran:pat) => {
        assert_fails!($result, Reason::OutOf(Resource::$resource), $ran)
    };
}

fn a_body_that_eats_memory_is_out_of_it(start: Start) {
    check_eaters(start);
}

/// Threads of the host have made the C library reserve memory that none of them needs any more.
fn what_is_reserved_for_the_hosts_threads_counts(start: Start) {
    let (ready, done) = (Mark::new(), Mark::new());
    let mapped = common::procs::status("VmSize");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                drop(black_box(vec![1u8; 1000]));
                ready.tell(1);
                done.hear();
            });
        }
        for _ in 0..4 {
            ready.hear();
        }
        println!("{} KiB more than before", common::procs::status("VmSize") - mapped);
        check_eaters(start);
        (0..4).for_each(|_| done.tell(1));
    });
}

fn check_eaters(start: Start) {
    for &(name, eat) in EATERS {
        println!("{name}");
        // What is resident of the caller, which keeps what it reads to name places, and what the kernel counts late.
        let own = (common::procs::status("VmRSS") << 10) + 8 * MIB;
        let begin = Instant::now();
        let result = start.run(&start.call(LONG).memory(96 * MIB), Fun(eat), |Fun(eat): Fun<()>| eat());
        let error = assert_out_of!(Memory, result, Ran::Maybe);
        assert!(begin.elapsed() < SOON, "{name}: told after {:?}", begin.elapsed());
        assert!(error.to_string().contains("ran out of memory: it may use 96 MiB (its peak was "), "{error}");
        let peak = error.usage().unwrap().peak_memory();
        assert!(peak > MIB && peak < 96 * MIB + own, "{name}: {error:?}");
    }
    assert_eq!(start.run(&start.call(LONG).memory(96 * MIB), (), |()| 7).unwrap(), 7, "the caller lives on");
}

fn a_body_within_its_memory_gives_its_value(start: Start) {
    let within = |memory| start.call(LONG).memory(memory);
    assert_eq!(start.run(&within(96 * MIB), 64, megabytes).unwrap(), 64 << 20);
    // Sending it takes some, too: the value is there, and encoded.
    let value = start.run(&within(64 * MIB), 100_000, |length| vec![Some(1u64); length]).unwrap();
    assert_eq!(value.len(), 100_000);
    // What lives on the stack and in the program itself needs nothing more.
    assert_eq!(start.run(&within(1), (), |()| black_box([1u8; 1000]).len()).unwrap(), 1000);
}

fn what_the_host_has_mapped_does_not_count(start: Start) {
    let gibibyte = raw::map_untouched(1 << 30);
    let before = common::procs::status("VmData") << 10;
    assert!(before > 1 << 30);
    assert_eq!(start.call(LONG).memory(96 * MIB).run(|| megabytes(64)).unwrap(), 64 << 20);
    assert_out_of!(Memory, start.call(LONG).memory(96 * MIB).run(|| megabytes(128)), Ran::Maybe);
    assert_eq!(start.call(LONG).run(|| megabytes(128)).unwrap(), 128 << 20, "it is the bound, not the machine");
    let (soft, hard) = start.call(LONG).memory(96 * MIB).run(|| raw::limit(libc::RLIMIT_DATA)).unwrap();
    assert_eq!(soft, hard);
    // A child maps little of its own: a stack for its handlers, and what the C library feels like.
    assert!((before + 96 * MIB..before + 100 * MIB).contains(&soft), "{soft} in a host of {before}");
    raw::unmap(gibibyte, 1 << 30);
}

fn c_code_that_runs_out_bit_by_bit_is_out_of_memory(start: Start) {
    let call = start.call(LONG).memory(64 * MIB);
    for piece in [100, 5000, 64 << 10, 256 << 10] {
        let follows = start.run(&call, piece, |piece| {
            greed::exhaust_malloc(piece);
            greed::write_through_null(16);
        });
        let aborts = start.run(&call, piece, |piece: usize| {
            greed::exhaust_malloc(piece);
            std::process::abort()
        });
        for result in [follows, aborts] {
            println!("{piece} bytes at once: {result:?}");
            assert_out_of!(Memory, result, Ran::Maybe);
        }
    }
}

fn a_crash_with_memory_left_is_a_crash(start: Start) {
    let mark = Mark::new();
    for ending in endings::all() {
        ending.check_within(start, &start.call(LONG).memory(256 * MIB).cpu(LONG), &mark);
    }
    // Full, but not what it crashed of.
    let call = start.call(LONG).memory(64 * MIB);
    let elsewhere = start.run(&call, (), |()| {
        greed::exhaust_malloc(5000);
        greed::write_through_null(1 << 40);
    });
    assert_fails!(elsewhere, Reason::Crashed { signal: libc::SIGSEGV, .. }, Ran::Maybe);
    // So much at once was never there: to its caller that is a null pointer like any other.
    let at_once = start.run(&call, (), |()| {
        greed::exhaust_malloc(1 << 40);
        greed::write_through_null(16);
    });
    assert_fails!(at_once, Reason::Crashed { signal: libc::SIGSEGV, address: Some(16), .. }, Ran::Maybe);
    // Empty-handed for another reason: nobody has bounded it.
    let unbounded = start.run(&start.call(LONG), (), |()| greed::write_through_null(16));
    assert_fails!(unbounded, Reason::Crashed { signal: libc::SIGSEGV, .. }, Ran::Maybe);
}

fn a_stack_that_cannot_grow_is_out_of_memory(start: Start) {
    let deep = || raw::overflow_stack(0);
    // Everything counts for that, also a stack; what the child maps for itself is some hundred KiB.
    let all = (common::procs::status("VmSize") << 10) + 2 * MIB;
    let error = start.call(LONG).rlimit(Rlimit::AddressSpace, all).run(deep).unwrap_err();
    match greed::is_on_growing_stack(&all) {
        true => assert!(matches!(error.reason(), Reason::OutOf(Resource::Memory)), "{error:?}"),
        // It has been there in full from the beginning.
        false => assert!(matches!(error.reason(), Reason::Crashed { stack_overflow: true, .. }), "{error:?}"),
    }
    for memory in [MIB, 256 * MIB] {
        let error = start.call(LONG).memory(memory).run(deep).unwrap_err();
        assert!(matches!(error.reason(), Reason::Crashed { stack_overflow: true, .. }), "{error:?}");
    }
}

fn a_value_too_large_to_be_encoded_is_out_of_memory(start: Start) {
    let result = start.run(&start.call(LONG).memory(48 * MIB), (), |()| vec![Some(u64::MAX); 2 << 20]);
    let error = assert_out_of!(Memory, result, Ran::Yes);
    assert!(error.to_string().contains("while its value was being encoded by its `Serialize`"), "{error}");
}

fn a_request_that_nothing_could_meet_is_out_of_memory_without_a_bound(start: Start) {
    let result = start.run(&start.call(LONG), (), |()| Vec::<u8>::with_capacity(black_box(1 << 60)).capacity());
    let error = assert_out_of!(Memory, result, Ran::Maybe);
    assert!(error.to_string().contains("ran out of memory (its peak was "), "{error}");
}

fn a_failed_try_reserve_is_the_bodys_own(start: Start) {
    let call = start.call(LONG).memory(64 * MIB);
    fn refused() -> Result<(), std::collections::TryReserveError> {
        Vec::<u8>::new().try_reserve(128 << 20)
    }
    assert!(start.run(&call, (), |()| refused().is_err()).unwrap());
    assert_fails!(start.run(&call, (), |()| refused().unwrap()), Reason::Panicked { .. }, Ran::Yes);
}

fn a_body_that_burns_is_out_of_cpu_time_precisely(start: Start) {
    check_burning(start);
}

fn waiting_costs_no_cpu_time(start: Start) {
    let limit = Duration::from_millis(100);
    let body = |limit| {
        thread::sleep(4 * limit);
        7
    };
    assert_eq!(start.run(&start.call(LONG).cpu(limit), limit, body).unwrap(), 7);
}

fn all_threads_of_a_body_share_its_cpu_time(start: Start) {
    let limit = Duration::from_millis(300);
    let body = |limit: Duration| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| burn(limit / 2));
            }
        })
    };
    let error = assert_out_of!(Cpu, start.run(&start.call(LONG).cpu(limit), limit, body), Ran::Maybe);
    let used = error.usage().unwrap().cpu();
    // Every core may use a tick more.
    assert!(used + Duration::from_millis(1) >= limit && used < limit + 4 * TICKS, "{used:?}");
    start.run(&start.call(LONG).cpu(4 * limit), limit, body).unwrap();
}

fn a_host_that_blocks_or_ignores_sigxcpu_changes_nothing(start: Start) {
    let limit = Duration::from_millis(50);
    let check = || {
        let error = assert_out_of!(Cpu, start.call(LONG).cpu(limit).run(burn_on), Ran::Maybe);
        assert!(error.usage().unwrap().cpu() < limit + TICKS, "{error:?}");
    };
    let before = SigSet::thread_get_mask().unwrap();
    SigSet::from(Signal::SIGXCPU).thread_block().unwrap();
    check();
    // Without a bound on it, the signal stays as the caller has it.
    let is_blocked = || SigSet::thread_get_mask().unwrap().contains(Signal::SIGXCPU);
    assert!(start.call(LONG).run(is_blocked).unwrap() && is_blocked());
    before.thread_set_mask().unwrap();
    raw::ignore(libc::SIGXCPU);
    check();
    raw::set_default(libc::SIGXCPU);
}

fn a_body_deaf_to_sigxcpu_is_killed(start: Start) {
    let body = |()| {
        raw::ignore(libc::SIGXCPU);
        burn_on()
    };
    let error = assert_out_of!(Cpu, start.run(&start.call(LONG).cpu(0.1), (), body), Ran::Maybe);
    let used = error.usage().unwrap().cpu();
    // The kernel counts ticks for that, which is some percent off either way, and more on a machine that has no time.
    assert!(used > Duration::from_millis(1200) && used < Duration::from_millis(2400), "{used:?}");
}

fn what_a_body_starts_is_bound_too(start: Start) {
    let spin = || {
        let status = Command::new("sh").args(["-c", "while :; do :; done"]).status().unwrap();
        status.signal()
    };
    let (signal, usage) = start.call(LONG).cpu(0.5).run_measured(spin).unwrap();
    assert_eq!(signal, Some(libc::SIGKILL));
    // What was waited for counts.
    assert!(usage.cpu() > Duration::from_millis(1600) && usage.cpu() < Duration::from_millis(2400), "{usage:?}");
    let reads = || {
        let script = "head -c 200000000 /dev/zero | tail -c 150000000 | wc -c";
        Command::new("sh").args(["-c", script]).output().unwrap().stdout
    };
    assert_eq!(start.call(LONG).run(reads).unwrap(), b"150000000\n");
    assert_ne!(start.call(LONG).memory(32 * MIB).run(reads).unwrap(), b"150000000\n");
}

fn what_a_body_has_started_ends_with_its_cpu_time(start: Start) {
    for shape in shapes::all() {
        let mark = Mark::new();
        let arguments = (shape.name.to_owned(), mark.again());
        let result = start.run(&start.call(LONG).cpu(0.3), arguments, |(name, mark): (String, Mark)| {
            shapes::named(&name).plant_and_tell(&mark);
            burn_on()
        });
        assert_out_of!(Cpu, result, Ran::Maybe);
        common::procs::assert_alone_within(SOON);
    }
}

fn a_sigxcpu_from_elsewhere_is_a_crash(start: Start) {
    for signal in [Signal::SIGXCPU, Signal::SIGKILL] {
        let body = |number| raise(Signal::try_from(number).unwrap()).unwrap();
        let result = start.run(&start.call(LONG).cpu(10), signal as i32, body);
        let error = assert_fails!(result, Reason::Crashed { .. }, Ran::Maybe);
        assert!(matches!(error.reason(), Reason::Crashed { signal: told, .. } if *told == signal as i32), "{error:?}");
    }
}

fn the_hosts_own_limits_are_not_loosened(start: Start) {
    let mapped = common::procs::status("VmData") << 10;
    let before = raw::set_soft_limit(libc::RLIMIT_DATA, mapped + 96 * MIB);
    assert_out_of!(Memory, start.call(LONG).memory(1 << 40).run(|| megabytes(128)), Ran::Maybe);
    let limit = start.call(LONG).memory(1 << 40).run(|| raw::limit(libc::RLIMIT_DATA)).unwrap();
    assert_eq!(limit.0, mapped + 96 * MIB);
    raw::set_soft_limit(libc::RLIMIT_DATA, before);

    let before = raw::set_soft_limit(libc::RLIMIT_CPU, 1 + cpu_of_this_process().as_secs());
    let error = assert_out_of!(Cpu, start.call(LONG).cpu(40).run(burn_on), Ran::Maybe);
    let used = error.usage().unwrap().cpu();
    assert!(used < Duration::from_secs(3), "{used:?}");
    assert!(error.to_string().contains(" s of CPU time") && !error.to_string().contains("40"), "{error}");
    raw::set_soft_limit(libc::RLIMIT_CPU, before);

    let before = raw::set_soft_limit(libc::RLIMIT_NOFILE, 100);
    let in_child = |value| start.call(LONG).rlimit(Rlimit::OpenFiles, value).run(|| raw::limit(libc::RLIMIT_NOFILE));
    assert_eq!(in_child(5000).unwrap().0, 100);
    assert_eq!(in_child(50).unwrap(), (50, 50));
    raw::set_soft_limit(libc::RLIMIT_NOFILE, before);
}

fn cpu_of_this_process() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    Duration::from_secs((usage.user_time().tv_sec() + usage.system_time().tv_sec()) as u64 + 1)
}

fn every_resource_is_bound_soft_and_hard(start: Start) {
    let resources = [
        (Rlimit::AddressSpace, libc::RLIMIT_AS, 1 << 40),
        (Rlimit::Data, libc::RLIMIT_DATA, 1 << 39),
        (Rlimit::FileSize, libc::RLIMIT_FSIZE, 12_345),
        (Rlimit::LockedMemory, libc::RLIMIT_MEMLOCK, 4096),
        (Rlimit::MessageQueues, libc::RLIMIT_MSGQUEUE, 1000),
        (Rlimit::Nice, libc::RLIMIT_NICE, 0),
        (Rlimit::OpenFiles, libc::RLIMIT_NOFILE, 0),
        (Rlimit::PendingSignals, libc::RLIMIT_SIGPENDING, 5),
        (Rlimit::Processes, libc::RLIMIT_NPROC, 1),
        (Rlimit::RealtimePriority, libc::RLIMIT_RTPRIO, 0),
        (Rlimit::RealtimeTime, libc::RLIMIT_RTTIME, 1000),
        (Rlimit::Stack, libc::RLIMIT_STACK, 1 << 20),
    ];
    // Each by itself, and all of them: a child needs little to send its value.
    for (resource, number, value) in resources {
        assert!(raw::limit(number).0 >= value, "{resource:?} proves nothing");
        let limit = start.run(&start.call(LONG).rlimit(resource, value), number, raw::limit).unwrap();
        assert_eq!(limit, (value, value), "{resource:?}");
    }
    let all = resources.iter().fold(start.call(LONG), |call, (resource, _, value)| call.rlimit(*resource, *value));
    let numbers = resources.map(|(_, number, _)| number).to_vec();
    let read = |numbers: Vec<_>| numbers.into_iter().map(|number| raw::limit(number).0).collect::<Vec<_>>();
    let limits = start.run(&all, numbers, read).unwrap();
    assert_eq!(limits, resources.map(|(.., value)| value));
    // Before the hard limit, which kills without a word, comes the soft one.
    let limit = start.run(&start.call(LONG).rlimit(Rlimit::CpuTime, 7), libc::RLIMIT_CPU, raw::limit).unwrap();
    assert_eq!(limit, (7, 8));
    let call = start.call(LONG).rlimit(Rlimit::CpuTime, 1);
    let error = assert_out_of!(Cpu, start.run(&call, (), |()| burn_on()), Ran::Maybe);
    assert!(error.to_string().contains("used up its 1 s of CPU time; it was in "), "{error}");
}

fn a_file_that_grows_too_large_is_a_crash_by_its_signal(start: Start) {
    use std::io::Write;
    let path = std::env::temp_dir().join(format!("timeout-suite-growing-{}", std::process::id()));
    let result = start.call(LONG).rlimit(Rlimit::FileSize, 1000).run(|| {
        let mut file = std::fs::File::create(&path).unwrap();
        (0..10).try_for_each(|_| file.write_all(&[0; 500])).unwrap();
    });
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 1000);
    std::fs::remove_file(&path).unwrap();
    assert_fails!(result, Reason::Crashed { signal: libc::SIGXFSZ, .. }, Ran::Maybe);
    // Its value is no file.
    let value = start.call(LONG).rlimit(Rlimit::FileSize, 0).run(|| vec![1u8; 300_000]).unwrap();
    assert_eq!(value.len(), 300_000);
}

fn nothing_is_started_for_nothing(start: Start) {
    let mark = Mark::new();
    let error = assert_out_of!(Memory, start.call(LONG).memory(0).run(|| mark.now()), Ran::No);
    assert!(error.to_string().ends_with("ran out of memory: it may use none"), "{error}");
    let error = assert_out_of!(Cpu, start.call(LONG).cpu(0).run(|| mark.now()), Ran::No);
    assert!(error.to_string().ends_with("used up its 0 s of CPU time"), "{error}");
    assert!(!mark.is_told(), "a body ran");
    assert_eq!(start.call(LONG).cpu(Duration::MAX).run(|| 7).unwrap(), 7);
}

fn a_value_comes_with_what_it_took(start: Start) {
    let burnt = Duration::from_millis(100);
    let (value, usage) = start.call(LONG).run_measured(|| burn(burnt)).unwrap();
    assert_eq!(value, 1);
    assert!(usage.cpu() >= burnt && usage.cpu() < burnt + 4 * TICKS, "{usage:?}");
    let (_, small) = start.call(LONG).run_measured(|| 7).unwrap();
    assert!(small.cpu() < burnt, "{small:?}");
    let (size, large) = start.call(LONG).run_measured(|| megabytes(100)).unwrap();
    assert_eq!(size, 100 << 20);
    assert!(large.peak_memory() >= 95 * MIB && large.peak_memory() < small.peak_memory() + 120 * MIB, "{large:?}");
    // Values of every shape, and what was encoded.
    let (text, _) = start.call(LONG).run_measured(|| "x".repeat(1 << 20)).unwrap();
    assert_eq!(text.len(), 1 << 20);
    let error = start.call(LONG).run_measured(|| -> u8 { panic!("no value") }).unwrap_err();
    assert!(error.is_panic() && error.usage().is_some());
}

/// What is used before each failure: enough to tell it from nothing, and memory that takes its time to be given back.
fn use_much() {
    burn(Duration::from_millis(40));
    std::mem::forget(black_box(vec![1u8; 150 << 20]));
}

fn every_failure_tells_what_was_used(start: Start) {
    #[track_caller]
    fn check(name: &str, error: &TimedOut) {
        let usage = error.usage().unwrap_or_else(|| panic!("{name}: unknown: {error:?}"));
        assert!(usage.cpu() >= Duration::from_millis(30), "{name}: {error:?}");
        assert!(usage.cpu() < Duration::from_secs(10), "{name}: {error:?}");
        // The kernel counts pages per core and adds them up now and then.
        assert!(usage.peak_memory() >= 145 * MIB, "{name}: {error:?}");
    }
    let mark = Mark::new();
    let endings = endings::PANICS.iter().chain(endings::CRASHES).chain(endings::EXITS).chain(&endings::OVERFLOWS[..1]);
    for ending in endings {
        let arguments = (ending.name.to_owned(), mark.again());
        let result = start.run(&start.call(LONG), arguments, |(name, mark): (String, Mark)| {
            use_much();
            endings::run(&name, &mark)
        });
        ending.told.check(ending.name, &result);
        check(ending.name, &result.unwrap_err());
    }
    let late = |call: timeout_runtime::Call| {
        start.run(&call, (), |()| {
            use_much();
            raw::pause()
        })
    };
    // By then it has used it, whatever runs beside it.
    check("late", &late(start.call(SOON)).unwrap_err());
    check("late with a grace", &late(start.call(SOON).grace(LONG)).unwrap_err());
    let out = start.run(&start.call(LONG).memory(200 * MIB), (), |()| {
        use_much();
        megabytes(100)
    });
    check("out of memory", &out.unwrap_err());
    let out = start.run(&start.call(LONG).cpu(0.5), (), |()| {
        use_much();
        burn_on()
    });
    check("out of CPU time", &out.unwrap_err());
    // It cannot be encoded.
    let lost = start.run(&start.call(LONG), (), |()| {
        use_much();
        Unspeakable
    });
    assert!(matches!(lost.as_ref().unwrap_err().reason(), Reason::Lost { .. }));
    check("lost", &lost.map(drop).unwrap_err());
    check("cancelled", &cancelled(start));
}

fn cancelled(start: Start) -> TimedOut {
    let (cancel, mark) = (Cancel::new(), Mark::new());
    let (told, is_told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            mark.hear();
            cancel.cancel();
            told.send(()).unwrap();
        });
        let result = start.run(&start.call(LONG).cancel(&cancel), mark.again(), |mark: Mark| {
            use_much();
            mark.now();
            raw::pause()
        });
        is_told.recv().unwrap();
        assert_fails!(result, Reason::Cancelled, Ran::Maybe)
    })
}

#[timeout(50, memory = "96MiB", cpu = 700ms)]
fn bound_by_literals(count: u64) -> usize {
    if count == 0 { burn_on() as usize } else { megabytes(count) }
}

struct Config {
    memory: u64,
    cpu: Duration,
}

impl Config {
    #[timeout(50, cpu = self.cpu, memory = self.memory)]
    fn bound_by_expressions(&self, count: u64) -> usize {
        if count == 0 { burn_on() as usize } else { megabytes(count) }
    }
}

macro_rules! bound_by {
    ($name:ident, $memory:expr) => {
        #[timeout(50, memory = $memory)]
        fn $name(count: u64) -> usize {
            megabytes(count)
        }
    };
}

bound_by!(bound_by_a_macro, 96MiB);
bound_by!(bound_by_a_shift, 96 << 20);

fn the_attribute_sets_bounds(_: Start) {
    let config = Config { memory: 96 * MIB, cpu: Duration::from_millis(700) };
    let ways: [&dyn Fn(u64) -> Result<usize, TimedOut>; 4] =
        [&bound_by_literals, &|count| config.bound_by_expressions(count), &bound_by_a_macro, &bound_by_a_shift];
    for way in ways {
        assert_eq!(way(64).unwrap(), 64 << 20);
        let error = assert_out_of!(Memory, way(128), Ran::Maybe);
        assert!(error.to_string().contains("it may use 96 MiB"), "{error}");
    }
    for way in &ways[..2] {
        let error = assert_out_of!(Cpu, way(0), Ran::Maybe);
        assert!(error.to_string().contains("used up its 700 ms of CPU time; it was in "), "{error}");
    }
}

fn what_cannot_be_measured_is_not_made_up(start: Start) {
    // A sandbox that forbids the question; in this process nobody asks it again.
    seccomp::forbid(libc::SYS_getrusage, Errno::EPERM);
    for _ in 0..20 {
        match start.call(LONG).run_measured(|| 7) {
            // It was dead already, and its status told.
            Ok((_, usage)) => assert!(usage.peak_memory() > 0, "{usage:?}"),
            lost => {
                let error = assert_fails!(lost, Reason::Lost { .. }, Ran::Yes);
                assert!(error.to_string().contains("did not tell what it had used"), "{error}");
            }
        }
    }
    assert_eq!(start.call(LONG).run(|| 7).unwrap(), 7);
    // With the status of a child that has died comes what it used.
    let error = start.call(LONG).run(|| std::process::abort()).map(|(): ()| ()).unwrap_err();
    assert!(error.is_crash() && error.usage().is_some(), "{error:?}");
}

/// A value that its own `Serialize` refuses.
#[derive(Debug)]
struct Unspeakable;

impl serde::Serialize for Unspeakable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("unspeakable"))
    }
}

impl<'de> serde::Deserialize<'de> for Unspeakable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Unspeakable)
    }
}
