//! A worker of the fork server is a fresh process in its host's place, and the server lives and dies with its host.

mod common;

use std::{
    collections::BTreeSet,
    env, fs,
    io::{Read, Write, pipe},
    os::{
        fd::AsRawFd,
        unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{
    LONG, Mark, SOON, Start, assert_fails, oracle::Snapshot, procs, raw, scenario, seccomp, shapes, travel::Fun,
};
use nix::{
    errno::Errno,
    libc,
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask},
        socket::{AddressFamily, SockFlag, SockType, socketpair},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Gid, Pid, Uid, getpid, getppid, getuid, setegid, seteuid},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use timeout_runtime::{Call, Cancel, Ran, Reason, Resource, Rlimit, TimedOut, forkserver, timeout};

/// Turns functions into tests by the fork server alone, which has been started.
macro_rules! by_server {
    ($($name:ident),* $(,)?) => { common::with_start_method!(started Forkserver [$($name)*]); };
}

by_server![
    a_worker_starts_as_the_program_does,
    no_worker_runs_two_calls,
    the_environment_is_that_of_the_call,
    the_working_directory_is_that_of_the_call,
    the_standard_streams_are_those_of_the_call,
    a_closed_stream_is_closed_in_the_worker,
    a_worker_has_no_other_descriptor_of_the_host,
    a_slow_call_blocks_no_other,
    many_threads_call_at_once,
    a_large_argument_is_in_memory_once_at_either_end,
    a_variable_for_the_host_is_none_for_a_worker,
    as_many_spares_wait_as_the_demand_asks_for,
    an_argument_that_is_not_read_does_not_hold_the_call,
    what_cannot_be_decoded_is_lost_before_the_body_has_run,
    what_cannot_be_encoded_is_not_started,
    a_body_that_captures_nothing_may_be_generic,
    a_worker_that_writes_junk_loses_only_its_own_value,
    a_killed_spare_is_not_taken,
    idle_spares_cost_no_time,
    a_fork_of_the_host_has_a_server_of_its_own,
    a_host_that_drops_its_rights_gets_another_server,
    the_usage_of_a_worker_is_told,
    bounds_hold_in_a_worker,
    a_crash_and_a_panic_show_where_they_happened,
];

common::from_nothing![
    the_first_call_starts_it,
    a_server_has_no_other_descriptor_of_the_host,
    a_stopped_server_delays_nobody_for_long,
    a_value_survives_the_servers_death,
    a_killed_server_loses_its_calls_in_time,
    the_host_hears_of_no_child,
    the_server_ends_with_a_host_that_is_killed,
    the_server_outlives_the_thread_that_started_it,
    the_server_ends_with_a_host_that_runs_another_program,
    a_fork_of_the_host_does_not_keep_the_server,
    a_preload_runs_once_and_before_all,
    a_preload_comes_too_late_for_a_running_server,
    a_preload_that_panics_is_told,
    a_preload_that_aborts_is_told_and_does_not_loop,
    a_preload_may_leave_no_thread,
    a_slow_preload_is_inside_the_limit,
    without_exec_it_is_not_started,
    without_proc_it_is_not_started,
    a_name_alone_makes_no_server,
    a_host_whose_rights_in_effect_are_others_has_no_server,
    a_tree_dies_where_the_host_has_no_privileges,
];

/// A call by the server that must give a value.
#[track_caller]
fn ask<T: timeout_runtime::Portable>(body: impl Fn(()) -> T + Copy) -> T {
    Call::new(LONG).run_in_server((), body).unwrap()
}

/// The number of the server.
#[track_caller]
fn server() -> Pid {
    Pid::from_raw(ask(|()| getppid().as_raw()))
}

static CALLS: AtomicU32 = AtomicU32::new(7);

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn a_worker_starts_as_the_program_does(_: Start) {
    CALLS.store(8, Ordering::Relaxed);
    let others: Vec<_> = (0..4).map(|_| thread::spawn(|| thread::sleep(Duration::from_millis(200)))).collect();
    let (calls, threads) = ask(|()| (CALLS.load(Ordering::Relaxed), threads()));
    assert_eq!((calls, threads), (7, 1));
    // The control: a copy of the host has seen the change.
    assert_eq!(timeout_runtime::call(LONG, || CALLS.load(Ordering::Relaxed)).unwrap(), 8);
    others.into_iter().for_each(|other| other.join().unwrap());
}

fn no_worker_runs_two_calls(_: Start) {
    let body = |()| (getpid().as_raw(), CALLS.fetch_add(1, Ordering::Relaxed));
    let told: Vec<_> = (0..50).map(|_| ask(body)).collect();
    assert!(told.iter().all(|(_, calls)| *calls == 7), "{told:?}");
    let pids: BTreeSet<_> = told.iter().map(|(pid, _)| pid).collect();
    assert_eq!(pids.len(), 50);
}

fn the_environment_is_that_of_the_call(_: Start) {
    let look = |()| env::vars().filter(|(name, _)| name.starts_with("FORKSERVER_")).collect::<Vec<_>>();
    assert_eq!(ask(look), []);
    raw::set_variable("FORKSERVER_A", "1");
    raw::set_variable("FORKSERVER_B", "x=y");
    assert_eq!(ask(look).into_iter().collect::<BTreeSet<_>>().len(), 2);
    raw::remove_variable("FORKSERVER_A");
    assert_eq!(ask(look), [("FORKSERVER_B".to_string(), "x=y".to_string())]);
    raw::remove_variable("FORKSERVER_B");
    assert_eq!(ask(look), []);
    // C code sees the same.
    raw::set_variable("FORKSERVER_C", "told");
    let seen = ask(|()| Command::new("sh").args(["-c", "echo $FORKSERVER_C"]).output().unwrap().stdout);
    assert_eq!(seen, b"told\n");
}

fn the_working_directory_is_that_of_the_call(_: Start) {
    let home = env::current_dir().unwrap();
    assert_eq!(ask(|()| env::current_dir().unwrap()), home);
    let directory = env::temp_dir().join(format!("timeout-suite-directory-{}", getpid()));
    fs::create_dir(&directory).unwrap();
    env::set_current_dir(&directory).unwrap();
    assert_eq!(ask(|()| env::current_dir().unwrap()), directory);
    // Without a name it still is a directory.
    fs::remove_dir(&directory).unwrap();
    assert!(ask(|()| fs::read_dir(".").unwrap().next().is_none() && env::current_dir().is_err()));
    env::set_current_dir(&home).unwrap();
    assert_eq!(ask(|()| env::current_dir().unwrap()), home);
}

fn the_standard_streams_are_those_of_the_call(_: Start) {
    for number in [1, 2] {
        let (mut read, write) = pipe().unwrap();
        let before = raw::dup(number).unwrap();
        raw::dup_onto(write.as_raw_fd(), number);
        Call::new(LONG)
            .run_in_server(number, |number| match number {
                1 => print!("no newline, and yet printed"),
                _ => eprint!("no newline, and yet printed"),
            })
            .unwrap();
        raw::dup_onto(before, number);
        raw::close(before);
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "no newline, and yet printed");
    }
    let (read, mut write) = pipe().unwrap();
    let before = raw::dup(0).unwrap();
    raw::dup_onto(read.as_raw_fd(), 0);
    write.write_all(b"a line\n").unwrap();
    let line = ask(|()| std::io::stdin().lines().next().unwrap().unwrap());
    raw::dup_onto(before, 0);
    raw::close(before);
    assert_eq!(line, "a line");
}

