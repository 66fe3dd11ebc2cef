//! Bytes that arrive on a socket, the first of them already: read to where they will stay, with no stop in between.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A number of bytes, some of which are here and the others on their way.
#[derive(Default)]
pub struct Inflow {
    here: Vec<u8>,
    /// How many of them have been taken.
    taken: usize,
    line: Option<OwnedFd>,
    left: u64,
}

impl Inflow {
    /// `left` bytes, which begin with those `here` from `taken` on and go on in `line`.
    pub(crate) fn new(here: Vec<u8>, taken: usize, line: Option<OwnedFd>, left: u64) -> Inflow {
        Inflow { here, taken, line, left }
    }

    /// How many bytes have not been taken.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// What is to be read next: the rest of what is here, or where more comes from.
    pub(crate) fn next(&self) -> Next<'_> {
        match &self.here[self.taken..] {
            [] => Next::Line(self.line.as_ref().map(AsFd::as_fd)),
            here => Next::Here(&here[..here.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))]),
        }
    }

    /// Says that so many bytes have been taken.
    pub(crate) fn advance(&mut self, count: usize) {
        // What is here is taken first; behind it, only the count matters.
        self.taken = (self.taken + count).min(self.here.len());
        self.left = self.left.saturating_sub(count as u64);
    }
}

/// Where the next bytes are.
pub(crate) enum Next<'a> {
    Here(&'a [u8]),
    Line(Option<BorrowedFd<'a>>),
}
