//! A process number that was given away again never brings a signal to its new owner.
//!
//! In a PID namespace of its own the numbers run out after a few dozen processes, so that those of dead children come
//! back at once. Decoys take them: short-lived processes that have nothing to do with the calls. None may be signalled.

mod common;

use std::{
    collections::{HashSet, VecDeque},
    fs, process, thread,
    time::{Duration, Instant},
};

use common::{LONG, Mark, Start, raw, seccomp};
use nix::{
    errno::Errno,
    libc,
    sys::wait::{WaitStatus, waitpid},
    unistd::{Pid, getpid},
};

common::scenarios_everywhere![decoys_are_never_signalled];

// A worker of the fork server is not the host's child, and not called without descriptors.
common::scenarios_by_fork![
    so_it_is_where_the_host_ignores_sigchld,
    so_it_is_without_process_descriptors,
    so_it_is_with_neither,
];

/// How many numbers the namespace has. The lowest 300 are used once only.
const NUMBERS: u32 = 400;

fn decoys_are_never_signalled(start: Start) {
    check(start, || {});
}

fn so_it_is_where_the_host_ignores_sigchld(start: Start) {
    check(start, || raw::ignore(libc::SIGCHLD));
}

fn so_it_is_without_process_descriptors(start: Start) {
    check(start, || seccomp::forbid(libc::SYS_pidfd_open, Errno::ENOSYS));
}

fn so_it_is_with_neither(start: Start) {
    check(start, || {
        raw::ignore(libc::SIGCHLD);
        seccomp::forbid(libc::SYS_pidfd_open, Errno::EPERM);
    });
}

fn check(start: Start, prepare: fn()) {
    let told = Mark::new();
    let outer = raw::fork(|| {
        // Without privileges a user namespace gives them; some systems forbid that.
        let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
        let flags = if raw::is_root() { flags } else { flags | libc::CLONE_NEWUSER };
        if let Err(errno) = raw::unshare(flags) {
            println!("NOT TESTED: no PID namespace here: {errno}");
            return;
        }
        let init = raw::fork(|| in_the_namespace(start, prepare, &told));
        assert_eq!(waitpid(init, None), Ok(WaitStatus::Exited(init, 0)));
    });
    assert_eq!(waitpid(outer, None), Ok(WaitStatus::Exited(outer, 0)));
    println!("{:?}", told.hear_all());
}

/// Runs as the first process of the namespace: with its end, everything in there ends.
fn in_the_namespace(start: Start, prepare: fn(), told: &Mark) {
    assert_eq!(getpid(), Pid::from_raw(1));
    raw::mount_proc().unwrap();
    // The limit belongs to the namespace since Linux 6.14; before, it would be that of the whole machine.
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(6), Some(14)) {
        println!("NOT TESTED: Linux {release} has no number limit per namespace");
        return;
    }
    fs::write("/proc/sys/kernel/pid_max", NUMBERS.to_string()).unwrap();

    let (children, stop) = (Mark::new(), Mark::new());
    let decoys = raw::fork(|| breed_decoys(&stop, told, &children));
    let host = raw::fork(|| {
        prepare();
        start.prepare();
        call_for(Duration::from_secs(3), start, &children);
        assert_eq!(process::id(), getpid().as_raw() as u32);
    });
    assert_eq!(reap_until(host), WaitStatus::Exited(host, 0), "the host failed");
    stop.now();
    assert_eq!(reap_until(decoys), WaitStatus::Exited(decoys, 0), "a decoy was signalled");
}

/// Reaps the orphans of the namespace, as is the duty of its first process, until `pid` ends.
fn reap_until(pid: Pid) -> WaitStatus {
    loop {
        let status = waitpid(None, None).unwrap();
        if status.pid() == Some(pid) {
            return status;
        }
    }
}

/// Calls of all kinds; the bodies tell their numbers.
fn call_for(time: Duration, start: Start, children: &Mark) {
    let begin = Instant::now();
    let (long, short) = (start.call(LONG), start.call(Duration::from_micros(1500)));
    while begin.elapsed() < time {
        let value = start.run(&long, children.again(), |children: Mark| {
            tell(&children);
            7
        });
        assert_eq!(value.unwrap(), 7);
        let late = start.run(&short, children.again(), |children: Mark| {
            tell(&children);
            raw::pause()
        });
        late.unwrap_err();
        let exit = start.run(&long, children.again(), |children: Mark| -> i32 {
            tell(&children);
            process::exit(3)
        });
        exit.unwrap_err();
        let leaves_a_child = start.run(&long, children.again(), |children: Mark| {
            tell(&children);
            raw::fork(|| thread::sleep(Duration::from_secs(5)));
        });
        leaves_a_child.unwrap();
    }
}

fn tell(children: &Mark) {
    children.tell(getpid().as_raw() as u64);
}

/// Keeps some numbers taken by processes that live for a moment; fails if a signal ends one.
fn breed_decoys(stop: &Mark, told: &Mark, children: &Mark) {
    let mut living = VecDeque::new();
    let (mut numbers, mut bred, mut recycled) = (HashSet::new(), 0, 0);
    while !stop.is_told() {
        numbers.extend(children.hear_all());
        match raw::try_fork(|| thread::sleep(Duration::from_millis(3))) {
            Ok(decoy) => {
                bred += 1;
                // Its number was a child's before. Both kinds come and go all the time.
                recycled += u64::from(numbers.contains(&(decoy.as_raw() as u64)));
                living.push_back(decoy);
            }
            // The host has the last numbers just now.
            Err(errno) => assert_eq!(errno, Errno::EAGAIN),
        }
        if living.len() > 20 {
            let decoy = living.pop_front().unwrap();
            assert_eq!(waitpid(decoy, None), Ok(WaitStatus::Exited(decoy, 0)));
        }
    }
    for decoy in living {
        assert_eq!(waitpid(decoy, None), Ok(WaitStatus::Exited(decoy, 0)));
    }
    told.tell(bred);
    told.tell(recycled);
    assert!(
        bred > 200 && recycled > 20,
        "{bred} decoys, {recycled} of them with a child's number: this proves nothing"
    );
}
