//! Where the kernel refuses something to the fork server, its workers or its host, a call says at once that it was not
//! started, or goes on without; and the next one, when there is enough again, works.

mod common;

use std::{
    env, fs,
    os::fd::AsRawFd,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use common::{LONG, Mark, SOON, Start, assert_fails, endings, greed, oracle::Snapshot, procs, raw, seccomp};
use nix::{
    errno::Errno,
    libc,
    sys::signal::{Signal, kill},
    unistd::{Pid, getpid, getppid},
};
use timeout_runtime::{Call, Cancel, Ran, Reason, Resource, TimedOut, forkserver};

common::with_start_method!(started Forkserver [too_few_descriptors_are_told_as_not_started]);

common::from_nothing![
    without_process_descriptors_it_is_not_started,
    without_sockets_it_is_not_started,
    without_shared_memory_it_is_not_started,
    without_groups_it_is_not_started,
    every_ending_is_told_without_prctl,
    every_ending_is_told_without_close_range,
    every_ending_is_told_without_custom_slices,
    every_ending_is_told_without_fcntl_signals,
    a_server_that_may_not_fork_is_replaced,
    a_server_that_is_out_of_descriptors_is_replaced,
    a_server_that_is_out_of_memory_is_replaced,
    a_worker_that_is_out_of_memory_says_so,
    a_host_that_may_not_fork_is_told_so,
];

/// A call that must be refused, at once, for a reason that names `word`.
#[track_caller]
fn not_started(word: &str) {
    for _ in 0..2 {
        let begin = Instant::now();
        let error = assert_fails!(seven(), Reason::NotStarted(_), Ran::No);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        assert!(error.to_string().contains(word), "{error}");
    }
}

fn seven() -> Result<i32, TimedOut> {
    Call::new(LONG).run_in_server(7, |seven: i32| seven)
}

/// The number of the server that serves the next call.
#[track_caller]
fn server() -> Pid {
    Pid::from_raw(Call::new(LONG).run_in_server((), |()| getppid().as_raw()).unwrap())
}

/// Checks that `refused` cannot be used, that it leaves nothing, and that the other start method does without.
fn check_forbidden(refuse: impl FnOnce(), word: &str) {
    let before = Snapshot::take();
    refuse();
    not_started(word);
    before.assert_unchanged();
    assert_eq!(Call::new(LONG).run(|| 8).unwrap(), 8);
}

fn without_process_descriptors_it_is_not_started() {
    check_forbidden(|| seccomp::forbid(libc::SYS_pidfd_open, Errno::EPERM), "pidfd_open");
}

fn without_sockets_it_is_not_started() {
    check_forbidden(|| seccomp::forbid(libc::SYS_socketpair, Errno::EACCES), "socketpair");
}

fn without_shared_memory_it_is_not_started() {
    check_forbidden(|| seccomp::forbid(libc::SYS_memfd_create, Errno::ENOSYS), "memfd_create");
}

fn without_groups_it_is_not_started() {
    // The server can be had; its workers cannot be told from it by their group.
    seccomp::forbid(libc::SYS_setpgid, Errno::EPERM);
    not_started("setpgid");
    procs::assert_alone_within(SOON);
    assert_fails!(Call::new(LONG).run(|| 8), Reason::NotStarted(_), Ran::No);
}

/// Makes a call of each kind where `call` is forbidden to the host, the server and the workers.
fn check_all(forbid: impl FnOnce()) {
    forbid();
    let mark = Mark::new();
    endings::all().for_each(|ending| ending.check(Start::Forkserver, &mark));
    endings::check_sample(Start::Forkserver);
}

fn every_ending_is_told_without_prctl() {
    forbid_and_check_sample(libc::SYS_prctl);
}

/// What is killed where there is no subreaper is in the group.
fn forbid_and_check_sample(call: libc::c_long) {
    seccomp::forbid(call, Errno::EPERM);
    endings::check_sample(Start::Forkserver);
}

fn every_ending_is_told_without_close_range() {
    check_all(|| seccomp::forbid(libc::SYS_close_range, Errno::EPERM));
}

fn every_ending_is_told_without_custom_slices() {
    check_all(|| seccomp::forbid(libc::SYS_sched_setattr, Errno::EPERM));
}

fn every_ending_is_told_without_fcntl_signals() {
    // F_SETSIG is 10.
    check_all(|| seccomp::forbid_with_second_argument(libc::SYS_fcntl, 10, Errno::EPERM));
}

fn too_few_descriptors_are_told_as_not_started(_: Start) {
    // Plugs fill every gap, so that the limit is met at the next number.
    let plugs: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    let first = plugs.iter().map(AsRawFd::as_raw_fd).max().unwrap() as u64 + 1;
    let mut refused = 0;
    for free in 0..8 {
        let before = raw::set_soft_limit(libc::RLIMIT_NOFILE, first + free);
        let begin = Instant::now();
        let cancelled = Call::new(LONG).cancel(&Cancel::new()).run_in_server(7, |seven: i32| seven);
        let results = [seven(), cancelled];
        raw::set_soft_limit(libc::RLIMIT_NOFILE, before);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        for result in results {
            match result {
                Ok(value) => assert_eq!(value, 7),
                Err(error) => {
                    assert!(matches!(error.reason(), Reason::NotStarted(_)), "{free} free: {error:?}");
                    assert_eq!(error.ran(), Ran::No);
                    refused += 1;
                }
            }
        }
        assert_eq!(seven().unwrap(), 7, "the next call");
    }
    assert!(refused >= 3, "this proves nothing");
    drop(plugs);
}

/// A call in flight, which ends as if nothing had happened when it is told to go on; and what happens meanwhile.
fn beside_a_call_in_flight(happens: impl FnOnce(Pid)) {
    let first = server();
    let (begun, go_on) = (Mark::new(), Mark::new());
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            Call::new(LONG).run_in_server((begun.again(), go_on.again()), |(begun, go_on): (Mark, Mark)| {
                begun.now();
                go_on.hear();
                vec![7u8; 100_000]
            })
        });
        begun.hear();
        happens(first);
        go_on.now();
        assert_eq!(call.join().unwrap().unwrap(), vec![7u8; 100_000]);
    });
}

