//! Calls whose kernel calls fail: each failure is told truly, leaves nothing behind, and the next call works.
//!
//! Every row runs in a process of its own, made by running this test binary again for the one test [`row`]. So what a
//! row leaves behind is not mistaken for another's, a first call is a first call, and a row that hangs is cut by an
//! alarm.
//!
//! What is still ugly: a script stands for a call that fails, not for a kernel that is in that state. So a scripted
//! `ECHILD` leaves a corpse that a true one would not; the true one is made by a host that ignores `SIGCHLD`.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    env, fs,
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, raise},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, alarm, getpid, gettid},
};

use crate::{
    Call, Cancel, Ran, Reason, Rlimit, TimedOut,
    sys::{
        fault::{self, Op, script},
        process::exit_now,
    },
};

/// What the body of a row does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Value,
    /// It sleeps beyond the limit, as does a process that it started in its group and one that left it.
    Late,
    /// As before, with a grace that would take much longer than dying does.
    LateWithGrace,
    Abort,
    /// It is killed without a word.
    Killed,
    Panic,
    Exit,
    /// It ends its process without a word.
    ExitUnseen,
    Cancelled,
    /// As a value, of a call with a token that nobody uses.
    WithToken,
    /// As a value, of a call that bounds its memory.
    BoundMemory,
    /// As a value, of a call that bounds its CPU time.
    BoundTime,
    /// As a value, of a call that bounds its descriptors.
    BoundFiles,
    /// It gives a value and takes long to give its memory back.
    SlowToDie,
}

use Body::{
    Abort, BoundFiles, BoundMemory, BoundTime, Cancelled, Exit, ExitUnseen, Killed, Late, LateWithGrace, Panic,
    SlowToDie, Value, WithToken,
};

const BODIES: [Body; 9] = [Value, Late, LateWithGrace, Abort, Killed, Panic, Exit, ExitUnseen, Cancelled];

/// What a call is to give.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// What it would give without the failure.
    True,
    /// The same, or that its end is not known, where the kernel does not tell (Linux 6.15 does).
    TrueIfTold,
    /// The same, or that its end is not known, whatever the kernel could tell: what a script takes away may be found.
    TrueOrUnknown,
    /// [`Reason::NotStarted`] with a text that begins so, and [`Ran::No`].
    NotStarted(&'static str),
    /// [`Reason::Lost`] with a text that has this in it.
    Lost(&'static str),
}

/// What the row's process is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Plain,
    /// It has threads of its own.
    Threaded,
    /// It ignores `SIGCHLD`, so that the kernel reaps its children.
    Childless,
    /// It has so many descriptors left, not counting the two of a row's own.
    Full(usize),
}

/// One call with failures.
#[derive(Clone, Debug)]
struct Row {
    host: Host,
    body: Body,
    /// Each operation fails with this, so many times.
    script: Vec<(Op, Errno, u32)>,
    expect: Expect,
    /// What the row leaves behind on purpose, to see that it is noticed.
    leaves: Option<Leak>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leak {
    Descriptor,
    Zombie,
    Child,
    Descendant,
    Thread,
    Mask,
}

const ALWAYS: u32 = u32::MAX;

fn row_of(host: Host, body: Body, script: &[(Op, Errno, u32)], expect: Expect) -> Row {
    Row { host, body, script: script.to_vec(), expect, leaves: None }
}

/// Rows of a plain host: every operation with every errno, for every body.
fn rows_of(ops: &[Op], errnos: &[Errno], times: u32, bodies: &[Body], expect: Expect) -> Vec<Row> {
    let mut rows = Vec::new();
    for &op in ops {
        for &errno in errnos {
            rows.extend(bodies.iter().map(|&body| row_of(Host::Plain, body, &[(op, errno, times)], expect)));
        }
    }
    rows
}

// ---- The row's process ----------------------------------------------------------------------------------------------

/// Names the row in the environment of its process.
const ROW: &str = "TIMEOUT_RUNTIME_FAULT_ROW";

const LIMIT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(60);
/// How late a call may be on a busy machine.
const SLACK: Duration = Duration::from_secs(5);
/// How long a corpse may stay.
const CORPSE: Duration = Duration::from_millis(200);

#[test]
fn row() {
    let Ok(name) = env::var(ROW) else { return };
    let table = all_rows();
    let row = table.iter().find(|row| format!("{row:?}") == name).expect("a row of this name");
    // A row that hangs is killed; its child goes with it.
    alarm::set(30);
    play(row);
    alarm::cancel();
}

/// What a process has that a call must leave as it was.
#[derive(Debug, PartialEq)]
struct Belongings {
    /// What is open, and where.
    descriptors: BTreeSet<(String, String)>,
    mask: String,
    threads: usize,
}

impl Belongings {
    fn now() -> Belongings {
        let descriptors = list("/proc/self/fd")
            .filter_map(|fd| Some((fs::read_link(&fd).ok()?.display().to_string(), fd.display().to_string())))
            // The descriptor that lists the directory is in the list.
            .filter(|(what, _)| !what.starts_with("/proc/"))
            .collect();
        let mask = SigSet::thread_get_mask().unwrap().iter().map(Signal::as_str).collect::<Vec<_>>().join(" ");
        Belongings { descriptors, mask, threads: list("/proc/self/task").count() }
    }
}

fn list(directory: &str) -> impl Iterator<Item = std::path::PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path())
}

