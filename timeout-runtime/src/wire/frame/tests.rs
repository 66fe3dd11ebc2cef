//! Frames through real pipes: whole ones arrive in whatever pieces they come, and nothing else passes for one.

use std::{
    os::fd::{AsFd, OwnedFd},
    thread,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::{
    sys::{
        crash::Crash,
        fault::{self, Op, script},
        lifeline,
        unwind::Frames,
    },
    wire::{
        codec,
        message::{CrashPayload, PanicReport, SetupReport},
    },
};

/// No two of its bytes are equal, so that shifted bytes never look like it.
const TOKEN: Token = Token(0x8877_6655_4433_2211);

const PLAIN: Remarks = Remarks { has_descendants: false, decoding: Duration::ZERO, usage: None };
const FULL: Remarks = Remarks {
    has_descendants: true,
    decoding: Duration::from_nanos(0x0102_0304_0506_0708),
    usage: Some(Usage {
        user: Duration::from_micros(0x1112_1314_1516),
        system: Duration::from_micros(0x2122_2324_2526),
        peak_memory: 0x3132_3334_3536_3738,
    }),
};

/// How much a landing may take before anything has arrived.
const FIRST_ROOM: usize = 64 << 10;

/// One pipe, what reads it, and where its values land.
struct Line {
    reader: FrameReader,
    landing: PlainVec<u8>,
    read: OwnedFd,
    write: Option<OwnedFd>,
}

impl Line {
    fn new() -> Line {
        let (read, write) = pipe();
        Line { reader: FrameReader::new(TOKEN), landing: PlainVec::new(), read, write: Some(write) }
    }

    fn write(&self, bytes: &[u8]) {
        pipe::write_all(self.write.as_ref().unwrap().as_fd(), bytes).unwrap();
    }

    fn close(&mut self) {
        self.write = None;
    }

    /// Looks until there is nothing more to see; gives every message, and what was seen last.
    fn look(&mut self) -> (Vec<(Message, Remarks)>, Progress) {
        let mut messages = Vec::new();
        loop {
            match self.reader.advance(self.read.as_fd(), &mut self.landing).unwrap() {
                Progress::Message(message, remarks) => messages.push((message, remarks)),
                Progress::Part => {}
                last => return (messages, last),
            }
        }
    }

    /// The value's bytes so far, and how much memory was taken for them.
    fn landed(&mut self) -> (Vec<u8>, usize) {
        let landed = std::mem::replace(&mut self.landing, PlainVec::new()).finish().unwrap();
        let capacity = landed.capacity();
        (landed, capacity)
    }

    /// How much memory the reader has taken for a report.
    fn report_room(&mut self) -> usize {
        match &mut self.reader.state {
            State::Report { landing, .. } => {
                std::mem::replace(landing, PlainVec::new()).finish().map_or(0, |bytes| bytes.capacity())
            }
            _ => 0,
        }
    }
}

/// A pipe as it is when a child sends: what is read never blocks, what is written waits for the reader.
fn pipe() -> (OwnedFd, OwnedFd) {
    let (read, write) = pipe::pipe().unwrap();
    lifeline::disarm(write.as_fd());
    (read, write)
}

/// Everything that `bytes` and the end of the pipe behind them give; they must fit into a pipe.
fn read_all(bytes: &[u8]) -> (Vec<(Message, Remarks)>, Progress, Vec<u8>, bool) {
    let mut line = Line::new();
    line.write(bytes);
    line.close();
    let (messages, last) = line.look();
    (messages, last, line.landed().0, line.reader.is_within_a_frame())
}

/// The bytes that `send` writes for a frame that fits into a pipe.
fn frame(kind: Kind, remarks: Remarks, payload: &[u8]) -> Vec<u8> {
    let (read, write) = pipe();
    send(write.as_fd(), TOKEN, kind, remarks, payload).unwrap();
    let mut bytes = vec![0; HEADER + payload.len() + MARK + 1];
    let length = pipe::read(read.as_fd(), &mut bytes).unwrap();
    assert_eq!(length, bytes.len() - 1);
    bytes.truncate(length);
    bytes
}

/// A header as a corrupted child could write it.
fn header(kind: u32, length: u64) -> Vec<u8> {
    let mut bytes = TOKEN.0.to_le_bytes().to_vec();
    bytes.extend(kind.to_le_bytes());
    bytes.extend([0; LENGTH - 12]);
    bytes.extend(length.to_le_bytes());
    assert_eq!(bytes.len(), HEADER);
    bytes
}

/// Bytes that tell their position, so that a lost or doubled piece is seen.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

/// One frame of every kind, with what it says.
fn one_of_each() -> Vec<(Vec<u8>, Message)> {
    let panic = PanicReport {
        message: "no such island".into(),
        place: Some(("src/map.rs".into(), 7, 9)),
        ..PanicReport::default()
    };
    let crash =
        Crash { signal: 11, address: Some(0x10), alloc_failure: true, cpu_time_is_up: true, ..Crash::default() };
    let setup = SetupReport { step: "setsid".into(), errno: 1 };
    vec![
        (frame(Kind::Value, FULL, &pattern(9)), Message::Value),
        (frame(Kind::Panicked, FULL, &codec::encode(&panic).unwrap()), Message::Panicked(panic)),
        (frame(Kind::Crashed, FULL, CrashPayload::new(&crash, &Frames::NONE).as_slice()), Message::Crashed(crash)),
        (frame(Kind::Exited, FULL, &(-7i32).to_le_bytes()), Message::Exited(-7)),
        (frame(Kind::Lost, FULL, b"no room"), Message::Lost("no room".into())),
        (frame(Kind::NotStarted, FULL, &codec::encode(&setup).unwrap()), Message::NotStarted(setup)),
    ]
}

/// Runs a test's body where it can do no harm: an allocation that is too large ends the process, and with it all tests.
fn contained(body: impl FnOnce()) {
    if let Err(error) = crate::call(120, body) {
        error.raise();
    }
}

/// Marsaglia's xorshift64: the same junk on every run.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Reads one message that a thread sends at the same time, as a caller does: sleeping in poll, never blocking in read.
fn receive(line: &mut Line) -> (Message, Remarks) {
    loop {
        match line.reader.advance(line.read.as_fd(), &mut line.landing).unwrap() {
            Progress::Message(message, remarks) => return (message, remarks),
            Progress::Part => {}
            Progress::Empty => {
                let mut polled = [PollFd::new(line.read.as_fd(), PollFlags::POLLIN)];
                assert_ne!(poll(&mut polled, PollTimeout::from(20_000u16)).unwrap(), 0, "the sender has stopped");
            }
            last => panic!("{last:?}"),
        }
    }
}

#[test]
fn frames_of_every_size_cross_while_they_are_written() {
    let small = SMALL - HEADER - MARK;
    let pipe_size = 64 << 10;
    for size in [
        0,
        1,
        small - 1,
        small,
        small + 1,
        PIECE - 1,
        PIECE,
        PIECE + 1,
        2 * PIECE,
        pipe_size - HEADER - MARK,
        pipe_size - 1,
        pipe_size,
        pipe_size + 1,
        (1 << 20) - 1,
        1 << 20,
        (5 << 20) + 3,
    ] {
        let payload = pattern(size);
        let mut line = Line::new();
        let write = line.write.take().unwrap();
        thread::scope(|scope| {
            let (write, payload) = (&write, &payload);
            let sender = scope.spawn(move || send(write.as_fd(), TOKEN, Kind::Value, FULL, payload));
            assert_eq!(receive(&mut line), (Message::Value, FULL), "{size}");
            sender.join().unwrap().unwrap();
        });
        assert!(line.landed().0 == payload, "{size} bytes have changed on the way");
        assert!(!line.reader.is_within_a_frame());
    }
}

#[test]
fn reports_of_every_allowed_size_cross_while_they_are_written() {
    let longest = usize::try_from(LONGEST_REPORT).unwrap();
    for size in [0, 1, PIECE - HEADER - MARK + 1, 2 * PIECE, 64 << 10, longest - 1, longest] {
        let text: String = (0..size).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
        let mut line = Line::new();
        let write = line.write.take().unwrap();
        thread::scope(|scope| {
            let (write, text) = (&write, &text);
            let sender = scope.spawn(move || send(write.as_fd(), TOKEN, Kind::Lost, PLAIN, text.as_bytes()));
            let (message, remarks) = receive(&mut line);
            assert!(message == Message::Lost(text.clone()) && remarks == PLAIN, "{size}");
            sender.join().unwrap().unwrap();
        });
        assert_eq!(line.landed().0.len(), 0, "a report is no value");
    }
}

#[test]
fn a_frame_is_whole_at_its_last_byte_whatever_the_pieces() {
    for size in [0, 1, 8, PIECE - HEADER - MARK, PIECE - HEADER, PIECE, 3 * PIECE + 5, 60_000] {
        let payload = pattern(size);
        let bytes = frame(Kind::Value, FULL, &payload);
        for piece in [1, 2, 3, 7, 31, 32, 33, 39, 40, 41, 4095, 4096, 4097, 60_000] {
            let mut line = Line::new();
            let mut left = bytes.len();
            for chunk in bytes.chunks(piece) {
                assert_eq!(line.reader.is_within_a_frame(), left < bytes.len());
                line.write(chunk);
                left -= chunk.len();
                let (messages, last) = line.look();
                assert_eq!(last, Progress::Empty);
                match left {
                    0 => assert_eq!(messages, [(Message::Value, FULL)], "{size} bytes in pieces of {piece}"),
                    _ => assert_eq!(messages, [], "{left} bytes too early"),
                }
            }
            assert!(!line.reader.is_within_a_frame());
            assert!(line.landed().0 == payload, "{size} bytes in pieces of {piece} have changed");
        }
    }
}

#[test]
fn wide_numbers_land_whole_from_odd_pieces() {
    let numbers: Vec<u64> = (0..6000u64).map(|n| n.wrapping_mul(0x0101_0101_0101_0101)).collect();
    let bytes = frame(Kind::Value, PLAIN, bytemuck::cast_slice(&numbers));
    for piece in [1, 3, 13, 4097, 60_000] {
        let line = Line::new();
        let mut reader = FrameReader::new(TOKEN);
        let mut landing = PlainVec::<u64>::new();
        let mut messages = 0;
        for chunk in bytes.chunks(piece) {
            line.write(chunk);
            loop {
                match reader.advance(line.read.as_fd(), &mut landing).unwrap() {
                    Progress::Message(Message::Value, PLAIN) => messages += 1,
                    Progress::Part => {}
                    last => break assert_eq!(last, Progress::Empty),
                }
            }
        }
        assert_eq!(messages, 1);
        assert!(landing.finish().unwrap() == numbers, "changed in pieces of {piece}");
    }
}

#[test]
fn every_kind_arrives_as_what_was_sent() {
    for (bytes, message) in one_of_each() {
        let (messages, last, _, within) = read_all(&bytes);
        assert_eq!(messages, [(message, FULL)]);
        assert_eq!((last, within), (Progress::Closed, false));
    }
}

#[test]
fn frames_that_arrive_together_are_given_one_by_one() {
    let (bytes, expected): (Vec<_>, Vec<_>) = one_of_each().into_iter().unzip();
    let mut line = Line::new();
    line.write(&bytes.concat());
    for message in expected {
        let progress = line.reader.advance(line.read.as_fd(), &mut line.landing).unwrap();
        assert_eq!(progress, Progress::Message(message, FULL));
        assert!(!line.reader.is_within_a_frame());
    }
    assert_eq!(line.look(), (vec![], Progress::Empty));
}

#[test]
fn one_and_a_half_frames_are_one_message_and_a_cut() {
    let crash = CrashPayload::new(&Crash::default(), &Frames::NONE);
    let [first, second] = [frame(Kind::Crashed, PLAIN, crash.as_slice()), frame(Kind::Value, PLAIN, b"12345678")];
    for cut in 1..second.len() {
        let (messages, last, _, within) = read_all(&[&first[..], &second[..cut]].concat());
        assert_eq!((messages.len(), last, within), (1, Progress::Closed, true), "cut at {cut}");
    }
}

#[test]
fn frames_of_several_writers_are_not_torn() {
    const WRITERS: u8 = 4;
    const FRAMES: usize = 300;
    let mut line = Line::new();
    let write = line.write.take().unwrap();
    let mut seen = 0;
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let write = &write;
            scope.spawn(move || {
                let payload = vec![b'a' + writer; SMALL - HEADER - MARK];
                (0..FRAMES).for_each(|_| send(write.as_fd(), TOKEN, Kind::Lost, PLAIN, &payload).unwrap());
            });
        }
        for _ in 0..usize::from(WRITERS) * FRAMES {
            let (Message::Lost(text), PLAIN) = receive(&mut line) else { panic!("another message") };
            assert!(text.bytes().all(|byte| byte == text.as_bytes()[0]));
            seen += text.len();
        }
    });
    assert_eq!(seen, usize::from(WRITERS) * FRAMES * (SMALL - HEADER - MARK));
}

