//! What a host and its fork server say to each other, one message at a time.
//!
//! Everything has a fixed size, or a size below one message, and nothing read here is trusted: what does not fit is no
//! message, and ends the connection.

use nix::unistd::Pid;

use crate::{report::Usage, sys::pidfd::Status};

/// The longest message.
pub(crate) const LONGEST: usize = 4096;

/// What a host tells its server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The first message: the functions to run before any worker is forked.
    Begin { preloads: Vec<u64> },
    /// The last worker that waited has been taken, and whether a caller waits for one more.
    Taken { one_waits: bool },
    /// The worker with this slot is not wanted any more, and may be alive.
    Dropped { slot: u32 },
}

/// What a server tells its host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A worker that waits for its work, in which the program's code begins at `code`; four descriptors come with it.
    Worker { pid: Pid, slot: u32, code: u64 },
    /// No worker could be forked.
    Refused { errno: i32 },
    /// The server ends, and this is why.
    Failed { why: String },
}

impl Request {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Request::Begin { preloads } => {
                [b'B'].into_iter().chain(preloads.iter().flat_map(|number| number.to_le_bytes())).collect()
            }
            Request::Taken { one_waits } => vec![b'T', u8::from(*one_waits)],
            Request::Dropped { slot } => [b'D'].into_iter().chain(slot.to_le_bytes()).collect(),
        }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Request> {
        match bytes {
            [b'B', numbers @ ..] => {
                let (numbers, []) = numbers.as_chunks::<8>() else { return None };
                Some(Request::Begin { preloads: numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect() })
            }
            [b'T', one_waits] => Some(Request::Taken { one_waits: *one_waits != 0 }),
            [b'D', slot @ ..] => Some(Request::Dropped { slot: u32::from_le_bytes(slot.try_into().ok()?) }),
            _ => None,
        }
    }
}

/// The most functions that one message names.
pub(crate) const MOST_PRELOADS: usize = (LONGEST - 1) / 8;

impl Answer {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Answer::Worker { pid, slot, code } => {
                let numbers = pid.as_raw().to_le_bytes().into_iter().chain(slot.to_le_bytes());
                [b'W'].into_iter().chain(numbers).chain(code.to_le_bytes()).collect()
            }
            Answer::Refused { errno } => [b'R'].into_iter().chain(errno.to_le_bytes()).collect(),
            Answer::Failed { why } => {
                let end = why.floor_char_boundary(LONGEST - 1);
                [b'F'].into_iter().chain(why.bytes().take(end)).collect()
            }
        }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Answer> {
        let number = |bytes: &[u8]| Some(i32::from_le_bytes(bytes.try_into().ok()?));
        match bytes {
            [b'W', rest @ ..] if rest.len() == 16 => {
                let pid = number(&rest[..4])?;
                let slot = u32::try_from(number(&rest[4..8])?).ok()?;
                let code = u64::from_le_bytes(rest[8..].try_into().ok()?);
                // 0 and below name groups, and 1 everybody's parent.
                (pid > 1).then_some(Answer::Worker { pid: Pid::from_raw(pid), slot, code })
            }
            [b'R', errno @ ..] => Some(Answer::Refused { errno: number(errno)? }),
            [b'F', why @ ..] => Some(Answer::Failed { why: String::from_utf8_lossy(why).into_owned() }),
            _ => None,
        }
    }
}

/// How many bytes an obituary has.
pub(crate) const OBITUARY: usize = 40;

const MARK: u64 = u64::from_le_bytes(*b"obituary");

/// How a worker ended, as its server saw it.
pub(crate) fn obituary(status: Status, usage: Usage) -> [u8; OBITUARY] {
    let (kind, number) = match status {
        Status::Exited(code) => (1, code),
        Status::Signaled(signal) => (2, signal),
        Status::Unknown | Status::Orphaned => (0, 0),
    };
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let words = [
        MARK,
        kind << 32 | u64::from(number.cast_unsigned()),
        micros(usage.user),
        micros(usage.system),
        usage.peak_memory,
    ];
    let mut bytes = [0; OBITUARY];
    for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
    bytes
}

/// Reads an obituary; `None` if it is none.
pub(crate) fn read_obituary(bytes: &[u8]) -> Option<(Status, Usage)> {
    let bytes: &[u8; OBITUARY] = bytes.try_into().ok()?;
    let mut words = bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let mut next = || words.next().unwrap_or_default();
    if next() != MARK {
        return None;
    }
    let kind = next();
    // The lower half.
    let number = (kind as u32).cast_signed();
    let status = match kind >> 32 {
        1 => Status::Exited(number),
        2 => Status::Signaled(number),
        _ => Status::Unknown,
    };
    let [user, system, peak_memory] = [next(), next(), next()];
    let time = std::time::Duration::from_micros;
    Some((status, Usage { user: time(user), system: time(system), peak_memory }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_message_crosses() {
        for request in [
            Request::Begin { preloads: vec![] },
            Request::Begin { preloads: vec![7, u64::MAX] },
            Request::Taken { one_waits: true },
            Request::Dropped { slot: 1 << 31 },
        ] {
            assert_eq!(Request::parse(&request.to_bytes()), Some(request));
        }
        for answer in [
            Answer::Worker { pid: Pid::from_raw(77), slot: 5, code: 1 << 47 },
            Answer::Refused { errno: 11 },
            Answer::Failed { why: "no".into() },
        ] {
            assert_eq!(Answer::parse(&answer.to_bytes()), Some(answer));
        }
        let usage = Usage { user: Duration::from_micros(3), system: Duration::from_millis(4), peak_memory: 5 };
        for status in [Status::Exited(3), Status::Signaled(9), Status::Unknown] {
            assert_eq!(read_obituary(&obituary(status, usage)), Some((status, usage)));
        }
    }

    #[test]
    fn what_is_no_message_is_none() {
        for bytes in [&b""[..], b"X", b"B123", b"T", b"T\0\0", b"D", b"D\0\0\0\0\0", b"Q\0\0\0\0"] {
            assert_eq!(Request::parse(bytes), None, "{bytes:?}");
        }
        for bytes in [
            &b""[..],
            b"W",
            b"W\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            b"W\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0",
            b"W\x07\0\0\0\0\0\0\xff\0\0\0\0\0\0\0\0",
            b"R1",
        ] {
            assert_eq!(Answer::parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(read_obituary(&[0; OBITUARY]), None);
        assert_eq!(read_obituary(b"short"), None);
        assert!(Answer::Failed { why: "ž".repeat(LONGEST) }.to_bytes().len() <= LONGEST);
    }
}