/// This process's children and whether each is a corpse.
fn children() -> Vec<(Pid, bool)> {
    let lists = list("/proc/self/task").filter_map(|task| fs::read_to_string(task.join("children")).ok());
    let pids: Vec<i32> = lists.flat_map(|list| list.split(' ').flat_map(str::parse).collect::<Vec<_>>()).collect();
    pids.into_iter()
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((Pid::from_raw(pid), stat.rsplit_once(") ")?.1.starts_with('Z')))
        })
        .collect()
}

fn play(row: &Row) {
    let mut host = Vec::new();
    if row.host == Host::Threaded {
        let (mut wait, held) = io::pipe().unwrap();
        let idle = thread::spawn(move || wait.read(&mut [0]).unwrap());
        host.push((idle, held));
    }
    // Whatever a call starts holds the other end of this: its end comes when the last of them is gone.
    let (witness, held) = io::pipe().unwrap();
    let mut before = Belongings::now();
    // This end is closed before anything is compared.
    let held_at = format!("/proc/self/fd/{}", held.as_raw_fd());
    before.descriptors.retain(|(_, at)| *at != held_at);
    assert_eq!(ignores_children(), row.host == Host::Childless);
    let filling = RefCell::new(fill(row.host));

    let scripted: Vec<_> = row.script.iter().map(|(op, errno, times)| script(*op, *errno, *times)).collect();
    let begin = Instant::now();
    let result = run(row, &held, &filling);
    let took = begin.elapsed();
    let untouched: Vec<_> = row.script.iter().filter(|(op, _, times)| *times < ALWAYS && is_left(*op)).collect();
    if row.body == SlowToDie {
        is_swept_by_the_next_call();
    }
    drop(scripted);
    drop(filling);
    assert!(untouched.is_empty() || !is_met_by_the_caller(row), "the call did not get to {untouched:?}");

    judge(row, result, took);
    bury_what_the_script_left(row);
    let _leak = row.leaves.map(|leak| leave(leak, &held));
    drop(held);
    // Without a thread, a corpse waits for the next call; what is still dying then, for one more.
    match row.script.iter().any(|(op, ..)| *op == Op::SpawnThread) {
        true => call_until_swept(),
        false => nothing_stays(&before, &witness),
    }

    assert_eq!(Call::new(LONG).run(|| 6 * 7).unwrap(), 42, "the next call");
    nothing_stays(&before, &witness);
}

/// Whether the script for `op` has not been used up.
fn is_left(op: Op) -> bool {
    fault::check(op).is_err()
}

/// Whether it is certain that the caller's own thread, and not the child or the reaper's thread, meets the failures.
fn is_met_by_the_caller(row: &Row) -> bool {
    row.script.iter().all(|(op, ..)| match op {
        Op::Pipe | Op::Mmap | Op::Terminal | Op::Fork | Op::PidfdOpen | Op::Poll | Op::Read => true,
        // A value's child may be dead before it is looked at, or be handed to the reaper.
        Op::PidfdSignal | Op::Wait | Op::SpawnThread => false,
        Op::Setsid | Op::Setpgid | Op::DeathSignal | Op::Subreaper | Op::Lifeline | Op::Write => false,
        Op::SetLimit | Op::CpuTimer | Op::Status => false,
    })
}

/// Whether the kernel reaps this process's children.
fn ignores_children() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(ignored.trim(), 16).unwrap() >> (Signal::SIGCHLD as i32 - 1) & 1 == 1
}

/// Opens files until a host has only so many descriptors left.
fn fill(host: Host) -> Vec<File> {
    let Host::Full(left) = host else { return Vec::new() };
    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    files.truncate(files.len() - left);
    files
}