fn a_closed_stream_is_closed_in_the_worker(_: Start) {
    let before = raw::dup(0).unwrap();
    raw::close(0);
    let is_open = ask(|()| fs::read_link("/proc/self/fd/0").is_ok());
    raw::dup_onto(before, 0);
    raw::close(before);
    assert!(!is_open);
    assert!(ask(|()| fs::read_link("/proc/self/fd/0").is_ok()));
}

/// What a process has open.
fn descriptors(process: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| fs::read_link(path).unwrap_or_default()).collect()
}

fn a_worker_has_no_other_descriptor_of_the_host(_: Start) {
    let _open = (fs::File::open("/proc/self/stat").unwrap(), UnixStream::pair().unwrap());
    // One that no exec closes.
    let inherited = raw::dup(0).unwrap();
    check_descriptors_of_a_worker();
    raw::close(inherited);
}

fn a_server_has_no_other_descriptor_of_the_host() {
    let secret = fs::File::open("/proc/self/stat").unwrap();
    let inherited = [0; 40].map(|_| raw::dup(secret.as_raw_fd()).unwrap());
    let is_secret = |path: &PathBuf| path.ends_with("stat");
    for has_close_range in [true, false] {
        let host = raw::fork(|| {
            if !has_close_range {
                seccomp::forbid(libc::SYS_close_range, Errno::EPERM);
            }
            assert!(descriptors("self").iter().filter(|path| is_secret(path)).count() > 40);
            check_descriptors_of_a_worker();
            assert_eq!(descriptors(&server().to_string()).iter().find(|path| is_secret(path)), None);
        });
        let end = waitpid(host, None).unwrap();
        assert_eq!(end, WaitStatus::Exited(host, 0), "with close_range: {has_close_range}");
    }
    inherited.into_iter().for_each(raw::close);
}

