//! What the runtime keeps for the process it lives in. A forked child starts with none of it.

use std::{hash::RandomState, sync::atomic::AtomicU64};

use nix::unistd::{Pid, getpid};

use super::{flights::Flights, reaper::Reaper, stdio::Streams, terminal::Terminal, zygote::Zygotes};
use crate::{
    report::Modules,
    sys::{
        crash,
        futex::Gate,
        leaked::Leaked,
        prefault::Places,
        process::{self, AloneFlag},
        procfs, thread, unwind,
    },
    wire::{stage::Stages, trace::Sheets},
};

/// The runtime's part of one process.
///
/// What every call writes to comes first, and begins at a page: after a fork, each page written to is copied once.
#[repr(C, align(4096))]
pub(crate) struct Host {
    pub(crate) pid: Pid,
    /// How many calls have been made.
    pub(crate) calls: AtomicU64,
    /// Makes numbers of them that nobody can guess.
    pub(crate) tokens: RandomState,
    /// Held from the making of a pipe to the closing of its writing end, across the fork: a sibling that is forked in
    /// between would inherit that end.
    pub(crate) gate: Gate,
    pub(crate) flights: Flights,
    pub(crate) stages: Stages,
    pub(crate) sheets: Sheets,
    pub(crate) reaper: Reaper,
    pub(crate) terminal: Terminal,
    pub(crate) streams: Streams,
    pub(crate) zygotes: Zygotes,
    places: Leaked<Places>,
    alone: AloneFlag,
}

static HOST: Leaked<Host> = Leaked::new();

impl Host {
    /// Gives the state of this process, made on first use and after a fork that was not ours.
    pub(crate) fn current() -> &'static Host {
        let pid = getpid();
        HOST.get_or_replace(
            |host| host.pid == pid,
            || {
                crash::prepare();
                unwind::rehearse();
                let stages = Stages::new();
                Host {
                    pid,
                    calls: AtomicU64::new(0),
                    tokens: RandomState::new(),
                    gate: Gate::default(),
                    flights: Flights::default(),
                    stages,
                    sheets: Sheets::new(),
                    reaper: Reaper::new(stages),
                    terminal: Terminal::new(),
                    streams: Streams::default(),
                    zygotes: Zygotes::default(),
                    places: Leaked::new(),
                    alone: AloneFlag::find(),
                }
            },
        )
    }

    /// What a late child is given ahead, found for the first.
    pub(crate) fn places(&self) -> &'static Places {
        // By the kernel: the linker's list has a lock, which in a forked process may be held for ever.
        let find = || Places::find(Modules::parse(&procfs::maps(self.pid)).read_only());
        self.places.get_or_replace(|_| true, find)
    }

    /// How many threads this process has besides ours, which hold no lock that a child could need.
    pub(crate) fn threads(&self) -> usize {
        if self.alone.is_set() {
            return 1;
        }
        process::thread_count().saturating_sub(thread::count() + self.reaper.threads()).max(1)
    }

    /// Starts a forked child without any of it.
    #[inline]
    pub(crate) fn forget() {
        HOST.forget();
    }
}