/// Makes the row's call.
fn run(row: &Row, held: &PipeWriter, filling: &RefCell<Vec<File>>) -> Result<u32, TimedOut> {
    let call = Call::new(LONG);
    let host = format!("/proc/{}/task/{}/stat", getpid(), gettid());
    let sleep = || -> u32 {
        // The child's copies: the processes that it starts need some descriptors.
        drop(filling.take());
        for leaves_group in [false, true] {
            let mut command = Command::new("sleep");
            // Whoever reads what this process prints must not wait for these.
            command.arg("60").stdin(Stdio::null()).stdout(held.try_clone().unwrap()).stderr(Stdio::null());
            if leaves_group {
                command.process_group(0);
            }
            // Never waited for: whatever ends the call has to end them.
            #[expect(clippy::zombie_processes)]
            let _ = command.spawn().unwrap();
        }
        thread::sleep(LONG);
        0
    };
    match row.body {
        Value => call.run(|| 42 + row.script.iter().filter(|(op, ..)| is_quiet(*op) && is_left(*op)).count() as u32),
        WithToken => call.cancel(&Cancel::new()).run(|| 42),
        BoundMemory => call.memory(1 << 30).run(|| 42),
        BoundTime => call.cpu(60).run(|| 42),
        BoundFiles => call.rlimit(Rlimit::OpenFiles, 50).run(|| 42),
        // Not given back before it dies.
        SlowToDie => call.run(|| vec![1u8; 256 << 20].leak().len() as u32 >> 28),
        Late => Call::new(LIMIT).run(sleep),
        LateWithGrace => Call::new(LIMIT).grace(LONG).run(sleep),
        Abort => call.run(|| std::process::abort()),
        Killed => call.run(|| {
            wait_until_watched(&host);
            raise(Signal::SIGKILL).map_or(0, |()| 1)
        }),
        Panic => call.run(|| panic!("no such island")),
        Exit => call.run(|| std::process::exit(7)),
        ExitUnseen => call.run(|| {
            wait_until_watched(&host);
            exit_now(7)
        }),
        Cancelled => {
            let (cancel, (mut has_begun, begins)) = (Cancel::new(), io::pipe().unwrap());
            thread::scope(|scope| {
                scope.spawn(|| {
                    has_begun.read_exact(&mut [0]).unwrap();
                    cancel.cancel();
                });
                // Short enough for the alarm, should nobody look at the token.
                Call::new(Duration::from_secs(10)).cancel(&cancel).run(|| {
                    (&begins).write_all(&[1]).unwrap();
                    sleep()
                })
            })
        }
    }
}

/// Sees that the last call's child is still there, as no thread could be started, and is not after another call.
fn is_swept_by_the_next_call() {
    let dying = children();
    assert_eq!(dying.len(), 1, "a child that takes long to die has been left to the reaper");
    let begin = Instant::now();
    while children() != [(dying[0].0, true)] {
        assert!(begin.elapsed() < SLACK && children().len() == 1, "it dies, and nobody reaps it: {:?}", children());
        thread::yield_now();
    }
    assert_eq!(Call::new(LONG).run(|| 1).unwrap(), 1);
    assert!(children().iter().all(|(pid, _)| *pid != dying[0].0), "the next call has not swept");
}

/// Makes calls until no child is left of an earlier one.
fn call_until_swept() {
    let begin = Instant::now();
    while !children().is_empty() {
        assert!(begin.elapsed() < SLACK, "no call sweeps: {:?}", children());
        assert_eq!(Call::new(LONG).run(|| 1).unwrap(), 1);
    }
}

/// Waits until the thread `host` sleeps in its wait for this child. A child that the kernel reaps before its host has opened a
/// descriptor for it has an end that nobody can tell.
fn wait_until_watched(host: &str) {
    let begin = Instant::now();
    while !fs::read_to_string(host).is_ok_and(|stat| stat.contains(") S ")) && begin.elapsed() < SLACK {
        thread::yield_now();
    }
}

/// What a child is to get over without a word.
fn is_quiet(op: Op) -> bool {
    matches!(op, Op::DeathSignal | Op::Subreaper | Op::Lifeline)
}

/// Compares what came of a row's call with what was expected.
fn judge(row: &Row, result: Result<u32, TimedOut>, took: Duration) {
    let told = match row.expect {
        Expect::True => is_true(row, &result),
        Expect::TrueIfTold => is_true(row, &result) || (!kernel_tells() && is_lost(&result, "exit status")),
        Expect::TrueOrUnknown => is_true(row, &result) || is_lost(&result, "exit status"),
        Expect::Lost(part) => is_lost(&result, part),
        Expect::NotStarted(step) => result.as_ref().is_err_and(|error| {
            let text = error.to_string();
            let names = text.contains(&format!("was not started: {step}"));
            names && error.ran() == Ran::No && matches!(error.reason(), Reason::NotStarted(_))
        }),
    };
    // Looked at only if it is wrong: the names in it take longer to find than the row takes.
    assert!(told, "{result:?} after {took:?}");
    if let (Late | LateWithGrace, Expect::True | Expect::TrueIfTold) = (row.body, row.expect) {
        assert!(took >= LIMIT, "too early: {took:?}");
    }
    assert!(took < LIMIT + SLACK, "too late: {result:?} after {took:?}");
}