#[test]
fn a_frame_cut_anywhere_is_never_a_message() {
    let mut frames: Vec<_> = one_of_each().into_iter().map(|(bytes, _)| bytes).collect();
    frames.push(frame(Kind::Value, PLAIN, b""));
    frames.push(frame(Kind::Value, PLAIN, &pattern(2 * PIECE + 17)));
    for bytes in frames {
        for cut in 0..bytes.len() {
            let (messages, last, _, within) = read_all(&bytes[..cut]);
            assert_eq!(messages, [], "cut at {cut} of {}", bytes.len());
            assert_eq!(last, Progress::Closed);
            assert_eq!(within, cut > 0, "cut at {cut} of {}", bytes.len());
        }
        // The control: with its last byte it is one.
        assert_eq!(read_all(&bytes).0.len(), 1);
    }
}

#[test]
fn a_pipe_that_closes_within_a_frame_stays_closed_and_within() {
    let mut line = Line::new();
    line.write(&header(Kind::Value as u32, 3 * PIECE as u64));
    line.write(&pattern(PIECE));
    assert_eq!(line.look(), (vec![], Progress::Empty));
    assert!(line.reader.is_within_a_frame());
    line.close();
    for _ in 0..3 {
        assert_eq!(line.look(), (vec![], Progress::Closed));
        assert!(line.reader.is_within_a_frame());
    }
}

