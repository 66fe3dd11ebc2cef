//! How far a child has come, in memory that it shares with its caller: told without a system call, read after a kill.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::sys::shared;

/// How far a child has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It is being set up; the body has not begun.
    Setup = 1,
    /// It replaces the panic hook, for which it needs a lock that a panicking thread of the host may have held.
    Hook = 2,
    /// The hooks of `on_child` run.
    Hooks = 3,
    /// The body runs.
    Body = 4,
    /// The body has returned, and its value is being encoded.
    Encoding = 5,
    /// The value is being decoded once, to see that it can be.
    Decoding = 6,
    /// The value is on its way.
    Sending = 7,
    /// Its last word could not be written: how it ends is not the body's doing.
    Unsent = 8,
}

/// The progress of all children of one process.
pub(crate) struct Stages {
    cells: &'static [AtomicU8],
    /// Where to look for a free cell first.
    next: AtomicUsize,
}

/// One child's cell; free again when dropped in the caller.
pub(crate) struct StageCell(&'static AtomicU8);

const FREE: u8 = 0;

impl Stages {
    /// Progress cells for this process's children; none if the kernel gives no page.
    pub(crate) fn new() -> Stages {
        Stages { cells: shared::page().unwrap_or(&[]), next: AtomicUsize::new(0) }
    }

    /// Takes a cell; `None` when there is none, and then a child's progress is not known.
    pub(crate) fn take(&self) -> Option<StageCell> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.cells.len()).map(|step| &self.cells[first.wrapping_add(step) % self.cells.len()]).find_map(|cell| {
            cell.compare_exchange(FREE, Stage::Setup as u8, Ordering::Relaxed, Ordering::Relaxed).ok()?;
            Some(StageCell(cell))
        })
    }
}

impl StageCell {
    pub(crate) fn set(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Release);
    }

    /// Reads the stage; the earliest that fits if a corrupted child has written nonsense.
    pub(crate) fn get(&self) -> Stage {
        let number = self.0.load(Ordering::Acquire);
        [Stage::Setup, Stage::Hook, Stage::Hooks, Stage::Encoding, Stage::Decoding, Stage::Sending, Stage::Unsent]
            .into_iter()
            .find(|stage| *stage as u8 == number)
            .unwrap_or(Stage::Body)
    }
}

impl Drop for StageCell {
    fn drop(&mut self) {
        self.0.store(FREE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_nobody_elses_until_it_is_dropped() {
        let stages = Stages::new();
        let cells: Vec<_> = std::iter::from_fn(|| stages.take()).collect();
        assert!(cells.len() >= 4096);
        cells[7].set(Stage::Sending);
        assert_eq!(cells[7].get(), Stage::Sending);
        assert_eq!(cells[8].get(), Stage::Setup);
        drop(cells);
        assert!(stages.take().is_some());
    }
}