/// Whether a call gave what its body makes of it when nothing fails.
fn is_true(row: &Row, result: &Result<u32, TimedOut>) -> bool {
    let error = match result {
        Ok(value) => {
            return matches!(
                (row.body, value),
                (Value | WithToken | BoundMemory | BoundTime | BoundFiles, 42) | (SlowToDie, 1)
            );
        }
        Err(error) => error,
    };
    // Without a page for the progress it is not known that the body ran, unless the child said so.
    let cut = error.ran() == Ran::Maybe;
    match (row.body, error.reason()) {
        (Late | LateWithGrace, Reason::Late { .. }) => cut,
        (Abort, Reason::Crashed { signal, .. }) => cut && *signal == Signal::SIGABRT as i32,
        (Killed, Reason::Crashed { signal, .. }) => cut && *signal == Signal::SIGKILL as i32,
        (Panic, Reason::Panicked { message, location, .. }) => {
            let here = location.as_ref().is_some_and(|place| place.file().ends_with("faults.rs"));
            message == "no such island" && here && error.ran() == Ran::Yes
        }
        (Exit | ExitUnseen, Reason::Exited { code }) => *code == 7 && error.ran() == Ran::Yes,
        (Cancelled, Reason::Cancelled) => cut,
        _ => false,
    }
}

fn is_lost(result: &Result<u32, TimedOut>, part: &str) -> bool {
    let Err(error) = result else { return false };
    error.ran() != Ran::No && matches!(error.reason(), Reason::Lost { why } if why.contains(part))
}

/// Whether the kernel keeps the exit status of a process that has been reaped (Linux 6.15).
fn kernel_tells() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

/// A wait that only pretends to find no child, or to be forbidden, leaves a corpse that nobody else has taken.
fn bury_what_the_script_left(row: &Row) {
    if row.script.iter().any(|(op, ..)| *op == Op::Wait) {
        for (pid, _) in children() {
            let _ = waitpid(pid, Some(WaitPidFlag::empty()));
        }
    }
}

/// Leaves something behind, as a call must not; gives what has to be kept for it to stay.
fn leave(leak: Leak, held: &PipeWriter) -> Box<dyn std::any::Any> {
    let mut sleep = Command::new("sleep");
    sleep.arg("60").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match leak {
        Leak::Descriptor => Box::new(File::open("/dev/null").unwrap()),
        Leak::Zombie => Box::new(Command::new("true").spawn().unwrap()),
        Leak::Child => Box::new(sleep.spawn().unwrap()),
        Leak::Descendant => {
            // Its parent does not wait for it: it is nobody's child, and seen by the pipe it holds alone.
            let orphan = Command::new("sh").args(["-c", "sleep 20 2>&- &"]).stdout(held.try_clone().unwrap()).status();
            Box::new(orphan.unwrap())
        }
        Leak::Thread => Box::new(thread::spawn(|| thread::sleep(LONG))),
        Leak::Mask => {
            SigSet::from(Signal::SIGUSR1).thread_block().unwrap();
            Box::new(())
        }
    }
}

/// Sees that a call's processes are gone and this process has what it had. Looks until it is so, as dying takes time.
fn nothing_stays(before: &Belongings, witness: &PipeReader) {
    let begin = Instant::now();
    let mut corpses: Vec<(Pid, Instant)> = Vec::new();
    loop {
        let now = Instant::now();
        let children = children();
        corpses.retain(|(pid, _)| children.contains(&(*pid, true)));
        for (pid, _) in children.iter().filter(|(_, is_corpse)| *is_corpse) {
            match corpses.iter().find(|(known, _)| known == pid) {
                Some((_, since)) => assert!(now - *since <= CORPSE, "a zombie stays: {children:?}"),
                None => corpses.push((*pid, now)),
            }
        }
        // Counted by the kernel: a listing that is made while a thread ends may leave out another.
        let threads = crate::sys::process::thread_count();
        if children.is_empty() && threads <= before.threads {
            break;
        }
        assert!(now - begin < SLACK, "a child or a thread stays: {children:?}, {threads} threads");
        thread::yield_now();
    }
    assert_eq!(&Belongings::now(), before, "what this process has");
    let mut polled = [PollFd::new(witness.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut polled, PollTimeout::from(5_000u16)), Ok(1), "a descendant stays");
}