fn check_descriptors_of_a_worker() {
    let mut seen = ask(|()| descriptors("self"));
    seen.sort();
    let (own, streams): (Vec<_>, Vec<_>) = seen.into_iter().partition(|path| {
        let path = path.to_str().unwrap();
        path.starts_with("pipe:") || path.starts_with("/proc/")
    });
    // Its result pipe, and the listing.
    assert_eq!(own.len(), 2, "{own:?} {streams:?}");
    assert_eq!(streams.len(), 3, "{own:?} {streams:?}");
}

fn the_host_hears_of_no_child() {
    let child = SigSet::from(Signal::SIGCHLD);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&child), None).unwrap();
    let heard = thread::spawn(|| {
        // The mask is inherited: whatever comes, stays pending.
        let first = server();
        for body in [|| 7, || process::exit(3), || process::abort(), || panic!("told")] {
            let _ = Call::new(LONG).run_in_server(Fun(body), |Fun(body): Fun<i32>| body());
        }
        let late = Call::new(0.02).run_in_server((), |()| raw::pause()).unwrap_err();
        assert!(late.is_late());
        kill(first, Signal::SIGKILL).unwrap();
        procs::assert_gone_within(&[first], SOON);
        assert_ne!(server(), first);
        // Whoever waits for any child has none to wait for.
        let any = [WaitPidFlag::WNOHANG, WaitPidFlag::WNOHANG | WaitPidFlag::__WALL];
        any.map(|flags| waitpid(None, Some(flags)))
    });
    let heard = heard.join().unwrap();
    let pending = raw::is_pending(libc::SIGCHLD);
    pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&child), None).unwrap();
    assert_eq!(heard, [Err(Errno::ECHILD), Err(Errno::ECHILD)]);
    assert!(!pending, "the host got a SIGCHLD");
}

fn a_slow_call_blocks_no_other(_: Start) {
    let cancel = Cancel::new();
    thread::scope(|scope| {
        let slow: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| Call::new(LONG).cancel(&cancel).run_in_server((), |()| raw::pause())))
            .collect();
        let begin = Instant::now();
        for round in 0..20 {
            assert_eq!(Call::new(LONG).run_in_server(round, |round: i32| round).unwrap(), round);
        }
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        cancel.cancel();
        for slow in slow {
            assert_fails!(slow.join().unwrap(), Reason::Cancelled, Ran::Maybe | Ran::No);
        }
    });
}

fn many_threads_call_at_once(_: Start) {
    thread::scope(|scope| {
        for thread in 0..24u32 {
            scope.spawn(move || {
                for round in 0..10 {
                    let sum = Call::new(LONG).run_in_server((thread, round), |(a, b): (u32, u32)| a * 100 + b);
                    assert_eq!(sum.unwrap(), thread * 100 + round);
                }
            });
        }
    });
}

#[timeout(50, start = forkserver)]
fn peak_with(bytes: &[u8], owned: Vec<u32>) -> (usize, u64, u64) {
    let ends = [bytes.first(), bytes.last()].map(|byte| u64::from(*byte.unwrap()));
    let sum = ends.iter().sum::<u64>() + u64::from(*owned.last().unwrap());
    (size_of_val(bytes) + size_of_val(&owned[..]), sum, procs::status("VmHWM"))
}

fn a_large_argument_is_in_memory_once_at_either_end(_: Start) {
    const SIZE: usize = 128 << 20;
    /// What else there is, in KiB.
    const REST: u64 = 40 << 10;
    let (bytes, numbers) = (vec![1u8; SIZE], vec![2u32; SIZE / 4]);
    let before = procs::status("VmHWM");
    let (length, sum, peak) = peak_with(&bytes, numbers).unwrap();
    let after = procs::status("VmHWM");
    assert_eq!((length, sum), (2 * SIZE, 1 + 1 + 2));
    assert!(after < before + REST, "the host had {before} KiB, and then {after} KiB");
    let both = 2 * SIZE as u64 / 1024;
    assert!((both..both + REST).contains(&peak), "the worker had {peak} KiB");
}

fn a_variable_for_the_host_is_none_for_a_worker(_: Start) {
    assert_eq!(ask(|()| 7), 7);
    // The host has looked, and does not look again.
    raw::set_variable("TIMEOUT_INLINE", "1");
    assert_eq!(ask(|()| 8), 8);
    raw::remove_variable("TIMEOUT_INLINE");
}

