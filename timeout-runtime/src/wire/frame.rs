//! One message on the wire: a header that says its length, the payload, and a mark behind it.
//!
//! The end of the pipe is never waited for: a grandchild may hold it open long after the message is whole. Header and
//! end mark carry a token that is new for every call, so that neither stray writes of a corrupted child nor a piece of
//! payload pass for a frame; bytes put in or taken out anywhere shift the end mark and are found.

use std::{os::fd::BorrowedFd, time::Duration};

use nix::{Result, errno::Errno};

use super::{
    message::{self, Kind, Message},
    value::Landing,
};
use crate::{
    report::Usage,
    sys::pipe::{self, PlainVec},
};

/// Header and end mark of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) u64);

const HEADER: usize = 56;
/// Where the length of the payload stands in it.
const LENGTH: usize = HEADER - 8;
const MARK: usize = 8;

/// A frame up to this size is written by one call, which other writers cannot split (pipe(7)).
const SMALL: usize = 512;

/// What is read at once while it is not known what comes. A payload of more goes straight to where it belongs.
const PIECE: usize = 512;

/// No report is longer than this; only values are.
pub(crate) const LONGEST_REPORT: u64 = 1 << 20;

/// What is wrong with bytes that do not begin with the token.
pub(crate) const STRAY: &str = "something else was written into its result pipe";

/// What a child says about itself with every message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remarks {
    /// It still has processes of its own, and waits to be killed together with them.
    pub(crate) has_descendants: bool,
    /// How long it took to decode its own value; the caller will need about as long.
    pub(crate) decoding: Duration,
    /// What it has used so far, unless nobody asks.
    pub(crate) usage: Option<Usage>,
}

const HAS_DESCENDANTS: u32 = 1;
const HAS_USAGE: u32 = 2;

/// Writes one frame. Async-signal-safe.
#[inline]
pub(crate) fn send(pipe: BorrowedFd<'_>, token: Token, kind: Kind, remarks: Remarks, payload: &[u8]) -> Result<()> {
    let decoding = u64::try_from(remarks.decoding.as_nanos()).unwrap_or(u64::MAX);
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&token.0.to_le_bytes());
    header[8..12].copy_from_slice(&(kind as u32).to_le_bytes());
    let flags = if remarks.has_descendants { HAS_DESCENDANTS } else { 0 };
    header[12..16].copy_from_slice(&flags.to_le_bytes());
    header[16..24].copy_from_slice(&decoding.to_le_bytes());
    if let Some(usage) = remarks.usage {
        header[12..16].copy_from_slice(&(flags | HAS_USAGE).to_le_bytes());
        for (place, number) in header[24..LENGTH].as_chunks_mut().0.iter_mut().zip(usage.to_numbers()) {
            *place = number.to_le_bytes();
        }
    }
    // A length in memory fits into 64 bits.
    header[LENGTH..].copy_from_slice(&(payload.len() as u64).to_le_bytes());

    let mark = end_mark(&header);

    let whole = HEADER + payload.len() + MARK;
    if whole <= SMALL {
        return pipe::write_at_once(pipe, [&header, payload, &mark]);
    }
    if payload.len() > 64 << 10 {
        pipe::widen(pipe);
    }
    pipe::write_all(pipe, &header)?;
    pipe::write_all(pipe, payload)?;
    pipe::write_all(pipe, &mark)
}

/// Takes frames off the pipe as far as they have arrived.
pub(crate) struct FrameReader {
    token: Token,
    state: State,
    /// The end mark that goes with the header of the frame that has begun.
    mark: [u8; MARK],
    /// What was read but not yet looked at.
    scratch: [u8; PIECE],
    begin: usize,
    end: usize,
}

enum State {
    Header {
        have: usize,
        bytes: [u8; HEADER],
    },
    /// The value's payload goes where the caller wants it.
    Value {
        remarks: Remarks,
        left: u64,
    },
    /// A report's payload is short and kept here.
    Report {
        kind: Kind,
        remarks: Remarks,
        left: u64,
        landing: PlainVec<u8>,
    },
    Mark {
        have: usize,
        bytes: [u8; MARK],
        remarks: Remarks,
        message: Message,
    },
}

/// What a look at the pipe gave.
#[derive(Debug, PartialEq)]
pub(crate) enum Progress {
    /// A whole frame.
    Message(Message, Remarks),
    /// A part of a large value; there may be more at once.
    Part,
    /// Everything that is there has been taken.
    Empty,
    /// Every writing end is closed.
    Closed,
    /// The bytes on the pipe are not ours, or do not fit into memory; says what is wrong.
    Junk(String),
}

impl FrameReader {
    pub(crate) fn new(token: Token) -> Self {
        FrameReader { token, state: START, mark: [0; MARK], scratch: [0; PIECE], begin: 0, end: 0 }
    }

    /// Whether a frame has begun and not ended.
    pub(crate) fn is_within_a_frame(&self) -> bool {
        !matches!(self.state, State::Header { have: 0, .. })
    }

    /// Whether a few bytes have come that could begin a frame. No child of ours is cut there: it writes a header at once.
    pub(crate) fn is_within_a_header(&self) -> bool {
        matches!(self.state, State::Header { have: 1.., .. })
    }