// ---- The tables -----------------------------------------------------------------------------------------------------

/// Plays every row in its process; tells which rows have failed, and how.
fn failures(rows: &[Row]) -> Vec<String> {
    rows.iter().filter_map(|row| Some(format!("{row:?}\n{}", failure(row)?))).collect()
}

fn failure(row: &Row) -> Option<String> {
    let binary = env::current_exe().unwrap();
    let prelude = match row.host {
        Host::Childless => "exec env --ignore-signal=CHLD \"$0\" \"$@\"",
        Host::Full(_) => "ulimit -n 64; exec \"$0\" \"$@\"",
        Host::Plain | Host::Threaded => "exec \"$0\" \"$@\"",
    };
    let mut command = Command::new("sh");
    command.args(["-c", prelude]).arg(binary).args(["--exact", "faults::row", "--nocapture"]);
    // The harness still has a thread of its own next to the row's.
    let output =
        command.arg("--test-threads=1").env(ROW, format!("{row:?}")).env("RUST_BACKTRACE", "0").output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (!output.status.success() || !text.contains("1 passed")).then(|| format!("{}: {text}", output.status))
}

#[track_caller]
fn assert_all(rows: &[Row]) {
    let failures = failures(rows);
    assert!(failures.is_empty(), "{} of {} rows failed:\n{}", failures.len(), rows.len(), failures.join("\n"));
}

/// Rows are found by their text, so every table has to be in here.
fn all_rows() -> Vec<Row> {
    [
        without_failures(),
        leaking(),
        not_started(),
        bounds_not_set(),
        unbound(),
        progress_unknown(),
        without_pidfds(),
        signals_by_number(),
        quiet_setup(),
        polls(),
        failing_polls(),
        cancel_without_poll(),
        reads(),
        unwritten_values(),
        unwritten_crashes(),
        interrupted_writes(),
        statuses_taken(),
        interrupted_waits(),
        childless_hosts(),
        reaper_threads(),
        full_hosts(),
        full_hosts_with_a_token(),
        full_hosts_with_descendants(),
    ]
    .concat()
}

fn without_failures() -> Vec<Row> {
    let hosts = [Host::Plain, Host::Threaded];
    hosts.iter().flat_map(|&host| BODIES.map(|body| row_of(host, body, &[], Expect::True))).collect()
}

#[test]
fn without_a_failure_every_call_is_true_and_leaves_nothing() {
    assert_all(&without_failures());
}

fn leaking() -> Vec<Row> {
    [Leak::Descriptor, Leak::Zombie, Leak::Child, Leak::Descendant, Leak::Thread, Leak::Mask]
        .map(|leak| Row { leaves: Some(leak), ..row_of(Host::Plain, Value, &[], Expect::True) })
        .to_vec()
}

#[test]
fn whatever_a_call_would_leave_is_noticed() {
    for row in leaking() {
        let text = failure(&row).unwrap_or_else(|| panic!("{row:?} was not noticed"));
        let word = match row.leaves {
            Some(Leak::Zombie) => "a zombie stays",
            Some(Leak::Child | Leak::Thread) => "a child or a thread stays",
            Some(Leak::Descendant) => "a descendant stays",
            _ => "what this process has",
        };
        assert!(text.contains(word), "{row:?} was noticed for another reason: {text}");
    }
}

#[test]
fn a_wrong_outcome_is_noticed() {
    let took = LIMIT;
    for (body, expect) in [(Value, Expect::NotStarted("pipe")), (Value, Expect::Lost("")), (Late, Expect::True)] {
        let row = row_of(Host::Plain, body, &[], expect);
        let judged = std::panic::catch_unwind(|| judge(&row, Ok(42), took));
        assert!(judged.is_err(), "{row:?}");
    }
    judge(&row_of(Host::Plain, Value, &[], Expect::True), Ok(42), took);
}

