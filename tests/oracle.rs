//! The harness itself: each of its checks is shown to turn red.
//!
//! Every scenario in here leaves one trace on purpose. It must fail, and the failure must name the trace.

mod common;

use std::{
    env, fs,
    os::fd::IntoRawFd,
    panic::{AssertUnwindSafe, catch_unwind},
    process::{self, Command},
    thread,
    time::Duration,
};

use common::{Start, procs, raw, scenario};
use nix::{
    libc,
    sys::{
        prctl,
        signal::{SigSet, Signal},
        stat::{Mode, umask},
        wait::waitpid,
    },
    unistd::{Pid, setpgid, setsid},
};

/// Turns each of the scenarios into a test that it fails with the text behind it.
macro_rules! controls {
    ($($name:ident => $expected:literal,)*) => {
        mod red {
            $(#[test]
            fn $name() {
                let path = concat!(module_path!(), "::", stringify!($name));
                crate::scenario::run_red(path, crate::Start::Fork, super::$name, $expected);
            })*
        }
    };
}

controls! {
    a_leaked_descriptor_is_seen => "descriptor",
    a_closed_descriptor_is_seen => "descriptor 0: /dev/null before, nothing after",
    a_leaked_thread_is_seen => "leaked-one",
    a_zombie_is_seen => " Z",
    a_living_child_is_seen => "any child: false before, true after",
    a_handler_is_seen => "handler of signal 10: default",
    an_ignored_signal_is_seen => "handler of signal 12: default",
    a_blocked_signal_is_seen => "blocked signals: [] before, [SIGUSR1] after",
    another_directory_is_seen => "working directory",
    a_subreaper_is_seen => "subreaper: Ok(false) before, Ok(true) after",
    a_lowered_limit_is_seen => "descriptor limit",
    a_changed_slice_is_seen => "scheduling of the thread",
    another_umask_is_seen => "umask: ",
    another_process_group_is_seen => "process group and session: ",
    a_parent_death_signal_is_seen => "parent-death signal: Ok(None) before, Ok(Some(SIGTERM)) after",
    a_process_in_another_session_is_seen => "left running: ",
    a_scenario_that_is_killed_is_seen => "signal 9 ended the scenario",
    a_failing_scenario_is_seen => "the scenario failed",
}

// The harness is the same by every method.
common::scenarios_by_fork![
    a_scenario_without_a_trace_is_green,
    a_process_of_one_thread_has_one_thread,
    a_process_that_is_left_is_seen,
    a_corpse_that_is_left_is_seen,
];

#[test]
fn a_scenario_that_is_stuck_is_seen() {
    let path = "oracle::a_scenario_that_is_stuck_is_seen";
    let stuck = |_| assert_eq!(raw::pause(), 0);
    scenario::run_red_within(Duration::from_secs(2), path, Start::Fork, stuck, "the scenario was stuck for 2s");
}

#[test]
fn a_scenario_that_is_not_found_is_seen() {
    scenario::run_red("oracle::nothing_of_that_name", Start::Fork, |_| {}, "no test of that name was run");
}

fn a_scenario_without_a_trace_is_green(_: Start) {}

fn a_process_of_one_thread_has_one_thread(_: Start) {
    assert_eq!(common::procs::status("Threads"), 2, "the test's thread and the one that waits for it");
    scenario::alone(|| assert_eq!(common::procs::status("Threads"), 1));
}

/// What each look at processes says where it must fail.
fn reds(pid: Pid) -> [bool; 4] {
    let bound = Duration::from_millis(20);
    let is_red = |look: &dyn Fn()| catch_unwind(AssertUnwindSafe(look)).is_err();
    [
        is_red(&|| procs::assert_gone_within(&[pid], bound)),
        is_red(&|| assert!(procs::assert_alone_within(bound) < bound)),
        is_red(&|| procs::assert_none_tagged_within(&format!("NOT_INHERITED={pid}"), bound)),
        is_red(&|| procs::assert_childless_within(bound)),
    ]
}

fn a_process_that_is_left_is_seen(_: Start) {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    assert_eq!(reds(pid), [true, true, false, true]);
    let tagged = format!("SCENARIO={}", scenario::tag());
    let look = || procs::assert_none_tagged_within(&tagged, Duration::from_millis(20));
    assert!(catch_unwind(look).is_err());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(reds(pid), [false; 4]);
}

fn a_corpse_that_is_left_is_seen(_: Start) {
    let pid = raw::fork(|| {});
    procs::assert_alone_within(Duration::from_secs(5));
    assert_eq!(reds(pid), [true, false, false, true]);
    waitpid(pid, None).unwrap();
    assert_eq!(reds(pid), [false; 4]);
}

fn another_umask_is_seen(_: Start) {
    umask(Mode::from_bits_truncate(0o123));
}

fn another_process_group_is_seen(_: Start) {
    setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
}

fn a_parent_death_signal_is_seen(_: Start) {
    prctl::set_pdeathsig(Signal::SIGTERM).unwrap();
}

fn a_leaked_descriptor_is_seen(_: Start) {
    let _ = fs::File::open("/dev/null").unwrap().into_raw_fd();
}

fn a_closed_descriptor_is_seen(_: Start) {
    raw::close(0);
}

fn a_leaked_thread_is_seen(_: Start) {
    thread::Builder::new().name("leaked-one".into()).spawn(raw::pause).unwrap();
}

fn a_zombie_is_seen(_: Start) {
    raw::fork(|| {});
}

fn a_living_child_is_seen(_: Start) {
    raw::fork(|| assert_eq!(raw::pause(), 1));
}

fn a_handler_is_seen(_: Start) {
    raw::exit_on::<9>(libc::SIGUSR1);
}

fn an_ignored_signal_is_seen(_: Start) {
    raw::ignore(libc::SIGUSR2);
}

fn a_blocked_signal_is_seen(_: Start) {
    let mut mask = SigSet::empty();
    mask.add(nix::sys::signal::SIGUSR1);
    mask.thread_block().unwrap();
}

fn another_directory_is_seen(_: Start) {
    env::set_current_dir("/").unwrap();
}

fn a_subreaper_is_seen(_: Start) {
    prctl::set_child_subreaper(true).unwrap();
}

fn a_lowered_limit_is_seen(_: Start) {
    raw::set_soft_limit(libc::RLIMIT_NOFILE, 100);
}

fn a_changed_slice_is_seen(_: Start) {
    raw::be_nice();
}

fn a_process_in_another_session_is_seen(_: Start) {
    let parent = raw::fork(|| {
        raw::fork(|| {
            setsid().unwrap();
            raw::pause();
        });
    });
    waitpid(parent, None).unwrap();
}

fn a_scenario_that_is_killed_is_seen(_: Start) {
    let _ = nix::sys::signal::raise(nix::sys::signal::SIGKILL);
}

fn a_failing_scenario_is_seen(_: Start) {
    assert_eq!(process::id(), 0);
}
