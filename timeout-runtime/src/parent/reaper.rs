//! Dead children whose end nobody needs to wait for: every one is handed to somebody who reaps it.
//!
//! A call returns when its value is whole, while the child still gives its memory back; that takes as long as the fork
//! did, and tens of milliseconds for a large one. The corpse is left to an attendant: a thread that stays a little longer
//! than there are corpses, as starting one for each of a row of calls would cost more than the rest of what a call does
//! for its safety. Where there are many, or no attendant, the next call sweeps.
//!
//! The attendant is a bare thread, so all here is made of atomics: no lock, no allocation.

use std::{
    os::fd::{IntoRawFd, OwnedFd},
    sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicUsize, Ordering},
    time::Duration,
};

use nix::unistd::Pid;

use crate::{
    sys::{
        bare::{self, Bare},
        thread::Chore,
    },
    wire::stage::{StageCell, Stages},
};

/// A child that is dead or dying and waits to be reaped. Its progress cell stays taken until then, as it may still write.
pub(crate) struct Corpse {
    pub(crate) pid: Pid,
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) stage: Option<StageCell>,
}

/// Everybody who waits to be reaped.
#[repr(C)]
pub(crate) struct Reaper {
    taken: AtomicUsize,
    is_attended: AtomicBool,
    stages: Stages,
    /// Two, as the last attendant may still be on its way out when the next is needed.
    places: [Bare; 2],
    graves: [Grave; 256],
}

/// Room for one corpse.
struct Grave {
    state: AtomicU8,
    pid: AtomicI32,
    pidfd: AtomicI32,
    stage: AtomicU32,
}

const FREE: u8 = 0;
/// Somebody fills it, or looks after who is in it.
const BUSY: u8 = 1;
const FULL: u8 = 2;

/// In place of a descriptor or a number of a cell.
const NONE: i32 = -1;
const NO_STAGE: u32 = u32::MAX;

/// The time between two looks at the corpses.
const ROUND: Duration = Duration::from_millis(2);

/// So many corpses are not left to the attendant alone.
const CROWD: usize = 16;

/// How long an attendant without work stays.
const LINGER: Duration = Duration::from_millis(60);

impl Reaper {
    /// A reaper of children whose progress is in `stages`.
    pub(crate) fn new(stages: Stages) -> Reaper {
        let grave = || Grave {
            state: AtomicU8::new(FREE),
            pid: AtomicI32::new(0),
            pidfd: AtomicI32::new(NONE),
            stage: AtomicU32::new(NO_STAGE),
        };
        Reaper {
            stages,
            graves: std::array::from_fn(|_| grave()),
            taken: AtomicUsize::new(0),
            is_attended: AtomicBool::new(false),
            places: [Bare::default(), Bare::default()],
        }
    }

    /// Takes over a child that is dead or about to die.
    pub(crate) fn bury(&'static self, corpse: Corpse) {
        // With every grave full, the call had better wait for one of so many to be gone.
        let grave = loop {
            match self.graves.iter().find(|grave| grave.becomes(FREE, BUSY)) {
                Some(grave) => break grave,
                None if self.sweep() => std::thread::sleep(Duration::from_micros(100)),
                None => {}
            }
        };
        grave.pid.store(corpse.pid.as_raw(), Ordering::Relaxed);
        grave.pidfd.store(corpse.pidfd.map_or(NONE, IntoRawFd::into_raw_fd), Ordering::Relaxed);
        grave.stage.store(corpse.stage.map_or(NO_STAGE, StageCell::into_number), Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::SeqCst);
        grave.state.store(FULL, Ordering::SeqCst);
        self.call_attendant();
    }

    /// Reaps whatever is dead by now, where the attendant has too many to wait for, or none has come.
    pub(crate) fn relieve(&'static self) {
        if self.taken.load(Ordering::SeqCst) >= CROWD || !self.is_attended.load(Ordering::SeqCst) {
            self.sweep();
        }
    }

    /// Reaps whatever is dead by now, as its descriptors or numbers may be what is missing; tells whether that was any.
    pub(crate) fn makes_room(&'static self) -> bool {
        let before = self.taken.load(Ordering::SeqCst);
        self.sweep();
        self.taken.load(Ordering::SeqCst) < before
    }

    /// Reaps whatever is dead by now; tells whether anything is left.
    fn sweep(&'static self) -> bool {
        if self.taken.load(Ordering::SeqCst) == 0 {
            return false;
        }
        self.look();
        let any_is_left = self.taken.load(Ordering::SeqCst) > 0;
        if any_is_left {
            self.call_attendant();
        }
        any_is_left
    }

    /// How many threads of ours are in this process: they never hold a lock that a child could need.
    pub(crate) fn threads(&self) -> usize {
        self.places.iter().filter(|place| !place.is_free()).count()
    }

    /// Has an attendant come, if there is none: for a corpse, or for one that will soon be there, as a thread takes its time
    /// to start. Without an attendant the next call sweeps.
    pub(crate) fn call_attendant(&'static self) {
        if self.is_attended.swap(true, Ordering::SeqCst) {
            return;
        }
        let place = self.places.iter().find(|place| place.is_free());
        if place.is_none_or(|place| place.start(self).is_err()) {
            self.is_attended.store(false, Ordering::SeqCst);
        }
    }

    /// Reaps whatever is dead by now.
    fn look(&self) {
        for grave in &self.graves {
            if grave.state.load(Ordering::SeqCst) == FULL && grave.becomes(FULL, BUSY) {
                let is_gone = grave.reap(&self.stages);
                grave.state.store(if is_gone { FREE } else { FULL }, Ordering::SeqCst);
                self.taken.fetch_sub(usize::from(is_gone), Ordering::SeqCst);
            }
        }
    }
}

impl Grave {
    fn becomes(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Reaps the child if it is dead; tells whether it is gone.
    fn reap(&self, stages: &Stages) -> bool {
        let pid = Pid::from_raw(self.pid.load(Ordering::Relaxed));
        let pidfd = Some(self.pidfd.load(Ordering::Relaxed)).filter(|fd| *fd != NONE);
        let is_gone = bare::reap(pid, pidfd);
        if is_gone {
            pidfd.into_iter().for_each(bare::close);
            stages.free(self.stage.load(Ordering::Relaxed));
        }
        is_gone
    }
}

impl Chore for Reaper {
    /// Never looks at once: it would take the core from a caller that is about to return.
    fn run(&'static self) {
        // By the clock: on a busy machine a sleep takes longer than asked for.
        let mut busy_at = bare::now();
        loop {
            bare::sleep(ROUND);
            if self.taken.load(Ordering::SeqCst) > 0 {
                busy_at = bare::now();
            }
            self.look();
            if bare::now().saturating_sub(busy_at) >= LINGER {
                self.is_attended.store(false, Ordering::SeqCst);
                // Whoever buried before that counted on us, and whoever does after it calls the next one.
                let is_over = self.taken.load(Ordering::SeqCst) == 0 || self.is_attended.swap(true, Ordering::SeqCst);
                if is_over {
                    return;
                }
                busy_at = bare::now();
            }
        }
    }
}