fn not_started() -> Vec<Row> {
    let first = |op, errnos: &[Errno], step| rows_of(&[op], errnos, 1, &[Value, Late], Expect::NotStarted(step));
    let mut rows = [
        first(Op::Pipe, &[Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EPERM], "pipe: "),
        first(Op::Fork, &[Errno::EAGAIN, Errno::ENOMEM, Errno::ENOSYS, Errno::EPERM], "fork: "),
    ]
    .concat();
    // Where it is not known whether there is a terminal, a child needs a session; else that depends on the terminal.
    for errno in [Errno::EPERM, Errno::ENOSYS] {
        for body in [Value, Late] {
            let session = [(Op::Terminal, Errno::EACCES, 1), (Op::Setsid, errno, 1)];
            rows.push(row_of(Host::Plain, body, &session, Expect::NotStarted("setsid: ")));
            let either = [(Op::Setsid, errno, 1), (Op::Setpgid, errno, 1)];
            rows.push(row_of(Host::Plain, body, &either, Expect::NotStarted("set")));
        }
    }
    for (op, errno, step) in [(Op::Pipe, Errno::EMFILE, "pipe: "), (Op::Fork, Errno::EAGAIN, "fork: ")] {
        rows.push(row_of(Host::Threaded, Value, &[(op, errno, 1)], Expect::NotStarted(step)));
        rows.push(row_of(Host::Childless, Value, &[(op, errno, 1)], Expect::NotStarted(step)));
        // Not even the progress is known; what the child says is.
        let nothing_known = [(Op::Mmap, Errno::ENOMEM, 1), (op, errno, 1)];
        rows.push(row_of(Host::Plain, Value, &nothing_known, Expect::NotStarted(step)));
        let no_descriptor = [(Op::PidfdOpen, Errno::ENOSYS, ALWAYS), (op, errno, 1)];
        rows.push(row_of(Host::Plain, Value, &no_descriptor, Expect::NotStarted(step)));
    }
    rows
}

#[test]
fn a_start_that_fails_names_its_step_and_has_not_run() {
    assert_all(&not_started());
}

fn bounds_not_set() -> Vec<Row> {
    let mut rows = Vec::new();
    for (body, op, errnos, step) in [
        (BoundMemory, Op::Status, [Errno::ENOENT, Errno::EMFILE], "/proc/self/status: "),
        (BoundMemory, Op::SetLimit, [Errno::EPERM, Errno::ENOSYS], "setrlimit(RLIMIT_DATA): "),
        (BoundTime, Op::CpuTimer, [Errno::EAGAIN, Errno::EPERM], "timer_create: "),
        (BoundTime, Op::SetLimit, [Errno::EPERM, Errno::ENOSYS], "setrlimit(RLIMIT_CPU): "),
        (BoundFiles, Op::SetLimit, [Errno::EPERM, Errno::EINVAL], "setrlimit(RLIMIT_NOFILE): "),
    ] {
        rows.extend(rows_of(&[op], &errnos, 1, &[body], Expect::NotStarted(step)));
        rows.push(row_of(Host::Threaded, body, &[(op, errnos[0], 1)], Expect::NotStarted(step)));
        let nothing_known = [(Op::Mmap, Errno::ENOMEM, 1), (op, errnos[0], 1)];
        rows.push(row_of(Host::Plain, body, &nothing_known, Expect::NotStarted(step)));
    }
    rows
}

#[test]
fn a_bound_that_cannot_be_set_names_its_step_and_has_not_run() {
    assert_all(&bounds_not_set());
}

fn unbound() -> Vec<Row> {
    // The control: a call meets only what it asks for.
    let ops = [Op::SetLimit, Op::CpuTimer, Op::Status];
    let mut rows = rows_of(&ops, &[Errno::EPERM], ALWAYS, &[Value, Late, Abort], Expect::True);
    rows.extend([BoundMemory, BoundTime, BoundFiles].map(|body| row_of(Host::Plain, body, &[], Expect::True)));
    rows
}

#[test]
fn a_call_without_bounds_sets_none() {
    assert_all(&unbound());
}

fn progress_unknown() -> Vec<Row> {
    let mut rows = rows_of(&[Op::Mmap], &[Errno::ENOMEM], 1, &BODIES, Expect::True);
    rows.extend(rows_of(&[Op::Mmap], &[Errno::EAGAIN, Errno::EPERM, Errno::ENFILE], 1, &[Value, Late], Expect::True));
    rows
}

#[test]
fn without_a_shared_page_only_the_progress_is_unknown() {
    assert_all(&progress_unknown());
}

fn without_pidfds() -> Vec<Row> {
    let mut rows = rows_of(&[Op::PidfdOpen], &[Errno::EPERM, Errno::ENOSYS], ALWAYS, &BODIES, Expect::True);
    let others = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENODEV];
    // Only the first fails: the worker has no descriptor, its descendants do.
    rows.extend(rows_of(&[Op::PidfdOpen], &others, 1, &[Value, Late, Killed], Expect::True));
    for body in [Value, Late, Killed] {
        rows.push(row_of(Host::Threaded, body, &[(Op::PidfdOpen, Errno::ENOSYS, ALWAYS)], Expect::True));
    }
    rows
}