fn as_many_spares_wait_as_the_demand_asks_for(_: Start) {
    let server = server();
    let spares = || procs::tagged(&scenario::tag()).into_iter().filter(|pid| ![getpid(), server].contains(pid)).count();
    // Workers that have ended are gone by then, and new spares are there.
    let settled = || {
        let (begin, mut last, mut since) = (Instant::now(), spares(), Instant::now());
        while since.elapsed() < Duration::from_millis(100) {
            assert!(begin.elapsed() < SOON, "the spares do not settle");
            thread::sleep(Duration::from_millis(2));
            let now = spares();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    };
    assert_eq!(settled(), 2);
    // More callers at once than there are spares have to wait for theirs.
    let (cancel, mark) = (Cancel::new(), Mark::new());
    thread::scope(|scope| {
        let body = |mark: Mark| {
            mark.tell(1);
            raw::pause()
        };
        for _ in 0..24 {
            let (cancel, mark) = (&cancel, mark.again());
            scope.spawn(move || Call::new(LONG).cancel(cancel).run_in_server(mark, body).unwrap_err());
        }
        let _: Vec<_> = (0..24).map(|_| mark.hear()).collect();
        cancel.cancel();
    });
    let most = settled();
    assert!((3..=8).contains(&most), "{most} spares");
    // From then on nobody waits: a spare that is taken now and then is not replaced, but for the last two.
    for expected in [most - 1, (most - 2).max(2)] {
        thread::sleep(Duration::from_millis(1050));
        ask(|()| ());
        assert_eq!(settled(), expected);
    }
}

fn an_argument_that_is_not_read_does_not_hold_the_call(_: Start) {
    signal_others(Signal::SIGSTOP);
    let begin = Instant::now();
    let result = Call::new(0.2).run_in_server(vec![0u8; 64 << 20], |bytes: Vec<u8>| bytes.len());
    assert_fails!(result, Reason::Late { .. }, Ran::No);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    signal_others(Signal::SIGCONT);
}

/// Signals every process of the scenario but the host: the server, its spares, and a worker that may just be about to die.
fn signal_others(signal: Signal) {
    for pid in procs::tagged(&scenario::tag()).into_iter().filter(|pid| *pid != getpid()) {
        let result = kill(pid, signal);
        assert!(matches!(result, Ok(()) | Err(Errno::ESRCH)), "{result:?}");
    }
}

/// A type that fails on its way.
#[derive(Debug, Clone, Copy)]
struct Fails<const AT_HOME: bool>;

impl<const AT_HOME: bool> Serialize for Fails<AT_HOME> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if AT_HOME { Err(serde::ser::Error::custom("will not go")) } else { serializer.serialize_u8(1) }
    }
}

impl<'de, const AT_HOME: bool> Deserialize<'de> for Fails<AT_HOME> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer)?;
        Err(serde::de::Error::custom("will not arrive"))
    }
}

fn what_cannot_be_decoded_is_lost_before_the_body_has_run(_: Start) {
    let result = Call::new(LONG).run_in_server(Fails::<false>, |_: Fails<false>| 1);
    let error = assert_fails!(result, Reason::Lost { .. }, Ran::No);
    assert!(error.to_string().contains("will not arrive"), "{error}");
}

fn what_cannot_be_encoded_is_not_started(_: Start) {
    let result = Call::new(LONG).run_in_server(Fails::<true>, |_: Fails<true>| 1);
    let error = assert_fails!(result, Reason::NotStarted(_), Ran::No);
    assert!(error.to_string().contains("will not go"), "{error}");
}

fn double<T: std::ops::Add<Output = T> + Copy>(value: T) -> T {
    value + value
}

fn a_body_that_captures_nothing_may_be_generic(_: Start) {
    assert_eq!(Call::new(LONG).run_in_server(2u8, double).unwrap(), 4);
    assert_eq!(Call::new(LONG).run_in_server(1.5f64, double).unwrap(), 3.0);
}

fn a_worker_that_writes_junk_loses_only_its_own_value(_: Start) {
    thread::scope(|scope| {
        let honest = scope.spawn(|| {
            (0..40).map(|round| Call::new(LONG).run_in_server(round, |round: u32| round + 1)).collect::<Vec<_>>()
        });
        for _ in 0..20 {
            let result = Call::new(LONG).run_in_server((), |()| {
                (3..64).for_each(|fd| {
                    let _ = raw::write(fd, &[0x5a; 4096]);
                });
                7
            });
            assert_fails!(result, Reason::Lost { .. } | Reason::Crashed { .. }, Ran::Maybe | Ran::Yes);
        }
        for (round, value) in (0..).zip(honest.join().unwrap()) {
            assert_eq!(value.unwrap(), round + 1);
        }
    });
}

fn a_killed_server_loses_its_calls_in_time() {
    for signal in [Signal::SIGKILL, Signal::SIGSEGV] {
        let first = server();
        let mark = Mark::new();
        let before = descriptors("self").len();
        let results = thread::scope(|scope| {
            let calls: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        Call::new(LONG).run_in_server(mark.again(), |mark: Mark| {
                            mark.tell(1);
                            raw::pause()
                        })
                    })
                })
                .collect();
            let _: Vec<_> = (0..3).map(|_| mark.hear()).collect();
            let begin = Instant::now();
            kill(first, signal).unwrap();
            let results: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
            assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
            results
        });
        for result in results {
            let error = assert_fails!(result, Reason::Lost { .. }, Ran::Maybe);
            assert!(error.to_string().contains("fork server"), "{error}");
        }
        procs::assert_gone_within(&[first], SOON);
        assert_ne!(server(), first, "the dead server was asked again");
        assert_eq!(descriptors("self").len(), before, "a dead server has left descriptors behind");
    }
}

