//! Dead children whose end nobody needs to wait for: every one is handed to somebody who reaps it.
//!
//! A call returns when its value is whole, while the child still gives its memory back; that takes as long as the fork
//! did, and tens of milliseconds for a large one. The corpse is swept by the next call, or by a thread that lives only
//! while there are corpses.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::worker::Corpse;
use crate::sys::thread::{self, Chore};

#[derive(Default)]
pub(crate) struct Reaper(Mutex<List>);

#[derive(Default)]
struct List {
    corpses: Vec<Corpse>,
    thread_runs: bool,
}

impl Reaper {
    /// Takes over a child that is dead or about to die.
    pub(crate) fn bury(&'static self, corpse: Corpse) {
        let mut list = self.lock();
        list.corpses.push(corpse);
        if !list.thread_runs {
            // Without a thread the next call sweeps.
            list.thread_runs = thread::spawn(self).is_ok();
        }
    }

    /// Reaps whatever is dead by now; tells whether anything is left.
    pub(crate) fn sweep(&'static self) -> bool {
        let mut list = self.lock();
        list.corpses.retain_mut(|corpse| !corpse.reap());
        if !list.corpses.is_empty() && !list.thread_runs {
            list.thread_runs = thread::spawn(self).is_ok();
        }
        !list.corpses.is_empty()
    }

    /// How many threads of ours are in this process: they never hold a lock that a child could need.
    pub(crate) fn threads(&self) -> usize {
        usize::from(self.lock().thread_runs)
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        // Nothing in here panics half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chore for Reaper {
    /// Sweeps in growing steps until nothing is left: most corpses are ready at once, and a large one takes its time.
    fn run(&'static self) {
        let mut pause = Duration::from_micros(100);
        loop {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
            if !self.sweep() {
                let mut list = self.lock();
                if list.corpses.is_empty() {
                    list.thread_runs = false;
                    return;
                }
            }
        }
    }
}