#[test]
fn without_pidfds_every_call_is_true_all_the_same() {
    assert_all(&without_pidfds());
}

fn signals_by_number() -> Vec<Row> {
    let mut rows = rows_of(&[Op::PidfdSignal], &[Errno::ENOSYS], ALWAYS, &BODIES, Expect::True);
    let others = [Errno::EPERM, Errno::EINVAL];
    rows.extend(rows_of(&[Op::PidfdSignal], &others, ALWAYS, &[Value, Late, LateWithGrace], Expect::True));
    rows
}

#[test]
fn without_signals_by_descriptor_they_go_by_number() {
    assert_all(&signals_by_number());
}

fn quiet_setup() -> Vec<Row> {
    let steps = [Op::DeathSignal, Op::Subreaper, Op::Lifeline];
    let errnos = [Errno::EPERM, Errno::ENOSYS, Errno::EINVAL];
    let mut rows = rows_of(&steps, &errnos, 1, &[Value, Late], Expect::True);
    let all = steps.map(|op| (op, Errno::EPERM, 1));
    rows.extend(BODIES.map(|body| row_of(Host::Plain, body, &all, Expect::True)));
    rows
}

#[test]
fn a_child_gets_over_what_a_sandbox_forbids() {
    assert_all(&quiet_setup());
}

fn polls() -> Vec<Row> {
    let mut rows = rows_of(&[Op::Poll], &[Errno::EINTR], 5, &BODIES, Expect::True);
    // A timer of the host that fires all the time.
    rows.extend(rows_of(&[Op::Poll], &[Errno::EINTR], 20_000, &[Late], Expect::True));
    rows
}

#[test]
fn a_poll_that_is_interrupted_changes_nothing() {
    assert_all(&polls());
}

fn failing_polls() -> Vec<Row> {
    let short = [Value, Abort, Killed, Panic, Exit, ExitUnseen];
    let mut rows = rows_of(&[Op::Poll], &[Errno::ENOMEM, Errno::EAGAIN], 1, &BODIES, Expect::True);
    rows.extend(rows_of(&[Op::Poll], &[Errno::ENOMEM], ALWAYS, &short, Expect::True));
    rows.extend(rows_of(
        &[Op::Poll],
        &[Errno::EPERM, Errno::ENOSYS],
        ALWAYS,
        &[Value, Late, LateWithGrace],
        Expect::True,
    ));
    for body in [Value, Late, Killed] {
        let blind = [(Op::Poll, Errno::ENOMEM, ALWAYS), (Op::PidfdOpen, Errno::ENOMEM, ALWAYS)];
        rows.push(row_of(Host::Plain, body, &blind, Expect::True));
    }
    rows
}

#[test]
fn a_poll_that_fails_changes_nothing() {
    assert_all(&failing_polls());
}

fn cancel_without_poll() -> Vec<Row> {
    rows_of(&[Op::Poll], &[Errno::ENOMEM], ALWAYS, &[Cancelled], Expect::True)
}

#[test]
fn a_cancel_is_seen_when_polling_fails() {
    assert_all(&cancel_without_poll());
}

fn reads() -> Vec<Row> {
    let mut rows = rows_of(&[Op::Read], &[Errno::EINTR], 1000, &[Value, Panic, Exit, Abort], Expect::True);
    let why = Expect::Lost("could not be read");
    rows.extend(rows_of(&[Op::Read], &[Errno::EIO, Errno::ENOMEM], 1, &[Value, Panic, Exit, Abort], why));
    rows
}

#[test]
fn a_read_that_fails_loses_the_value_and_one_that_is_interrupted_does_not() {
    assert_all(&reads());
}

fn unwritten_values() -> Vec<Row> {
    // `ENOMEM` is what a memory limit makes of it, `EBADF` a body that has closed every descriptor it found.
    rows_of(&[Op::Write], &[Errno::ENOMEM, Errno::EBADF, Errno::EIO], ALWAYS, &[Value, Panic], Expect::Lost(""))
}

#[test]
fn a_value_that_cannot_be_written_is_lost() {
    assert_all(&unwritten_values());
}

fn unwritten_crashes() -> Vec<Row> {
    rows_of(&[Op::Write], &[Errno::ENOMEM, Errno::EBADF], ALWAYS, &[Abort, Killed, ExitUnseen, Late], Expect::True)
}

#[test]
fn a_crash_is_told_by_the_status_when_its_record_cannot_be_written() {
    assert_all(&unwritten_crashes());
}

fn interrupted_writes() -> Vec<Row> {
    rows_of(&[Op::Write], &[Errno::EINTR], 3, &[Value, Panic, Exit], Expect::True)
}