fn a_value_survives_the_servers_death() {
    let result = Call::new(LONG).run_in_server((), |()| vec![7u8; 32 << 10]);
    assert_eq!(result.unwrap().len(), 32 << 10);
    let first = server();
    kill(first, Signal::SIGKILL).unwrap();
    procs::assert_gone_within(&[first], SOON);
    for round in 0..10 {
        assert_eq!(Call::new(LONG).run_in_server(round, |round: i32| round).unwrap(), round);
    }
}

fn a_stopped_server_delays_nobody_for_long() {
    let first = server();
    let mark = Mark::new();
    thread::scope(|scope| {
        // In flight when the server stops: it ends as if nothing had happened.
        let call = scope.spawn(|| {
            Call::new(LONG).run_in_server(mark.again(), |mark: Mark| {
                mark.tell(1);
                thread::sleep(Duration::from_millis(300));
                7
            })
        });
        mark.hear();
        kill(first, Signal::SIGSTOP).unwrap();
        let begin = Instant::now();
        for round in 0..20 {
            let exit = Call::new(LONG).run_in_server(round, |round: i32| -> i32 { process::exit(round) });
            assert_fails!(exit, Reason::Exited { code, .. } if *code == round, Ran::Yes);
            // Of these only a status tells, which the server would.
            let exit = Call::new(LONG).run_in_server(round, |round: i32| -> i32 { raw::exit_now(round) });
            assert_fails!(exit, Reason::Exited { code, .. } if *code == round, Ran::Yes);
            let killed =
                Call::new(LONG).run_in_server((), |()| kill(getpid(), Signal::SIGKILL).map(|()| raw::pause()).ok());
            assert_fails!(killed, Reason::Crashed { signal: libc::SIGKILL, .. }, Ran::Maybe);
        }
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        assert_ne!(server(), first);
        match call.join().unwrap() {
            Ok(value) => assert_eq!(value, 7),
            // The stopped server is killed as soon as it is found to be, and takes its workers along.
            Err(error) => assert!(matches!(error.reason(), Reason::Lost { .. }), "{error:?}"),
        }
    });
    procs::assert_gone_within(&[first], SOON);
}

fn a_killed_spare_is_not_taken(_: Start) {
    let server = server();
    for _ in 0..10 {
        let others = procs::tagged(&scenario::tag());
        let spares: Vec<_> = others.into_iter().filter(|pid| *pid != getpid() && *pid != server).collect();
        for spare in &spares {
            // One may have been a worker a moment ago.
            let _ = kill(*spare, Signal::SIGKILL);
        }
        // The server keeps the corpse of one that has been offered, and so its number, until it is taken or given back.
        procs::assert_dead_within(&spares, SOON);
        assert_eq!(Call::new(LONG).run_in_server(3, |n: i32| n).unwrap(), 3);
    }
}

fn idle_spares_cost_no_time(_: Start) {
    server();
    thread::sleep(Duration::from_millis(50));
    let others = || procs::tagged(&scenario::tag()).into_iter().filter(|pid| *pid != getpid());
    let used = || -> u64 { others().map(procs::run_time).sum() };
    let (before, count) = (used(), others().count());
    thread::sleep(Duration::from_millis(500));
    assert!((3..=10).contains(&count), "a server and its spares: {count} processes");
    assert_eq!(used(), before, "nanoseconds of CPU time");
}

fn a_fork_of_the_host_has_a_server_of_its_own(_: Start) {
    let mine = server();
    let (mut read, write) = pipe().unwrap();
    let child = raw::fork(|| {
        let theirs = server();
        (&write).write_all(&theirs.as_raw().to_le_bytes()).unwrap();
    });
    drop(write);
    let mut theirs = [0; 4];
    read.read_exact(&mut theirs).unwrap();
    waitpid(child, None).unwrap();
    let theirs = Pid::from_raw(i32::from_le_bytes(theirs));
    assert_ne!(theirs, mine);
    procs::assert_gone_within(&[theirs], SOON);
    assert_eq!(server(), mine, "the host has lost its server to its fork");
}

fn a_host_that_drops_its_rights_gets_another_server(_: Start) {
    if !raw::is_root() {
        println!("NOT TESTED: only root can become somebody else");
        return;
    }
    assert_eq!(ask(|()| getuid().as_raw()), 0);
    let (before, mark) = (server(), Mark::new());
    let child = raw::fork(|| {
        Start::Forkserver.prepare();
        raw::become_nobody();
        mark.tell(u64::from(ask(|()| getuid().as_raw())));
    });
    waitpid(child, None).unwrap();
    assert_eq!(mark.hear(), 65534);
    assert_eq!(server(), before);
}

