//! Runs any command line with a limit, like timeout(1), and leaves nothing of it behind.
//!
//! `cargo run --example command -- 0.5 sleep 10`

use std::{
    env,
    ffi::{OsStr, OsString},
    io::ErrorKind,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode},
    thread,
};

use nix::sys::signal::{SigSet, Signal, raise};
use signal_hook::{consts::SIGTERM, iterator::Signals};
use timeout_runtime::{Call, Cancel};

const USAGE: &str = "\
usage: command SECONDS PROGRAM [ARGUMENT]...

Runs PROGRAM. After SECONDS (2, 0.5, inf for never) it is ended with all that it has started: by SIGTERM, and a
second later by SIGKILL. The exit status is that of PROGRAM, or 124: it was late, 125: nothing was run,
126: PROGRAM cannot be run, 127: PROGRAM was not found, 128+n: signal n ended it.";

/// Runs in the child: starts the program, waits for its end and gives the exit status for it, or nothing if late.
fn run(program: &OsStr, arguments: impl Iterator<Item = OsString>, blocked: SigSet) -> Option<u8> {
    // This process is asked to end together with the program, and waits until that has done so.
    let mut asked_to_end = Signals::new([SIGTERM]).expect("a handler of SIGTERM");
    // The program would inherit what is blocked.
    blocked.thread_unblock().expect("a signal mask");

    match Command::new(program).args(arguments).status() {
        Ok(_) if asked_to_end.pending().next().is_some() => None,
        // Linux has no codes above 255 and no signals above 64.
        Ok(status) => status.code().or_else(|| Some(128 + status.signal()?))?.try_into().ok(),
        Err(error) => {
            eprintln!("command: {}: {error}", program.display());
            Some(if error.kind() == ErrorKind::NotFound { 127 } else { 126 })
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(limit), Some(program)) = (arguments.next(), arguments.next()) else { return usage("too few arguments") };
    let seconds = limit.to_str().and_then(|limit| limit.parse::<f64>().ok()).filter(|seconds| *seconds >= 0.0);
    let Some(seconds) = seconds else { return usage(&format!("{}: not a number of seconds", limit.display())) };

    // A call is out of reach of the terminal, so ^C reaches this process alone. It ends the call, and then this process.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().expect("a signal mask");
    let cancel = Cancel::new();
    let canceller = cancel.clone();
    let catcher = thread::spawn(move || signals.wait().inspect(|_| canceller.cancel()));
    let result = Call::new(seconds).grace(1).cancel(&cancel).run(|| run(&program, arguments, signals));
    if cancel.is_cancelled()
        && let Ok(Ok(signal)) = catcher.join()
    {
        // As if it had not been caught, so that a shell's loop ends too; it stays without effect where it is ignored.
        let _ = raise(signal).and_then(|()| signals.thread_unblock());
        return ExitCode::from(128 + signal as u8);
    }

    ExitCode::from(match result {
        Ok(Some(code)) => code,
        Err(error) if !error.is_late() => {
            eprintln!("command: {error}");
            125
        }
        Ok(None) | Err(_) => {
            eprintln!("command: {} was not done within {seconds} s", program.display());
            124
        }
    })
}

fn usage(wrong: &str) -> ExitCode {
    eprintln!("command: {wrong}\n{USAGE}");
    ExitCode::from(125)
}
