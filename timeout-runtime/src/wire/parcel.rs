//! The arguments of one call on their way to a worker of the fork server: one after the other, each with its length before it.
//!
//! What is large is not copied: bytes that the call owns are moved in here, and those that it borrows are sent from where
//! they lie.

use std::{borrow::Cow, sync::Arc};

use nix::errno::Errno;
use serde::de::DeserializeOwned;

use super::value::{self, Landing, Plain};
use crate::sys::{
    inflow::{Inflow, Next},
    loan::{self, Loan},
    pipe::PlainVec,
};

/// From this size on, bytes are not copied.
const LARGE: usize = 16 << 10;

/// Arguments that are being packed. What is borrowed for `'p` stays where it is.
#[derive(Default)]
pub struct Packing<'p>(Vec<Item<'p>>);

enum Item<'p> {
    Bytes(Vec<u8>),
    Plain(Plain),
    Borrowed(&'p [u8]),
}

impl<'p> Packing<'p> {
    /// Puts one argument behind what is there.
    pub(crate) fn put(&mut self, argument: Cow<'p, [u8]>) -> Result<(), String> {
        match argument {
            small if small.len() < LARGE => self.copy(&small),
            Cow::Borrowed(bytes) => self.append(Item::Borrowed(bytes), bytes.len()),
            Cow::Owned(bytes) => {
                let length = bytes.len();
                self.append(Item::Bytes(bytes), length)
            }
        }
    }

    /// The same for plain numbers that were moved out of an argument.
    pub(crate) fn put_plain(&mut self, plain: Plain) -> Result<(), String> {
        match plain.bytes().len() {
            length if length < LARGE => self.copy(plain.bytes()),
            length => self.append(Item::Plain(plain), length),
        }
    }

    /// The same with a copy, for what is borrowed for this moment only.
    pub(crate) fn copy(&mut self, argument: &[u8]) -> Result<(), String> {
        let bytes = self.buffer(argument.len())?;
        bytes.extend_from_slice(&(argument.len() as u64).to_le_bytes());
        bytes.extend_from_slice(argument);
        Ok(())
    }

    fn append(&mut self, item: Item<'p>, length: usize) -> Result<(), String> {
        // A length in memory fits into 64 bits.
        self.buffer(0)?.extend_from_slice(&(length as u64).to_le_bytes());
        self.0.push(item);
        Ok(())
    }

    /// The bytes at the end, with room for a length and `more`.
    fn buffer(&mut self, more: usize) -> Result<&mut Vec<u8>, String> {
        if !matches!(self.0.last(), Some(Item::Bytes(bytes)) if bytes.len() < LARGE) {
            self.0.push(Item::Bytes(Vec::new()));
        }
        let Some(Item::Bytes(bytes)) = self.0.last_mut() else { return Err("there is no place for it".into()) };
        let room = bytes.try_reserve(size_of::<u64>() + more);
        room.map_err(|error| format!("there is no room for {more} bytes: {error}"))?;
        Ok(bytes)
    }

    /// Has `meanwhile` send it. When that is over, what was borrowed is out of reach.
    pub(crate) fn lend<R>(self, meanwhile: impl FnOnce(Parcel) -> R) -> R {
        let borrowed = |item: &Item<'p>| if let Item::Borrowed(bytes) = item { Some(*bytes) } else { None };
        let borrowed: Vec<_> = self.0.iter().filter_map(borrowed).collect();
        loan::lend(&borrowed, |loans| {
            let mut loans = loans.iter();
            let pieces = self.0.into_iter().filter_map(|item| match item {
                Item::Bytes(bytes) => Some(Piece::Bytes(bytes)),
                Item::Plain(plain) => Some(Piece::Plain(plain)),
                Item::Borrowed(_) => loans.next().map(|loan| Piece::Lent(Arc::clone(loan))),
            });
            meanwhile(Parcel(pieces.collect()))
        })
    }
}

/// Packed arguments.
#[derive(Debug, Default)]
pub(crate) struct Parcel(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    Plain(Plain),
    Lent(Arc<Loan>),
}

impl Parcel {
    /// How many bytes it has.
    pub(crate) fn length(&self) -> u64 {
        let length = |index| self.with(index, |bytes| bytes.len() as u64).unwrap_or_default();
        (0..self.pieces()).map(length).sum()
    }

    /// How many pieces it is in.
    pub(crate) fn pieces(&self) -> usize {
        self.0.len()
    }

    /// Has `look` look at one of them; `None` if there is no such piece, or no more.
    pub(crate) fn with<R>(&self, index: usize, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        match self.0.get(index)? {
            Piece::Bytes(bytes) => Some(look(bytes)),
            Piece::Plain(plain) => Some(look(plain.bytes())),
            Piece::Lent(loan) => loan.look(look),
        }
    }
}

/// Takes one argument off the front of what arrives, and opens it.
pub(crate) fn take<T: DeserializeOwned>(inflow: &mut Inflow) -> Result<T, String> {
    let mut length = PlainVec::<[u8; 8]>::new();
    land(inflow, &mut length, size_of::<u64>() as u64)?;
    let length = length.finish().map_or(0, |bytes| u64::from_le_bytes(bytes[0]));
    let mut inbox = value::inbox::<T>();
    land(inflow, inbox.landing(), length)?;
    inbox.open()
}

/// Takes `count` bytes of what arrives to where they belong.
pub(crate) fn land(inflow: &mut Inflow, landing: &mut dyn Landing, count: u64) -> Result<(), String> {
    if count > inflow.left() {
        return Err("they were cut short".into());
    }
    let mut left = count;
    while left > 0 {
        landing.make_room(left)?;
        let taken = match inflow.next() {
            Next::Here(bytes) => {
                landing.copy_from(&bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))])
            }
            Next::Line(None) => 0,
            Next::Line(Some(line)) => match landing.read_from(line, left) {
                Ok(read) => read,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(format!("they did not arrive: {errno}")),
            },
        };
        if taken == 0 {
            return Err("they did not arrive whole".into());
        }
        inflow.advance(taken);
        // No more than was asked for.
        left -= taken as u64;
    }
    Ok(())
}
