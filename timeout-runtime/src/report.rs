//! What is known of a child besides its value: where it was, what it used.

use std::{fmt, time::Duration};

use nix::libc;

mod activity;
mod frame;
mod modules;
mod symbols;
mod trace;

pub(crate) use activity::{Activity, Doing, Futex, Rounded};
pub use frame::Frame;
pub(crate) use frame::View;
pub use trace::{Backtrace, Stack};
pub(crate) use trace::{Foreign, RawStack};

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    file: String,
    line: u32,
    column: u32,
}

impl Place {
    pub(crate) fn new(file: String, line: u32, column: u32) -> Place {
        Place { file, line, column }
    }

    /// Gives the path of the file, as the compiler saw it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Gives the line, counted from 1.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Gives the column, counted from 1.
    #[must_use]
    pub fn column(&self) -> u32 {
        self.column
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What a child used before it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) peak_memory: u64,
}

impl From<&libc::rusage> for Usage {
    fn from(usage: &libc::rusage) -> Usage {
        // The kernel gives no negative times or sizes.
        let duration = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
        };
        Usage {
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            peak_memory: usage.ru_maxrss.unsigned_abs() << 10,
        }
    }
}

impl Usage {
    /// Gives the CPU time spent in the program itself.
    #[must_use]
    pub fn user(&self) -> Duration {
        self.user
    }

    /// Gives the CPU time spent in the kernel on the program's behalf.
    #[must_use]
    pub fn system(&self) -> Duration {
        self.system
    }

    /// Gives the CPU time in all.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }

    /// Gives the most memory that was resident at once, in bytes (`ru_maxrss`, getrusage(2)). Under the start method
    /// `fork` it includes what the child shared with its caller.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        self.peak_memory
    }
}
