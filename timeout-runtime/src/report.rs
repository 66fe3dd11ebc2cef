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
pub(crate) use modules::Modules;
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

/// What a child used before it ended, together with those of its own children that it waited for.
///
/// It is measured by the kernel (getrusage(2)). A late child is asked for it just before the kill; of one that does not
/// answer it is read from `/proc`, where the times are rounded down to hundredths of a second and the peak is the child's
/// own.
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
    /// What travels: microseconds, microseconds and bytes, as precise as the kernel is.
    pub(crate) fn to_numbers(self) -> [u64; 3] {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        [micros(self.user), micros(self.system), self.peak_memory]
    }

    pub(crate) fn from_numbers([user, system, peak_memory]: [u64; 3]) -> Usage {
        Usage { user: Duration::from_micros(user), system: Duration::from_micros(system), peak_memory }
    }

    /// Adds what others used before they ended: times add up, of peaks the higher one counts.
    pub(crate) fn with(self, others: Usage) -> Usage {
        Usage {
            user: self.user + others.user,
            system: self.system + others.system,
            peak_memory: self.peak_memory.max(others.peak_memory),
        }
    }

    /// What was used after `before`: times are less by what it says, and the peak is what it is.
    pub(crate) fn since(self, before: Usage) -> Usage {
        Usage {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            peak_memory: self.peak_memory,
        }
    }

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

    /// Gives the most memory that was resident at once in one process, in bytes (`ru_maxrss`, getrusage(2)). Under the
    /// start method `fork` it includes what the child shared with its caller.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        self.peak_memory
    }
}
