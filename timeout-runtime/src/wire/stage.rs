//! How far a child has come, in memory that it shares with its caller: told without a system call, read after a kill.

use std::{
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::sys::shared::{self, Pages};

/// How far a child has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It is being set up; the body has not begun.
    Setup = 1,
    /// It replaces the panic hook, for which it needs a lock that a panicking thread of the host may have held.
    Hook = 2,
    /// The hooks of `on_child` run.
    Hooks = 3,
    /// The arguments that have come to a worker are being decoded.
    Arguments = 4,
    /// The body runs.
    Body = 5,
    /// The body has returned, and its value is being encoded.
    Encoding = 6,
    /// The value is being decoded once, to see that it can be.
    Decoding = 7,
    /// The value is on its way.
    Sending = 8,
    /// Its last word could not be written: how it ends is not the body's doing.
    Unsent = 9,
}

/// The progress of all children of one process.
#[derive(Clone, Copy)]
pub(crate) struct Stages(&'static [AtomicU8]);

/// The progress of the workers of a fork server, each in a page of its own.
#[derive(Clone)]
pub(crate) struct ServedStages(Option<Arc<Pages>>);

/// One child's cell; free again when dropped in the caller.
pub(crate) struct StageCell(Place);

enum Place {
    Taken {
        cell: &'static AtomicU8,
        number: u32,
    },
    /// Whoever gave it out frees it.
    Lent {
        pages: Arc<Pages>,
        number: u32,
    },
}

/// Nobody has it; where another process gives out the cells, the child waits for somebody who does.
const FREE: u8 = 0;

impl Stages {
    /// Progress cells for this process's children; none if the kernel gives no page.
    pub(crate) fn new() -> Stages {
        Stages(shared::page().unwrap_or(&[]))
    }

    /// Takes a cell; `None` when there is none, and then a child's progress is not known.
    pub(crate) fn take(self) -> Option<StageCell> {
        self.0.iter().zip(0..).find_map(|(cell, number)| {
            cell.compare_exchange(FREE, Stage::Setup as u8, Ordering::Relaxed, Ordering::Relaxed).ok()?;
            Some(StageCell(Place::Taken { cell, number }))
        })
    }

    /// Frees the cell of this number, if there is one. Never panics.
    pub(crate) fn free(self, number: u32) {
        if let Some(cell) = usize::try_from(number).ok().and_then(|number| self.0.get(number)) {
            cell.store(FREE, Ordering::Relaxed);
        }
    }
}

impl ServedStages {
    /// Progress cells in a file that [`Pages`] made; none if it cannot be mapped.
    pub(crate) fn in_file(file: BorrowedFd<'_>) -> ServedStages {
        ServedStages(Pages::of(file).ok().map(Arc::new))
    }

    /// Looks at the cell of this number, which the server gives out.
    pub(crate) fn at(&self, number: u32) -> Option<StageCell> {
        let pages = self.0.as_ref().filter(|pages| pages.byte(number).is_some())?;
        Some(StageCell(Place::Lent { pages: Arc::clone(pages), number }))
    }

    /// Leaves this process without the cells of others. Where that is refused it must not run a body.
    pub(crate) fn keep_only(&self, number: u32) -> nix::Result<()> {
        self.0.as_ref().map_or(Ok(()), |pages| pages.keep_only(number))
    }
}

impl StageCell {
    fn cell(&self) -> &AtomicU8 {
        // A number is lent only if there is a cell.
        static NOWHERE: AtomicU8 = AtomicU8::new(FREE);
        match &self.0 {
            Place::Taken { cell, .. } => cell,
            Place::Lent { pages, number } => pages.byte(*number).unwrap_or(&NOWHERE),
        }
    }

    /// Says that the child waits for a call.
    pub(crate) fn offer(&self) {
        self.cell().store(FREE, Ordering::Release);
    }

    /// Whether no call has taken the child so far: whoever does sets the first stage.
    pub(crate) fn is_on_offer(&self) -> bool {
        self.cell().load(Ordering::Acquire) == FREE
    }

    /// Has the cell's page there before it is needed, and leaves what it says.
    pub(crate) fn touch(&self) {
        // Whatever is there, the processor takes the page for writing.
        let _ = self.cell().compare_exchange(FREE, FREE, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, stage: Stage) {
        self.cell().store(stage as u8, Ordering::Release);
    }

    /// Gives the cell's number and leaves it taken, for [`Stages::free`].
    pub(crate) fn into_number(self) -> u32 {
        let (Place::Taken { number, .. } | Place::Lent { number, .. }) = self.0;
        std::mem::forget(self);
        number
    }

    /// Reads the stage; the earliest that fits if a corrupted child has written nonsense.
    pub(crate) fn get(&self) -> Stage {
        let number = self.cell().load(Ordering::Acquire);
        use Stage::{Arguments, Body, Decoding, Encoding, Hook, Hooks, Sending, Setup, Unsent};
        [Setup, Hook, Hooks, Arguments, Encoding, Decoding, Sending, Unsent]
            .into_iter()
            .find(|stage| *stage as u8 == number)
            .unwrap_or(Body)
    }
}

impl Drop for StageCell {
    fn drop(&mut self) {
        if let Place::Taken { cell, .. } = &self.0 {
            cell.store(FREE, Ordering::Relaxed);
        }
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

    #[test]
    fn a_child_is_on_offer_until_it_is_taken() {
        let cell = Stages::new().take().unwrap();
        cell.offer();
        cell.touch();
        assert!(cell.is_on_offer());
        cell.set(Stage::Setup);
        cell.touch();
        assert!(!cell.is_on_offer());
        assert_eq!(cell.get(), Stage::Setup);
    }
}