/// Gives every way to change one byte of `bytes` within `range`.
fn flips(bytes: &[u8], range: std::ops::Range<usize>) -> impl Iterator<Item = (usize, Vec<u8>)> {
    range.flat_map(move |at| {
        (1..=255).map(move |flip: u8| {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= flip;
            (at, flipped)
        })
    })
}

#[test]
fn a_flip_in_the_token_the_length_or_the_mark_is_found() {
    for (bytes, message) in one_of_each() {
        for range in [0..8, LENGTH..HEADER, bytes.len() - MARK..bytes.len()] {
            for (at, flipped) in flips(&bytes, range) {
                let (messages, last, _, within) = read_all(&flipped);
                assert_eq!(messages, [], "{message:?}, byte {at}: {flipped:x?}");
                // A length that is too long may leave the reader waiting for bytes that never come.
                assert!(matches!(last, Progress::Junk(_)) || (last == Progress::Closed && within), "byte {at}");
            }
        }
    }
}

#[test]
fn a_flip_in_the_kind_or_the_remarks_is_found() {
    contained(|| {
        for (bytes, message) in one_of_each() {
            for (at, flipped) in flips(&bytes, 8..LENGTH) {
                let (messages, last, ..) = read_all(&flipped);
                assert_eq!(messages, [], "{message:?}, byte {at}");
                assert!(matches!(last, Progress::Junk(_)), "{message:?}, byte {at}: {last:?}");
            }
        }
    });
}