    /// Reads until a frame is whole or the pipe is empty. Never blocks.
    pub(crate) fn advance(&mut self, pipe: BorrowedFd<'_>, value: &mut dyn Landing) -> Result<Progress> {
        loop {
            if self.begin < self.end {
                match self.digest(value) {
                    Ok(None) => {}
                    Ok(Some(progress)) => return Ok(progress),
                    Err(junk) => return Ok(Progress::Junk(junk)),
                }
                continue;
            }
            let (read, progress) = match &mut self.state {
                // Large payloads go straight to where they belong; the caller looks at the clock in between.
                State::Value { left, .. } if *left >= PIECE as u64 => {
                    if let Err(why) = value.make_room(*left) {
                        return Ok(Progress::Junk(why));
                    }
                    let read = value.read_from(pipe, *left).inspect(|count| *left -= *count as u64);
                    (read, Some(Progress::Part))
                }
                _ => {
                    let read = pipe::read(pipe, &mut self.scratch);
                    (read.inspect(|count| (self.begin, self.end) = (0, *count)), None)
                }
            };
            match read {
                Ok(0) => return Ok(Progress::Closed),
                Ok(_) => {
                    if let Some(part) = progress {
                        return Ok(part);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Progress::Empty),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Takes one step through the scratch bytes. `Err` says what is wrong with them.
    fn digest(&mut self, value: &mut dyn Landing) -> std::result::Result<Option<Progress>, String> {
        let input = &self.scratch[self.begin..self.end];
        match &mut self.state {
            State::Header { have, bytes } => {
                self.begin += fill(bytes, have, input);
                // Told by its first wrong byte: reading may have killed the child already, whose lifeline takes the
                // reading of what it has not sent for our death.
                let known = (*have).min(size_of::<u64>());
                if bytes[..known] != self.token.0.to_le_bytes()[..known] {
                    return Err(STRAY.into());
                }
                if *have == HEADER {
                    self.mark = end_mark(bytes);
                    self.state = begin(*bytes)?;
                }
            }
            State::Value { remarks, left: 0 } => self.state = mark(*remarks, Message::Value),
            State::Value { left, .. } => {
                value.make_room(*left)?;
                let taken = value.copy_from(&input[..input.len().min(to_usize(*left))]);
                *left -= taken as u64;
                self.begin += taken;
            }
            State::Report { kind, remarks, left: 0, landing } => {
                let payload = std::mem::replace(landing, PlainVec::new()).finish().unwrap_or_default();
                self.state = mark(*remarks, message::parse(*kind, &payload)?);
            }
            State::Report { left, landing, .. } => {
                landing.make_room(*left).map_err(|error| error.to_string())?;
                let taken = landing.copy_from(&input[..input.len().min(to_usize(*left))]);
                *left -= taken as u64;
                self.begin += taken;
            }
            State::Mark { have, bytes, .. } => {
                self.begin += fill(bytes, have, input);
                if *have == MARK {
                    return self.end().map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Checks the mark behind a payload and gives the message.
    fn end(&mut self) -> std::result::Result<Progress, String> {
        let State::Mark { bytes, remarks, message, .. } = std::mem::replace(&mut self.state, START) else {
            return Err("a frame ended before it began".into());
        };
        if bytes != self.mark {
            return Err("something else was written into the middle of its result".into());
        }
        Ok(Progress::Message(message, remarks))
    }
}

const START: State = State::Header { have: 0, bytes: [0; HEADER] };

fn mark(remarks: Remarks, message: Message) -> State {
    State::Mark { have: 0, bytes: [0; MARK], remarks, message }
}

/// The mark behind the payload of a frame with this header. Every step can be undone, so that a header that differs in
/// one word has another mark: a kind, a length or a remark that was changed is found.
#[inline]
fn end_mark(header: &[u8; HEADER]) -> [u8; MARK] {
    let mut mark = 0u64;
    for word in header.as_chunks().0 {
        mark = (mark ^ u64::from_le_bytes(*word)).rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    mark.to_le_bytes()
}

/// Reads a header whose token is right.
fn begin(header: [u8; HEADER]) -> std::result::Result<State, String> {
    let word = |at: usize| header[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let [number, flags] = [word(8) & 0xffff_ffff, word(8) >> 32];
    let kind = Kind::from_number(number).ok_or_else(|| format!("its report has the unknown kind {number}"))?;
    let is_set = |flag: u32| flags & u64::from(flag) != 0;
    let remarks = Remarks {
        has_descendants: is_set(HAS_DESCENDANTS),
        decoding: Duration::from_nanos(word(16)),
        usage: is_set(HAS_USAGE).then(|| Usage::from_numbers([word(24), word(32), word(40)])),
    };
    let left = word(LENGTH);
    match kind {
        Kind::Value => Ok(State::Value { remarks, left }),
        _ if left > LONGEST_REPORT => Err(format!("its report claims to be {left} bytes long")),
        _ => Ok(State::Report { kind, remarks, left, landing: PlainVec::new() }),
    }
}

/// Moves bytes from `input` to the rest of `bytes`; gives how many.
fn fill(bytes: &mut [u8], have: &mut usize, input: &[u8]) -> usize {
    let count = input.len().min(bytes.len() - *have);
    bytes[*have..*have + count].copy_from_slice(&input[..count]);
    *have += count;
    count
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