/// Makes calls until one is refused; gives the error. There are no more than a few workers ready.
#[track_caller]
fn refused() -> TimedOut {
    let begin = Instant::now();
    let error = (0..40).find_map(|_| seven().err()).expect("no call was refused");
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    error
}

/// Bounds the server by a limit that its next fork meets; checks that this is told once, and that another server serves then.
#[track_caller]
fn check_replaced(resource: libc::__rlimit_resource_t, bound: fn(Pid) -> u64, errno: Errno) {
    beside_a_call_in_flight(|first| {
        raw::limit_process(first, resource, bound(first));
        let error = refused();
        assert!(matches!(error.reason(), Reason::NotStarted(_)), "{error:?}");
        assert_eq!(error.ran(), Ran::No);
        let cause = std::io::Error::from(errno).to_string();
        assert!(error.to_string().contains("the fork server") && error.to_string().contains(&cause), "{error}");
        assert_eq!(seven().unwrap(), 7, "the next call");
        assert_ne!(server(), first, "a server that cannot fork was asked again");
    });
    procs::assert_alone_within(SOON);
}

fn a_server_that_may_not_fork_is_replaced() {
    // The limit does not bind the superuser.
    raw::become_nobody();
    raw::set_dumpable();
    check_replaced(libc::RLIMIT_NPROC, |_| 0, Errno::EAGAIN);
}

fn a_server_that_is_out_of_descriptors_is_replaced() {
    // With what it has open now, there is no gap below.
    let open = |server| fs::read_dir(format!("/proc/{server}/fd")).unwrap().count() as u64;
    check_replaced(libc::RLIMIT_NOFILE, open, Errno::EMFILE);
}

