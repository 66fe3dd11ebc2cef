//! Where the kernel refuses something, calls go on without it or say at once that they were not started.

mod common;

use std::{
    fs,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use common::{LONG, SOON, Start, assert_fails, endings, median, raw, scenario, seccomp, shapes};
use nix::{
    errno::Errno,
    libc,
    sys::wait::{WaitStatus, waitpid},
};
use timeout_runtime::{Cancel, Ran, Reason};

// The fork server cannot do without some of this: what becomes of its calls is in `served_scarce.rs`.
common::scenarios_by_fork![
    every_ending_is_told_without_process_descriptors,
    every_ending_is_told_where_process_descriptors_are_unknown,
    an_ending_is_told_at_once_without_process_descriptors,
    a_tree_dies_without_process_descriptors,
    a_tree_dies_where_process_descriptors_are_unknown,
    every_ending_is_told_where_descriptors_may_not_signal,
    every_ending_is_told_where_descriptors_cannot_be_waited_for,
    every_ending_is_told_without_prctl,
    every_ending_is_told_without_close_range,
    every_ending_is_told_without_custom_slices,
    every_ending_is_told_without_fcntl_signals,
    a_forbidden_session_is_told_as_not_started,
    too_few_descriptors_are_told_as_not_started,
    too_many_processes_are_told_as_not_started,
];

fn check_all(start: Start) {
    let mark = common::Mark::new();
    endings::all().for_each(|ending| ending.check(start, &mark));
    endings::check_sample(start);
}

fn every_ending_is_told_without_process_descriptors(start: Start) {
    seccomp::forbid(libc::SYS_pidfd_open, Errno::EPERM);
    check_all(start);
    scenario::alone(|| endings::check_sample(start));
}

fn every_ending_is_told_where_process_descriptors_are_unknown(start: Start) {
    for call in [libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_close_range] {
        seccomp::forbid(call, Errno::ENOSYS);
    }
    check_all(start);
}

fn an_ending_is_told_at_once_without_process_descriptors(start: Start) {
    seccomp::forbid(libc::SYS_pidfd_open, Errno::EPERM);
    let mark = common::Mark::new();
    for ending in [&endings::EXITS[4], &endings::CRASHES[7]] {
        let delays = (0..15).map(|_| {
            ending.check(start, &mark);
            mark.moment().elapsed()
        });
        let delay = median(delays.collect());
        println!("{}: told after {delay:?}", ending.name);
        assert!(delay < Duration::from_millis(50), "{}: {delay:?}", ending.name);
    }
}

fn a_tree_dies_without_process_descriptors(start: Start) {
    seccomp::forbid(libc::SYS_pidfd_open, Errno::EPERM);
    shapes::check_late(start);
}

fn a_tree_dies_where_process_descriptors_are_unknown(start: Start) {
    for call in [libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_close_range] {
        seccomp::forbid(call, Errno::ENOSYS);
    }
    shapes::check_late(start);
}

fn every_ending_is_told_where_descriptors_may_not_signal(start: Start) {
    seccomp::forbid(libc::SYS_pidfd_send_signal, Errno::EPERM);
    check_all(start);
}

fn every_ending_is_told_where_descriptors_cannot_be_waited_for(start: Start) {
    // As before Linux 5.4: descriptors exist, and waitid knows nothing of them.
    seccomp::forbid_with_first_argument(libc::SYS_waitid, libc::P_PIDFD, Errno::EINVAL);
    check_all(start);
}

fn every_ending_is_told_without_prctl(start: Start) {
    // Not under an oracle: that uses the call as well.
    let host = raw::fork(|| {
        seccomp::forbid(libc::SYS_prctl, Errno::EPERM);
        endings::check_sample(start);
    });
    assert_eq!(waitpid(host, None), Ok(WaitStatus::Exited(host, 0)));
}

fn every_ending_is_told_without_close_range(start: Start) {
    seccomp::forbid(libc::SYS_close_range, Errno::EPERM);
    check_all(start);
}

fn every_ending_is_told_without_custom_slices(start: Start) {
    seccomp::forbid(libc::SYS_sched_setattr, Errno::EPERM);
    check_all(start);
}

fn every_ending_is_told_without_fcntl_signals(start: Start) {
    // F_SETSIG is 10.
    seccomp::forbid_with_second_argument(libc::SYS_fcntl, 10, Errno::EPERM);
    check_all(start);
}

fn a_forbidden_session_is_told_as_not_started(start: Start) {
    scenario::alone(|| {
        // The one without a terminal, the other with one.
        seccomp::forbid(libc::SYS_setpgid, Errno::EPERM);
        seccomp::forbid(libc::SYS_setsid, Errno::EPERM);
        let mark = common::Mark::new();
        let error = assert_fails!(start.call(LONG).run(|| mark.now()), Reason::NotStarted(_), Ran::No);
        assert!(error.to_string().contains("was not started: set"), "{error}");
        assert!(!mark.is_told(), "the body ran");
    });
}

fn too_few_descriptors_are_told_as_not_started(start: Start) {
    // Plugs fill every gap, so that the limit is met at the next number.
    let plugs: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    let first = plugs.iter().map(AsRawFd::as_raw_fd).max().unwrap() as u64 + 1;
    let mut refused = 0;
    for free in 0..8 {
        let before = raw::set_soft_limit(libc::RLIMIT_NOFILE, first + free);
        let begin = Instant::now();
        let results = [start.call(LONG).run(|| 7), start.call(LONG).cancel(&Cancel::new()).run(|| 7)];
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
        assert_eq!(start.call(LONG).run(|| 8).unwrap(), 8, "the next call");
    }
    assert!(refused >= 3, "this proves nothing");
    drop(plugs);
}

fn too_many_processes_are_told_as_not_started(start: Start) {
    // The limit does not bind the superuser.
    raw::become_nobody();
    for _ in 0..3 {
        let before = raw::set_soft_limit(libc::RLIMIT_NPROC, 1);
        let begin = Instant::now();
        let result = start.call(LONG).run(|| 7);
        raw::set_soft_limit(libc::RLIMIT_NPROC, before);
        let error = assert_fails!(result, Reason::NotStarted(_), Ran::No);
        assert!(begin.elapsed() < SOON && error.to_string().contains("fork"), "{error}");
        assert_eq!(start.call(LONG).run(|| 8).unwrap(), 8, "the next call");
    }
}