#[test]
fn a_flip_in_the_payload_is_data() {
    // The frame vouches for where a payload begins and ends, not for what a corrupted child has put into it.
    let bytes = frame(Kind::Value, PLAIN, &pattern(9));
    for (at, flipped) in flips(&bytes, HEADER..HEADER + 9) {
        let (messages, _, landed, _) = read_all(&flipped);
        assert_eq!(messages, [(Message::Value, PLAIN)]);
        assert_eq!(landed, flipped[HEADER..HEADER + 9], "byte {at}");
    }
}

/// `changed` gives a message only where the whole true frame stands in front of what is strange.
fn assert_found(whole: &[u8], changed: &[u8], message: &Message) {
    let (messages, last, ..) = read_all(changed);
    match changed.starts_with(whole) {
        true => assert_eq!(messages, [(clone(message), FULL)]),
        false => assert_eq!(messages, [], "{message:?} from {changed:x?}"),
    }
    assert!(matches!(last, Progress::Junk(_) | Progress::Closed), "{last:?}");
}

fn clone(message: &Message) -> Message {
    match message {
        Message::Value => Message::Value,
        Message::Panicked(report) => Message::Panicked(report.clone()),
        Message::Crashed(crash) => Message::Crashed(crash.clone()),
        Message::Exited(code) => Message::Exited(*code),
        Message::Lost(why) => Message::Lost(why.clone()),
        Message::NotStarted(report) => Message::NotStarted(report.clone()),
    }
}