fn the_usage_of_a_worker_is_told(_: Start) {
    let error = Call::new(LONG)
        .run_in_server((), |()| -> u8 {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(60) {
                std::hint::spin_loop();
            }
            drop(std::hint::black_box(vec![1u8; 100 << 20]));
            raw::exit_now(3)
        })
        .unwrap_err();
    let usage = error.usage().expect("the server has told it");
    assert!(usage.cpu() > Duration::from_millis(5), "{usage:?}");
    assert!((95 << 20..300 << 20).contains(&usage.peak_memory()), "{usage:?}");
}

fn bounds_hold_in_a_worker(_: Start) {
    let spin = |()| -> u8 {
        loop {
            std::hint::spin_loop();
        }
    };
    let cpu = Call::new(LONG).cpu(0.1).run_in_server((), spin);
    assert_fails!(cpu, Reason::OutOf(Resource::Cpu), Ran::Maybe | Ran::Yes);
    let memory = Call::new(LONG).memory(64 << 20).run_in_server((), |()| vec![1u8; 1 << 30].len());
    assert_fails!(memory, Reason::OutOf(Resource::Memory), Ran::Maybe | Ran::Yes);
    let opens = |()| fs::File::open("/dev/null").is_ok();
    assert!(!Call::new(LONG).rlimit(Rlimit::OpenFiles, 0).run_in_server((), opens).unwrap());
    // The next worker has none of it.
    assert!(ask(opens));
    assert_eq!(ask(|()| vec![1u8; 256 << 20].len()), 256 << 20);
}

#[inline(never)]
fn the_place_of_the_crash() -> i32 {
    raw::read_null();
    std::hint::black_box(1)
}

#[inline(never)]
fn the_place_of_the_panic() -> i32 {
    if std::hint::black_box(true) {
        panic!("here");
    }
    1
}

fn a_crash_and_a_panic_show_where_they_happened(_: Start) {
    // The layout of a worker's memory is another one: by chance alone would an address of it mean the same here.
    let crash = Call::new(LONG).run_in_server((), |()| the_place_of_the_crash()).unwrap_err();
    let panic = Call::new(LONG).run_in_server((), |()| the_place_of_the_panic()).unwrap_err();
    for (error, place) in [(&crash, "the_place_of_the_crash"), (&panic, "the_place_of_the_panic")] {
        let (Reason::Crashed { backtrace, .. } | Reason::Panicked { backtrace, .. }) = error.reason() else {
            panic!("{error:?}")
        };
        let names: Vec<_> = backtrace.frames().iter().filter_map(|frame| frame.function()).collect();
        assert!(names.iter().any(|name| name.contains(place)), "{place} is not among {names:?}");
    }
}

// ---- From nothing ---------------------------------------------------------------------------------------------------

fn the_first_call_starts_it() {
    assert!(procs::others().is_empty());
    let begin = Instant::now();
    assert_eq!(Call::new(LONG).run_in_server(1, |n: i32| n + 1).unwrap(), 2);
    println!("the first call took {:?}", begin.elapsed());
    let (host, server) = (getpid(), server());
    let of_server: Vec<_> = procs::tagged(&scenario::tag()).into_iter().filter(|pid| *pid != host).collect();
    assert!(of_server.contains(&server));
}

/// Runs `host` in a process that has a server and a call in flight; gives that process, the server and the worker.
fn host_with_a_call(end: fn()) -> (Pid, [Pid; 2]) {
    let (mark, begun) = (Mark::new(), Mark::new());
    let host = raw::fork(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                Call::new(LONG).run_in_server((mark.again(), begun.again()), |(mark, begun): (Mark, Mark)| {
                    mark.tell(getppid().as_raw() as u64);
                    mark.tell(getpid().as_raw() as u64);
                    begun.tell(1);
                    raw::pause()
                })
            });
            begun.hear();
            end();
        });
    });
    let pids = [mark.hear(), mark.hear()].map(|pid| Pid::from_raw(pid as i32));
    (host, pids)
}

fn the_server_ends_with_a_host_that_is_killed() {
    for signal in [Signal::SIGKILL, Signal::SIGABRT, Signal::SIGFPE, Signal::SIGTERM] {
        let (host, pids) = host_with_a_call(|| {
            raw::pause();
        });
        assert!(pids.iter().all(|pid| procs::runs(*pid)));
        kill(host, signal).unwrap();
        let end = waitpid(host, None).unwrap();
        assert!(matches!(end, WaitStatus::Signaled(_, ended_by, _) if ended_by == signal), "{end:?}");
        procs::assert_gone_within(&pids, SOON);
        procs::assert_alone_within(SOON);
    }
}

