//! A process of its own for each scenario.
//!
//! The test runs its own program again, for this one test and with a tag in the environment. There the scenario runs
//! between two looks of the oracle. Out here a watchdog waits, and afterwards no process that carries the tag may be
//! left anywhere. A scenario's output goes to a file, so that nothing it leaves behind can hold the test up.

use std::{
    env, fs,
    io::{Read, Seek},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Start, oracle::Snapshot, procs, raw};

/// The variable whose value is unique to one run of one scenario.
const TAG: &str = "TIMEOUT_SUITE_SCENARIO";

/// How long a scenario may take.
const WATCHDOG: Duration = Duration::from_secs(60);

/// How long its processes may take to vanish after it has ended.
const VANISH: Duration = Duration::from_secs(1);

/// The tag of the scenario that this process belongs to.
pub(crate) fn tag() -> String {
    env::var(TAG).expect("not in a scenario")
}

/// Runs `body` in a process of its own, or, in that process, here.
pub(crate) fn run(path: &str, start: Start, body: fn(Start)) {
    match is_inside(path) {
        true => inside(start, body),
        false => outside(path, &here(), &[], WATCHDOG).unwrap_or_else(|failure| panic!("{failure}")),
    }
}

/// The same for a scenario that may start no child: in a process of `program`, which is this one or a copy of it, with
/// some variables in its environment.
pub(crate) fn run_as(program: &Path, path: &str, variables: &[(&str, &str)], body: fn()) {
    match is_inside(path) {
        true => {
            let before = Snapshot::take();
            body();
            before.assert_unchanged();
        }
        false => outside(path, program, variables, WATCHDOG).unwrap_or_else(|failure| panic!("{failure}")),
    }
}

/// The same in a host that has no server yet, and no oracle: the server stays.
pub(crate) fn run_bare(path: &str, body: fn()) {
    run_bare_as(&here(), path, body);
}

/// The same in a process of `program`.
pub(crate) fn run_bare_as(program: &Path, path: &str, body: fn()) {
    match is_inside(path) {
        true => body(),
        false => outside(path, program, &[], WATCHDOG).unwrap_or_else(|failure| panic!("{failure}")),
    }
}

/// The program of this test.
pub(crate) fn here() -> PathBuf {
    env::current_exe().unwrap()
}

/// The same for a scenario that must fail and say `expected`: a negative control of the harness.
pub(crate) fn run_red(path: &str, start: Start, body: fn(Start), expected: &str) {
    run_red_within(WATCHDOG, path, start, body, expected);
}

/// The same with less patience.
pub(crate) fn run_red_within(patience: Duration, path: &str, start: Start, body: fn(Start), expected: &str) {
    if is_inside(path) {
        return inside(start, body);
    }
    let failure = outside(path, &here(), &[], patience).expect_err("the harness should have turned red");
    assert!(failure.contains(expected), "it failed without saying {expected:?}:\n{failure}");
}

fn is_inside(path: &str) -> bool {
    env::var(TAG).is_ok_and(|tag| tag.rsplit_once('@').is_some_and(|(_, scenario)| scenario == path))
}

fn inside(start: Start, body: fn(Start)) {
    // Whoever started the tests may have had signals ignored; SIGPIPE is std's doing.
    raw::signals().filter(|signal| *signal != libc::SIGPIPE && raw::is_ignored(*signal)).for_each(raw::set_default);
    METHOD.store(start == Start::Forkserver, Ordering::Relaxed);
    start.prepare();
    let before = Snapshot::take();
    body(start);
    start.assert_taken();
    before.assert_unchanged();
}

/// Runs the scenario at `path` in a new process; says what is wrong with it otherwise.
fn outside(path: &str, program: &Path, variables: &[(&str, &str)], patience: Duration) -> Result<(), String> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let tag = format!("{}.{run}@{path}", std::process::id());
    // Test names have no crate in them.
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    let mut output = unnamed_file(&tag);
    let mut command = Command::new(program);
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(TAG, &tag)
        .envs(variables.iter().copied())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output.try_clone().unwrap());
    raw::die_with_parent(&mut command);
    let mut scenario = command.spawn().unwrap();
    let verdict = watch(&mut scenario, patience);
    let strays = clear_away(&format!("{TAG}={tag}"));

    let mut text = String::new();
    output.rewind().unwrap();
    let _ = output.read_to_string(&mut text);
    // A name that matches no test would pass by doing nothing.
    let verdict = verdict.and_then(|()| match text.contains("1 passed") {
        true => Ok(()),
        false => Err("no test of that name was run".into()),
    });
    match (verdict, strays.as_str()) {
        (Ok(()), "") => Ok(()),
        (Ok(()), strays) => Err(format!("left running: {strays}\n{text}")),
        (Err(failure), strays) => Err(format!("{failure}\nleft running: {strays}\n{text}")),
    }
}

/// Waits for the end of a scenario, or makes it.
pub(super) fn watch(scenario: &mut Child, patience: Duration) -> Result<(), String> {
    if !raw::wait_for_end(scenario, patience) {
        let pid = scenario.id();
        let stacks = procs::describe(&[Pid::from_raw(pid as i32)]);
        scenario.kill().unwrap();
        scenario.wait().unwrap();
        return Err(format!("the scenario was stuck for {patience:?} and was killed: {stacks}"));
    }
    let status = scenario.wait().unwrap();
    match (status.success(), status.signal()) {
        (true, _) => Ok(()),
        (false, Some(signal)) => Err(format!("signal {signal} ended the scenario")),
        (false, None) => Err("the scenario failed".into()),
    }
}

/// Waits until nothing of a scenario runs any more; kills and names what does.
pub(super) fn clear_away(tag: &str) -> String {
    let begin = Instant::now();
    loop {
        let elapsed = begin.elapsed();
        let strays = procs::tagged(tag);
        if strays.is_empty() {
            return String::new();
        }
        if elapsed > VANISH {
            let names = procs::describe(&strays);
            kill_all(tag);
            return names;
        }
    }
}

/// Again and again: what is killed may have forked in between.
fn kill_all(tag: &str) {
    for _ in 0..1000 {
        let strays = procs::tagged(tag);
        if strays.is_empty() {
            return;
        }
        for stray in strays {
            let _ = kill(stray, Signal::SIGKILL);
        }
    }
}

pub(super) fn unnamed_file(tag: &str) -> fs::File {
    let path = env::temp_dir().join(format!("timeout-suite-{}", tag.replace(':', "-")));
    let file = fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    fs::remove_file(path).unwrap();
    file
}

/// Whether the scenario of this process is about the fork server.
static METHOD: AtomicBool = AtomicBool::new(false);

/// The start method that the scenario of this process is about.
pub(crate) fn method() -> Start {
    if METHOD.load(Ordering::Relaxed) { Start::Forkserver } else { Start::Fork }
}

/// Runs `body` in a process that has one thread, as most programs have, under an oracle of its own.
pub(crate) fn alone(body: impl FnOnce()) {
    let child = raw::fork(|| {
        method().prepare();
        let before = Snapshot::take();
        body();
        before.assert_unchanged();
    });
    let status = nix::sys::wait::waitpid(child, None).unwrap();
    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0), "what ran in the process of one thread failed");
}