#[test]
fn a_byte_put_in_anywhere_is_found() {
    contained(|| {
        for (bytes, message) in one_of_each() {
            for at in 0..=bytes.len() {
                for byte in 0..=255 {
                    assert_found(&bytes, &[&bytes[..at], &[byte], &bytes[at..]].concat(), &message);
                }
            }
        }
    });
}

#[test]
fn stray_text_put_in_anywhere_is_found() {
    contained(|| {
        let other_call = frame_of_another_call();
        for (bytes, message) in one_of_each() {
            for at in 0..=bytes.len() {
                for stray in [&b"\0\0"[..], b"\0\0\0\0\0\0\0\0", b"panicked at src/main.rs\n", &[0xff; 40], &other_call]
                {
                    assert_found(&bytes, &[&bytes[..at], stray, &bytes[at..]].concat(), &message);
                }
            }
        }
    });
}

fn frame_of_another_call() -> Vec<u8> {
    let mut bytes = frame(Kind::Value, PLAIN, b"not yours");
    let length = bytes.len();
    for mark in [0..8, length - MARK..length] {
        bytes[mark].copy_from_slice(&(TOKEN.0 ^ 1).to_le_bytes());
    }
    bytes
}

#[test]
fn the_frame_of_another_call_is_junk() {
    let (messages, last, ..) = read_all(&frame_of_another_call());
    assert_eq!((messages, matches!(last, Progress::Junk(_))), (vec![], true));
}

#[test]
fn bytes_taken_out_anywhere_are_found() {
    contained(|| {
        for (bytes, message) in one_of_each() {
            for from in 0..bytes.len() {
                for to in from + 1..=bytes.len() {
                    assert_found(&bytes, &[&bytes[..from], &bytes[to..]].concat(), &message);
                }
            }
        }
    });
}