fn the_server_outlives_the_thread_that_started_it() {
    let started = thread::spawn(server).join().unwrap();
    assert_eq!(server(), started);
}

fn the_server_ends_with_a_host_that_runs_another_program() {
    let (host, pids) = host_with_a_call(|| {
        let _ = Command::new("sleep").arg("30").env_clear().exec();
    });
    procs::assert_gone_within(&pids, SOON);
    kill(host, Signal::SIGKILL).unwrap();
    waitpid(host, None).unwrap();
}

fn a_fork_of_the_host_does_not_keep_the_server() {
    let mark = Mark::new();
    let host = raw::fork(|| {
        let server = server();
        // It has a copy of every descriptor of its parent.
        let copy = raw::fork(|| {
            raw::pause();
        });
        mark.tell(server.as_raw() as u64);
        mark.tell(copy.as_raw() as u64);
        raw::pause();
    });
    let [server, copy] = [mark.hear(), mark.hear()].map(|pid| Pid::from_raw(pid as i32));
    kill(host, Signal::SIGKILL).unwrap();
    waitpid(host, None).unwrap();
    procs::assert_gone_within(&[server], SOON);
    assert!(procs::runs(copy));
    kill(copy, Signal::SIGKILL).unwrap();
    procs::assert_gone_within(&[copy], SOON);
}

static LOADED: AtomicU32 = AtomicU32::new(0);
static LOADED_BY: AtomicU32 = AtomicU32::new(0);

fn a_preload_runs_once_and_before_all() {
    forkserver::preload(|| {
        LOADED.fetch_add(1, Ordering::Relaxed);
        LOADED_BY.store(process::id(), Ordering::Relaxed);
    })
    .unwrap();
    forkserver::preload(|| {
        LOADED.fetch_add(10, Ordering::Relaxed);
    })
    .unwrap();
    // A server that has to be replaced has run them as well.
    for _ in 0..2 {
        for _ in 0..5 {
            let told = ask(|()| (LOADED.load(Ordering::Relaxed), LOADED_BY.load(Ordering::Relaxed) == process::id()));
            assert_eq!(told, (11, false));
        }
        let server = server();
        kill(server, Signal::SIGKILL).unwrap();
        procs::assert_gone_within(&[server], SOON);
    }
    assert_eq!(LOADED.load(Ordering::Relaxed), 0, "it ran in the host");
}

fn a_preload_comes_too_late_for_a_running_server() {
    server();
    let error = forkserver::preload(|| {}).unwrap_err();
    assert!(error.to_string().contains("before the first call"), "{error}");
}

#[track_caller]
fn not_started(result: Result<i32, TimedOut>, why: &str) {
    let error = assert_fails!(result, Reason::NotStarted(_), Ran::No);
    assert!(error.to_string().contains(why), "{error}");
}

fn a_preload_that_panics_is_told() {
    forkserver::preload(|| panic!("no dictionary")).unwrap();
    for _ in 0..3 {
        not_started(Call::new(LONG).run_in_server(1, |n: i32| n), "no dictionary");
    }
    assert!(forkserver::start(20).unwrap_err().to_string().contains("no dictionary"));
}

fn a_preload_that_aborts_is_told_and_does_not_loop() {
    forkserver::preload(|| process::abort()).unwrap();
    let begin = Instant::now();
    for _ in 0..3 {
        not_started(Call::new(LONG).run_in_server(1, |n: i32| n), "3 times in a row");
    }
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

fn a_preload_may_leave_no_thread() {
    forkserver::preload(|| drop(thread::spawn(raw::pause))).unwrap();
    not_started(Call::new(LONG).run_in_server(1, |n: i32| n), "thread");
}

fn a_slow_preload_is_inside_the_limit() {
    forkserver::preload(|| thread::sleep(Duration::from_millis(400))).unwrap();
    let begin = Instant::now();
    let result = Call::new(0.1).run_in_server(1, |n: i32| n);
    assert_fails!(result, Reason::Late { .. }, Ran::No);
    assert!(begin.elapsed() < Duration::from_millis(400), "{:?}", begin.elapsed());
    assert_eq!(Call::new(LONG).run_in_server(1, |n: i32| n).unwrap(), 1);
}

fn without_exec_it_is_not_started() {
    seccomp::forbid(libc::SYS_execve, Errno::EPERM);
    not_started(Call::new(LONG).run_in_server(1, |n: i32| n), "/proc/self/exe");
    // The other method does without.
    assert_eq!(Call::new(LONG).run(|| 2).unwrap(), 2);
}

fn without_proc_it_is_not_started() {
    if !raw::is_root() {
        println!("NOT TESTED: only root can take `/proc` away");
        return;
    }
    let host = raw::fork(|| {
        raw::unshare(libc::CLONE_NEWNS).unwrap();
        raw::hide_proc().unwrap();
        not_started(Call::new(LONG).run_in_server(1, |n: i32| n), "/proc/self/exe");
    });
    let status = waitpid(host, None).unwrap();
    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(host, 0));
}

