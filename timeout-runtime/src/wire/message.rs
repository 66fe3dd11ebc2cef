//! The messages a child can send. One of them ends every call that the child itself ends.

use serde::{Deserialize, Serialize};

use super::codec;
use crate::sys::crash::Crash;

/// What the payload of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Value = 1,
    Panicked = 2,
    Crashed = 3,
    Exited = 4,
    Lost = 5,
    NotStarted = 6,
}

impl Kind {
    pub(crate) fn from_number(number: u64) -> Option<Kind> {
        [Kind::Value, Kind::Panicked, Kind::Crashed, Kind::Exited, Kind::Lost, Kind::NotStarted]
            .into_iter()
            .find(|kind| *kind as u64 == number)
    }
}

/// A message as the caller understands it. The value itself is not in here: it has landed where the caller wants it.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    /// The whole value has arrived.
    Value,
    /// The body panicked, and the panic was not caught in it.
    Panicked(PanicReport),
    /// A signal that means a crash is about to end the child.
    Crashed(Crash),
    /// The body called `exit`.
    Exited(i32),
    /// The body returned, but its value could not be made ready for the journey.
    Lost(String),
    /// The child could not be set up; the body has not run.
    NotStarted(SetupReport),
}

/// A panic, as seen by the panic hook in the child.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PanicReport {
    pub(crate) message: String,
    /// File, line and column, where the hook saw them.
    pub(crate) place: Option<(String, u32, u32)>,
}

/// A step of the child's setup that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetupReport {
    pub(crate) step: String,
    /// The kernel's answer; 0 if the step was not its affair.
    pub(crate) errno: i32,
}

/// The bytes of a [`Crash`]: of fixed size and made without allocating, as a signal handler sends them.
pub(crate) fn crash_payload(crash: &Crash) -> [u8; CRASH_SIZE] {
    let mut bytes = [0; CRASH_SIZE];
    bytes[..4].copy_from_slice(&crash.signal.to_le_bytes());
    bytes[4] = u8::from(crash.stack_overflow);
    bytes[5] = u8::from(crash.address.is_some());
    bytes[6] = u8::from(crash.alloc_failure);
    bytes[7] = u8::from(crash.cpu_time_is_up);
    bytes[8..].copy_from_slice(&crash.address.unwrap_or(0).to_le_bytes());
    bytes
}

const CRASH_SIZE: usize = 16;

fn crash_from(bytes: [u8; CRASH_SIZE]) -> Crash {
    let [s0, s1, s2, s3, stack_overflow, has_address, alloc_failure, cpu_time_is_up, address @ ..] = bytes;
    Crash {
        signal: i32::from_le_bytes([s0, s1, s2, s3]),
        stack_overflow: stack_overflow != 0,
        alloc_failure: alloc_failure != 0,
        cpu_time_is_up: cpu_time_is_up != 0,
        address: (has_address != 0).then_some(u64::from_le_bytes(address)),
    }
}

/// Reads the payload of any kind but [`Kind::Value`]; says what is wrong with it otherwise.
pub(crate) fn parse(kind: Kind, payload: &[u8]) -> Result<Message, String> {
    let unreadable = || format!("its report of the kind {kind:?} was unreadable");
    match kind {
        Kind::Value => Ok(Message::Value),
        Kind::Panicked => codec::decode(payload).map(Message::Panicked).map_err(|_| unreadable()),
        Kind::Crashed => payload.try_into().map(|bytes| Message::Crashed(crash_from(bytes))).map_err(|_| unreadable()),
        Kind::Exited => {
            payload.try_into().map(|bytes| Message::Exited(i32::from_le_bytes(bytes))).map_err(|_| unreadable())
        }
        Kind::Lost => Ok(Message::Lost(String::from_utf8_lossy(payload).into_owned())),
        Kind::NotStarted => codec::decode(payload).map(Message::NotStarted).map_err(|_| unreadable()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_crosses() {
        for crash in [
            Crash {
                signal: 11,
                address: Some(u64::MAX),
                stack_overflow: true,
                alloc_failure: false,
                cpu_time_is_up: false,
            },
            Crash { signal: 6, address: None, stack_overflow: false, alloc_failure: true, cpu_time_is_up: true },
        ] {
            assert_eq!(parse(Kind::Crashed, &crash_payload(&crash)), Ok(Message::Crashed(crash)));
        }
    }

    #[test]
    fn an_unreadable_report_is_an_error() {
        for kind in [Kind::Panicked, Kind::Crashed, Kind::Exited, Kind::NotStarted] {
            assert!(parse(kind, &[0xff; 7]).is_err(), "{kind:?}");
        }
    }
}