#[test]
fn random_junk_is_no_message_and_takes_no_memory() {
    contained(|| {
        const CASES: u32 = 120_000;
        let mut random = Xorshift(0x5eed_cafe_f00d_0001);
        let mut line = Line::new();
        let (mut junk, mut silent) = (0, 0);
        for case in 0..CASES {
            let length = random.below(200);
            let bytes = match case % 4 {
                0 => random.bytes(length),
                // The right token, and nothing else that is right.
                1 => [TOKEN.0.to_le_bytes().to_vec(), random.bytes(length)].concat(),
                // A true header, up to a length that is not.
                2 => {
                    [header(random.below(9) as u32, random.next() >> random.below(64)), calm_bytes(&mut random, length)]
                        .concat()
                }
                // A true header with a payload of the length it says, and junk for a mark.
                _ => {
                    let payload = calm_bytes(&mut random, length);
                    [header(random.below(9) as u32, length), payload, random.bytes(8)].concat()
                }
            };
            line.reader = FrameReader::new(TOKEN);
            line.write(&bytes);
            let (messages, last) = line.look();
            assert_eq!(messages, [], "case {case}: {bytes:x?}");
            match last {
                Progress::Junk(why) => {
                    assert!(!why.is_empty());
                    junk += 1;
                }
                last => {
                    assert_eq!(last, Progress::Empty);
                    silent += 1;
                }
            }
            assert!(line.landed().1 <= FIRST_ROOM, "case {case}: {bytes:x?}");
            assert!(line.report_room() <= FIRST_ROOM, "case {case}: {bytes:x?}");
            // What the reader did not want to see must not meet the next case.
            while pipe::read(line.read.as_fd(), &mut [0; 512]).is_ok() {}
        }
        // Both ends of the dice were thrown: frames refused, and frames that wait for more.
        assert!(junk > CASES / 4 && silent > CASES / 16, "{junk} junk, {silent} silent");
    });
}

/// Random bytes that do not begin with the long form of a length: a text that claims to be huge has its own test.
fn calm_bytes(random: &mut Xorshift, length: u64) -> Vec<u8> {
    let mut bytes = random.bytes(length);
    if let Some(first) = bytes.first_mut() {
        *first %= 251;
    }
    bytes
}

#[test]
fn a_text_that_claims_to_be_huge_is_junk_and_no_allocation() {
    contained(|| {
        // 253 announces a length of eight bytes in the encoding of reports. The text behind it never comes.
        for claim in [1u64 << 34, 1 << 63, u64::MAX] {
            let payload = [&[253][..], &claim.to_le_bytes(), b"short"].concat();
            for kind in [Kind::Panicked, Kind::NotStarted] {
                let (messages, last, ..) = read_all(&frame(kind, PLAIN, &payload));
                assert_eq!(messages, []);
                assert!(matches!(last, Progress::Junk(_)), "{kind:?} with {claim} bytes: {last:?}");
            }
        }
    });
}

#[test]
fn a_huge_length_is_not_an_allocation() {
    for length in [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 40] {
        let mut line = Line::new();
        line.write(&header(Kind::Value as u32, length));
        line.write(b"ten bytes!");
        assert_eq!(line.look(), (vec![], Progress::Empty));
        assert!(line.reader.is_within_a_frame());
        let (landed, room) = line.landed();
        assert_eq!(landed, b"ten bytes!");
        assert!(room <= FIRST_ROOM, "{room} bytes of room for a claim of {length}");
    }
}

#[test]
fn memory_grows_with_what_arrives_and_not_with_what_is_claimed() {
    let mut line = Line::new();
    line.write(&header(Kind::Value as u32, u64::MAX));
    let mut arrived = 0;
    for _ in 0..100 {
        line.write(&pattern(40_000));
        arrived += 40_000;
        assert_eq!(line.look(), (vec![], Progress::Empty));
    }
    let (landed, room) = line.landed();
    assert_eq!(landed.len(), arrived);
    assert!(room <= 2 * arrived + FIRST_ROOM, "{room} bytes of room for {arrived}");
}