fn a_name_alone_makes_no_server() {
    let sockets = |kind| socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let stdin = |kind| Stdio::from(sockets(kind).0);
    let (us, other) = (process::id(), getppid().as_raw().unsigned_abs());
    for (host, stdin, is_server) in [
        (us, Stdio::null(), false),
        (us, Stdio::piped(), false),
        (us, stdin(SockType::Stream), false),
        (other, stdin(SockType::SeqPacket), false),
        // The control: with both it is one, and ends at once, as it has been given nothing else.
        (us, stdin(SockType::SeqPacket), true),
    ] {
        let mut program = Command::new(scenario::here());
        program.arg0(format!("timeout-runtime: fork server of {host}")).arg("--list").stdin(stdin);
        program.env("TIMEOUT_FORKSERVER", "1");
        let output =
            program.stderr(Stdio::inherit()).stdout(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let has_run_main = text.contains("a_name_alone_makes_no_server: test");
        assert_eq!(has_run_main, !is_server, "{host}: {text}");
    }
}

/// The kernel treats a program that such a process runs as a set-user-ID program.
fn a_host_whose_rights_in_effect_are_others_has_no_server() {
    if !raw::is_root() {
        println!("NOT TESTED: only root can have another user in effect");
        return;
    }
    let changes: [fn() -> nix::Result<()>; 2] = [|| seteuid(Uid::from_raw(65534)), || setegid(Gid::from_raw(65534))];
    for change in changes {
        let mark = Mark::new();
        let host = raw::fork(|| {
            change().unwrap();
            let error = Call::new(LONG).run_in_server((), |()| 1).unwrap_err();
            println!("{error}");
            mark.tell(u64::from(matches!(error.reason(), Reason::NotStarted(_)) && error.ran() == Ran::No));
        });
        waitpid(host, None).unwrap();
        assert_eq!(mark.hear(), 1);
        procs::assert_alone_within(SOON);
    }
}

fn a_tree_dies_where_the_host_has_no_privileges() {
    if raw::is_root() {
        raw::become_nobody();
        raw::set_dumpable();
    }
    for shape in shapes::all() {
        let mark = Mark::new();
        let arguments = (shape.name.to_owned(), mark.again());
        let result = Call::new(0.7).run_in_server(arguments, |(name, mark): (String, Mark)| {
            shapes::named(&name).plant_and_tell(&mark);
            raw::pause()
        });
        assert!(result.unwrap_err().is_late(), "{}", shape.name);
        let told: Vec<_> = mark.hear_all().into_iter().map(|pid| Pid::from_raw(pid as i32)).collect();
        assert_eq!(told.len(), shape.tellers, "{}", shape.name);
        procs::assert_gone_within(&told, SOON);
    }
}

/// In a program that is renamed and deleted while it runs.
#[test]
fn a_deleted_program_still_has_a_server() {
    let path = concat!(module_path!(), "::", "a_deleted_program_still_has_a_server");
    let copy = env::temp_dir().join(format!("timeout-suite-deleted-{}", process::id()));
    let is_outside = env::var_os("TIMEOUT_SUITE_SCENARIO").is_none();
    if is_outside {
        raw::copy_program(&scenario::here(), &copy);
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    }
    scenario::run_bare_as(&copy, path, || {
        let here = env::current_exe().unwrap();
        let elsewhere = here.with_extension("gone");
        fs::rename(&here, &elsewhere).unwrap();
        // Another program under its name.
        fs::write(&here, b"#!/bin/false\n").unwrap();
        fs::remove_file(&elsewhere).unwrap();
        assert_eq!(Call::new(LONG).run_in_server(1, |n: i32| n + 1).unwrap(), 2);
        fs::remove_file(&here).unwrap();
    });
}

/// A set-user-ID program must not be made to run anything by whoever called it.
#[test]
fn a_set_user_id_program_has_no_server() {
    let path = concat!(module_path!(), "::", "a_set_user_id_program_has_no_server");
    let copy = env::temp_dir().join(format!("timeout-suite-server-set-uid-{}", process::id()));
    if raw::is_root() && !raw::has_foreign_rights() && env::var_os("TIMEOUT_SUITE_SCENARIO").is_none() {
        raw::copy_program(&scenario::here(), &copy);
        std::os::unix::fs::chown(&copy, Some(65534), Some(65534)).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
        scenario::run_bare_as(&copy, path, || {});
        fs::remove_file(&copy).unwrap();
    } else if raw::has_foreign_rights() {
        scenario::run_bare_as(&copy, path, || {
            not_started(Call::new(LONG).run_in_server(1, |n: i32| n), "set-user-ID");
            let _ = Snapshot::take();
        });
    }
}
