//! The messages a child can send. One of them ends every call that the child itself ends.

use serde::{Deserialize, Serialize};

use super::codec;
use crate::sys::{crash::Crash, unwind::Frames};

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
    /// The name of the thread, where it has one.
    pub(crate) thread: Option<String>,
    /// Whether that is the thread that the body began on.
    pub(crate) on_body: bool,
    /// The calls that led there, as addresses.
    pub(crate) frames: Vec<u64>,
}

impl PanicReport {
    /// Cuts what no child of ours makes so long: the frames as those of a crash, and the names.
    fn cut(mut self) -> PanicReport {
        const LONGEST_NAME: usize = 1024;
        self.frames.truncate(Frames::MOST);
        for name in self.place.iter_mut().map(|(file, ..)| file).chain(&mut self.thread) {
            name.truncate(name.floor_char_boundary(LONGEST_NAME));
        }
        self
    }

    /// Says where it panicked, if that is known, and with which message.
    pub(crate) fn told(&self) -> String {
        match &self.place {
            Some((file, line, column)) => format!("panicked at {file}:{line}:{column}: {}", self.message),
            None => format!("panicked: {}", self.message),
        }
    }
}

/// A step of the child's setup that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetupReport {
    pub(crate) step: String,
    /// The kernel's answer; 0 if the step was not its affair.
    pub(crate) errno: i32,
}

/// The bytes of a [`Crash`] with its frames: made without allocating, as a signal handler sends them.
pub(crate) struct CrashPayload {
    bytes: [u8; CRASH_HEADER + FRAME * Frames::MOST],
    length: usize,
}

impl CrashPayload {
    pub(crate) fn new(crash: &Crash, frames: &Frames) -> CrashPayload {
        let mut bytes = [0; CRASH_HEADER + FRAME * Frames::MOST];
        bytes[..4].copy_from_slice(&crash.signal.to_le_bytes());
        let address = crash.address.is_some();
        let facts = [crash.stack_overflow, crash.alloc_failure, crash.cpu_time_is_up, crash.on_body, address];
        bytes[4..9].copy_from_slice(&facts.map(u8::from));
        bytes[16..CRASH_HEADER].copy_from_slice(&crash.address.unwrap_or(0).to_le_bytes());
        let (room, _) = bytes[CRASH_HEADER..].as_chunks_mut::<FRAME>();
        for (place, address) in room.iter_mut().zip(frames.as_slice()) {
            *place = address.to_le_bytes();
        }
        CrashPayload { bytes, length: CRASH_HEADER + FRAME * frames.as_slice().len() }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The signal, five facts, some room, and the address.
const CRASH_HEADER: usize = 24;

/// One address.
const FRAME: usize = 8;

fn crash_from(bytes: &[u8]) -> Option<Crash> {
    let (header, frames) = bytes.split_first_chunk::<CRASH_HEADER>()?;
    let [s0, s1, s2, s3, stack_overflow, alloc_failure, cpu_time_is_up, on_body, has_address, ..] = *header;
    let (_, address) = header.split_last_chunk()?;
    let (frames, []) = frames.as_chunks::<FRAME>() else { return None };
    Some(Crash {
        signal: i32::from_le_bytes([s0, s1, s2, s3]),
        stack_overflow: stack_overflow != 0,
        alloc_failure: alloc_failure != 0,
        cpu_time_is_up: cpu_time_is_up != 0,
        address: (has_address != 0).then_some(u64::from_le_bytes(*address)),
        on_body: on_body != 0,
        frames: frames.iter().take(Frames::MOST).map(|frame| u64::from_le_bytes(*frame)).collect(),
    })
}

/// Reads the payload of any kind but [`Kind::Value`]; says what is wrong with it otherwise.
pub(crate) fn parse(kind: Kind, payload: &[u8]) -> Result<Message, String> {
    let unreadable = || format!("its report of the kind {kind:?} was unreadable");
    match kind {
        Kind::Value => Ok(Message::Value),
        Kind::Panicked => codec::decode(payload).map(PanicReport::cut).map(Message::Panicked).map_err(|_| unreadable()),
        Kind::Crashed => crash_from(payload).map(Message::Crashed).ok_or_else(unreadable),
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
    use crate::sys::unwind;

    #[test]
    fn a_crash_crosses() {
        for crash in [
            Crash { signal: 11, address: Some(u64::MAX), stack_overflow: true, ..Crash::default() },
            Crash { signal: 6, alloc_failure: true, cpu_time_is_up: true, on_body: true, ..Crash::default() },
        ] {
            let frames = unwind::here();
            let payload = CrashPayload::new(&crash, &frames);
            let whole = Crash { frames: frames.as_slice().to_vec(), ..crash.clone() };
            assert_eq!(parse(Kind::Crashed, payload.as_slice()), Ok(Message::Crashed(whole)));
            let short = CrashPayload::new(&crash, &Frames::NONE);
            assert_eq!(parse(Kind::Crashed, short.as_slice()), Ok(Message::Crashed(crash)));
            assert!(parse(Kind::Crashed, &payload.as_slice()[1..]).is_err());
        }
    }

    #[test]
    fn an_unreadable_report_is_an_error() {
        for kind in [Kind::Panicked, Kind::Crashed, Kind::Exited, Kind::NotStarted] {
            assert!(parse(kind, &[0xff; 7]).is_err(), "{kind:?}");
        }
    }
}
