//! Scripted failures of kernel calls, for tests only: outside them every check is an empty inline function.
//!
//! A script belongs to the thread that set it, so tests that run at the same time do not see each other's; a forked
//! child inherits the script of the thread that forked, so its own calls can be made to fail too.

/// A kernel call that a test can make fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Pipe,
    Mmap,
    Terminal,
    Fork,
    PidfdOpen,
    PidfdSignal,
    Setsid,
    Setpgid,
    DeathSignal,
    Subreaper,
    Lifeline,
    Poll,
    Read,
    Write,
    Wait,
    SpawnThread,
    SetLimit,
    CpuTimer,
    Status,
}

/// Fails with the errno that the current test scripted for `op`, if any.
#[cfg(not(test))]
#[inline(always)]
#[expect(clippy::unnecessary_wraps, reason = "the test build's twin fails")]
pub(crate) fn check(_op: Op) -> nix::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use script::check;
#[cfg(test)]
pub(crate) use script::script;

#[cfg(test)]
mod script {
    use std::cell::RefCell;

    use nix::{Result, errno::Errno};

    use super::Op;

    /// One scripted failure: `op` fails with `errno` from now on, `times` times.
    struct Line {
        op: Op,
        errno: Errno,
        times: u32,
    }

    thread_local! {
        static SCRIPT: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    }

    /// Takes the script back when the test's scope ends, also by a panic.
    pub(crate) struct Scripted;

    impl Drop for Scripted {
        fn drop(&mut self) {
            SCRIPT.with_borrow_mut(Vec::clear);
        }
    }

    /// Makes the calling thread's next `times` uses of `op` fail with `errno`, until the returned value is dropped.
    pub(crate) fn script(op: Op, errno: Errno, times: u32) -> Scripted {
        SCRIPT.with_borrow_mut(|lines| lines.push(Line { op, errno, times }));
        Scripted
    }

    pub(crate) fn check(op: Op) -> Result<()> {
        // `exit` destroys thread-local values before it runs its handlers, which still write.
        let scripted = SCRIPT.try_with(|script| {
            let mut script = script.borrow_mut();
            let line = script.iter_mut().find(|line| line.op == op && line.times > 0)?;
            line.times -= 1;
            Some(line.errno)
        });
        scripted.ok().flatten().map_or(Ok(()), Err)
    }
}