#[test]
fn a_write_that_is_interrupted_goes_on() {
    assert_all(&interrupted_writes());
}

fn statuses_taken() -> Vec<Row> {
    // What the child says of itself needs no status; an end without a word does.
    let mut rows = rows_of(&[Op::Wait], &[Errno::ECHILD], ALWAYS, &[Value, Late, Panic, Exit, Abort], Expect::True);
    rows.extend(rows_of(&[Op::Wait], &[Errno::ECHILD], ALWAYS, &[Killed, ExitUnseen], Expect::TrueOrUnknown));
    // A kernel before 5.4 does not wait by descriptor; then it is done by number.
    for errno in [Errno::EINVAL, Errno::ENOSYS, Errno::EPERM] {
        rows.extend(
            [Value, Killed, ExitUnseen].map(|body| row_of(Host::Plain, body, &[(Op::Wait, errno, 1)], Expect::True)),
        );
    }
    rows
}

#[test]
fn a_status_that_cannot_be_had_is_asked_for_otherwise_or_said_to_be_unknown() {
    assert_all(&statuses_taken());
}

fn interrupted_waits() -> Vec<Row> {
    rows_of(&[Op::Wait], &[Errno::EINTR], 3, &[Killed, ExitUnseen, Late], Expect::True)
}

#[test]
fn a_wait_that_is_interrupted_goes_on() {
    assert_all(&interrupted_waits());
}

fn childless_hosts() -> Vec<Row> {
    let mut rows = BODIES.map(|body| row_of(Host::Childless, body, &[], Expect::TrueIfTold)).to_vec();
    let no_pidfd = [(Op::PidfdOpen, Errno::ENOSYS, ALWAYS)];
    for body in BODIES {
        let expect = match body {
            Killed | ExitUnseen => Expect::Lost("exit status"),
            _ => Expect::True,
        };
        rows.push(row_of(Host::Childless, body, &no_pidfd, expect));
    }
    rows
}

#[test]
fn a_host_that_ignores_its_children_still_gets_the_truth() {
    assert_all(&childless_hosts());
}

fn reaper_threads() -> Vec<Row> {
    // In a threaded host the first thread is the one that tries the stdout lock.
    let hosts = [Host::Plain, Host::Threaded];
    let row = |host, body, times| row_of(host, body, &[(Op::SpawnThread, Errno::EAGAIN, times)], Expect::True);
    let mut rows: Vec<_> = hosts.iter().flat_map(|&host| BODIES.map(|body| row(host, body, 1))).collect();
    rows.push(row(Host::Plain, SlowToDie, ALWAYS));
    rows
}

#[test]
fn without_a_thread_corpses_are_left_to_the_next_call() {
    assert_all(&reaper_threads());
}

fn full_hosts() -> Vec<Row> {
    let mut rows = Vec::new();
    for body in [Value, Late] {
        rows.extend([0, 1].map(|left| row_of(Host::Full(left), body, &[], Expect::NotStarted("pipe: "))));
    }
    // With two there is a pipe but no pidfd, and after the fork one is free again.
    for left in [2, 3, 4] {
        rows.extend(
            [Value, Abort, Killed, Panic, Exit, ExitUnseen]
                .map(|body| row_of(Host::Full(left), body, &[], Expect::True)),
        );
    }
    rows
}

#[test]
fn a_host_without_descriptors_is_told_so_or_served() {
    assert_all(&full_hosts());
}

fn full_hosts_with_a_token() -> Vec<Row> {
    let expected =
        [Expect::NotStarted("eventfd: "), Expect::NotStarted("pipe: "), Expect::NotStarted("pipe: "), Expect::True];
    (0..).zip(expected).map(|(left, expect)| row_of(Host::Full(left), WithToken, &[], expect)).collect()
}

#[test]
fn a_token_that_cannot_be_made_names_its_step() {
    assert_all(&full_hosts_with_a_token());
}

fn full_hosts_with_descendants() -> Vec<Row> {
    [2, 3, 4].map(|left| row_of(Host::Full(left), Late, &[], Expect::True)).to_vec()
}

#[test]
fn a_late_tree_is_killed_without_a_free_descriptor() {
    assert_all(&full_hosts_with_descendants());
}

#[test]
fn a_value_that_is_there_at_the_deadline_is_seen_whatever_poll_has_told() {
    // As when the host is stopped between the two: poll has seen nothing, and then the clock says that time is over.
    let interrupted = script(Op::Poll, Errno::EINTR, u32::MAX);
    let value = Call::new(Duration::from_secs(1)).run(|| 42);
    drop(interrupted);
    assert_eq!(value.unwrap(), 42);
}
