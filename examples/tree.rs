//! A late body takes everything it started with it: background children, children in a session of their own, and
//! those that no SIGTERM would end.
//!
//! `cargo run --example tree`

use std::{
    fs,
    io::{self, BufRead, BufReader, PipeWriter, Write},
    process::{Command, Stdio},
    time::Instant,
};

use timeout_runtime::timeout;

const SCRIPT: &str = r#"
    sleep 60 &
    echo "$! in the background"
    setsid sleep 60 &
    echo "$! in a session of its own"
    sh -c 'trap "" TERM; while :; do sleep 60; done' &
    echo "$! deaf to SIGTERM"
    sh -c 'setsid sleep 60 & echo "$! orphaned, like a daemon"'
    echo "$$ the shell itself"
    wait
"#;

/// Runs the script, tells its caller through `out` of every process that it starts, and waits for them all.
#[timeout(0.5)]
fn run_script(mut out: PipeWriter) {
    let mut shell = Command::new("sh").args(["-c", SCRIPT]).stdout(Stdio::piped()).spawn().expect("a shell");
    for line in BufReader::new(shell.stdout.take().expect("its output")).lines().map_while(Result::ok) {
        let (pid, what) = line.split_once(' ').expect("a number and a description");
        println!("{pid:>8}  {:7}  {what}", state(pid));
        writeln!(out, "{pid}").expect("the caller's pipe");
    }
    shell.wait().expect("the shell's end");
}

/// Whether a process runs. One that is dead and not yet buried by its parent does not.
fn state(pid: &str) -> &'static str {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    match stat.rsplit_once(") ") {
        Some((_, fields)) if !fields.starts_with(['Z', 'X']) => "running",
        _ => "gone",
    }
}

fn main() -> io::Result<()> {
    let (pids, out) = io::pipe()?;
    let begin = Instant::now();
    let result = run_script(out);
    let elapsed = begin.elapsed().as_millis();
    let after = BufReader::new(pids).lines().map(|pid| pid.map(|pid| (state(&pid), pid)));
    let after = after.collect::<io::Result<Vec<_>>>()?;

    let late = result.expect_err("the script waits for a minute");
    println!("{late}; after {elapsed} ms:");
    for (state, pid) in &after {
        println!("{pid:>8}  {state}");
    }
    assert!(after.len() == 5 && after.iter().all(|(state, _)| *state == "gone"), "all five are gone");
    Ok(())
}