/// Where the first server notes that it has been there.
fn note() -> PathBuf {
    env::temp_dir().join(format!("timeout-suite-note-{}", env::var("TIMEOUT_SUITE_HOST").unwrap()))
}

fn a_server_that_is_out_of_memory_is_replaced() {
    raw::set_variable("TIMEOUT_SUITE_HOST", &getpid().to_string());
    // The first server has room for some workers, and for no more of its own list of them.
    forkserver::preload(|| {
        if fs::File::create_new(note()).is_ok() {
            let room = vec![1u8; 8 << 10];
            raw::set_soft_limit(libc::RLIMIT_AS, 1 << 20);
            (4..16).rev().for_each(|power| greed::exhaust_malloc(1 << power));
            drop(room);
        }
    })
    .unwrap();
    let mark = Mark::new();
    let first = server();
    let begin = Instant::now();
    let results: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = (0..300u32)
            .map(|number| {
                let call = {
                    let mark = mark.again();
                    move || {
                        Call::new(LONG).run_in_server((mark, number), |(mark, number): (Mark, u32)| {
                            mark.now();
                            thread::sleep(Duration::from_millis(300));
                            number
                        })
                    }
                };
                thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, call).unwrap()
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert!(begin.elapsed() < 2 * SOON, "{:?}", begin.elapsed());
    let (mut whole, mut lost) = (0, 0);
    for (number, result) in (0..).zip(results) {
        match result {
            Ok(value) => {
                assert_eq!(value, number);
                whole += 1;
            }
            Err(error) => {
                let is_true = matches!(
                    error.reason(),
                    Reason::Lost { .. } | Reason::NotStarted(_) | Reason::OutOf(Resource::Memory)
                );
                assert!(is_true, "{error:?}");
                lost += 1;
            }
        }
    }
    println!("{whole} whole, {lost} lost or not started");
    assert_eq!(seven().unwrap(), 7, "the next call");
    assert_ne!(server(), first, "the server has not run out of memory: this proves nothing");
    procs::assert_gone_within(&[first], SOON);
    fs::remove_file(note()).unwrap();
}

fn a_worker_that_is_out_of_memory_says_so() {
    let first = server();
    // What is forked from now on has next to nothing.
    raw::limit_process(first, libc::RLIMIT_AS, 1 << 20);
    let begin = Instant::now();
    let texts: Vec<_> = (0..20)
        .filter_map(|_| Call::new(LONG).run_in_server((), |()| vec![1u8; 64 << 20]).err())
        .map(|error| {
            assert!(matches!(error.reason(), Reason::OutOf(Resource::Memory) | Reason::Lost { .. }), "{error:?}");
            error.to_string()
        })
        .collect();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert!(texts.len() > 8, "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("ran out of memory")), "{texts:?}");
    // Arguments that find no room are not the body's.
    let result = Call::new(LONG).run_in_server(vec![1u8; 64 << 20], |bytes: Vec<u8>| bytes.len());
    let error = assert_fails!(result, Reason::Lost { .. }, Ran::No);
    assert!(error.to_string().contains("no room"), "{error}");
    // And the server goes on; another one has all that the host has.
    kill(first, Signal::SIGKILL).unwrap();
    procs::assert_gone_within(&[first], SOON);
    let bytes = Call::new(LONG).run_in_server(vec![1u8; 64 << 20], |bytes: Vec<u8>| bytes.len());
    assert_eq!(bytes.unwrap(), 64 << 20);
}

fn a_host_that_may_not_fork_is_told_so() {
    raw::become_nobody();
    raw::set_dumpable();
    let before = Snapshot::take();
    let limit = raw::set_soft_limit(libc::RLIMIT_NPROC, 1);
    not_started("fork server");
    raw::set_soft_limit(libc::RLIMIT_NPROC, limit);
    before.assert_unchanged();
    assert_eq!(seven().unwrap(), 7, "the next call");
}