#[test]
fn a_report_that_claims_too_much_is_junk() {
    for kind in [Kind::Panicked, Kind::Crashed, Kind::Exited, Kind::Lost, Kind::NotStarted] {
        for (length, is_junk) in [(LONGEST_REPORT, false), (LONGEST_REPORT + 1, true), (u64::MAX, true)] {
            let (messages, last, ..) = read_all(&header(kind as u32, length));
            assert_eq!(messages, []);
            match last {
                Progress::Junk(why) => assert!(is_junk && why.contains(&length.to_string()), "{kind:?}: {why}"),
                last => assert!(!is_junk && last == Progress::Closed, "{kind:?}, {length}: {last:?}"),
            }
        }
    }
}

#[test]
fn an_unknown_kind_is_junk() {
    for kind in [0, 7, 8, 255, 256, 257, 1 << 16, 1 << 24 | 1, 1 << 31, u32::MAX] {
        let (messages, last, ..) = read_all(&[header(kind, 0), TOKEN.0.to_le_bytes().to_vec()].concat());
        assert_eq!(messages, []);
        assert!(matches!(&last, Progress::Junk(why) if why.contains(&kind.to_string())), "{kind}: {last:?}");
    }
}

#[test]
fn a_read_that_is_interrupted_goes_on_and_one_that_fails_is_told() {
    let bytes = frame(Kind::Value, PLAIN, &pattern(2 * PIECE));
    let mut line = Line::new();
    line.write(&bytes[..PIECE]);
    let interrupted = script(Op::Read, Errno::EINTR, 5);
    assert_eq!(line.look(), (vec![], Progress::Empty));
    assert_eq!(fault::check(Op::Read), Ok(()), "the reader has not met every interruption");
    drop(interrupted);
    let empty = script(Op::Read, Errno::EAGAIN, 1);
    assert_eq!(line.look(), (vec![], Progress::Empty));
    drop(empty);
    let broken = script(Op::Read, Errno::EIO, 1);
    assert_eq!(line.reader.advance(line.read.as_fd(), &mut line.landing), Err(Errno::EIO));
    drop(broken);
    // None of them has cost a byte.
    line.write(&bytes[PIECE..]);
    assert_eq!(line.look(), (vec![(Message::Value, PLAIN)], Progress::Empty));
    assert!(line.landed().0 == pattern(2 * PIECE));
}

#[test]
fn a_write_that_fails_is_told() {
    for size in [8, 2 * PIECE] {
        let line = Line::new();
        let _broken = script(Op::Write, Errno::EIO, 1);
        let sent = send(line.write.as_ref().unwrap().as_fd(), TOKEN, Kind::Value, PLAIN, &pattern(size));
        assert_eq!(sent, Err(Errno::EIO));
    }
}

#[test]
fn a_write_that_is_interrupted_goes_on() {
    for size in [8, 2 * PIECE] {
        let mut line = Line::new();
        let _interrupted = script(Op::Write, Errno::EINTR, 3);
        let sent = send(line.write.as_ref().unwrap().as_fd(), TOKEN, Kind::Value, PLAIN, &pattern(size));
        assert_eq!(sent, Ok(()));
        assert_eq!(line.look(), (vec![(Message::Value, PLAIN)], Progress::Empty));
    }
}

#[test]
fn a_few_bytes_that_begin_as_a_frame_does_are_told_from_a_frame() {
    let bytes = frame(Kind::Value, PLAIN, &[7; 100]);
    let mut line = Line::new();
    assert!(!line.reader.is_within_a_header());
    for (at, byte) in bytes.iter().enumerate() {
        line.write(&[*byte]);
        line.look();
        let have = at + 1;
        assert_eq!(line.reader.is_within_a_header(), have < HEADER, "after {have} bytes");
    }
}
