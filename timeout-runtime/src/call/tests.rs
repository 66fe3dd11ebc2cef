//! Reports of a corrupt child: whatever they hold, the error made of them is shown at once and in few words.

use super::*;
use crate::{
    parent::supervise::{Action, Event},
    sys::unwind::Frames,
    wire::{
        codec,
        frame::{LONGEST_REPORT, Remarks},
        message::{self, CrashPayload, Kind, Message},
    },
};

/// The error of a call whose child has sent this.
fn error_of(message: Message) -> TimedOut {
    let call = Call::new(2);
    let site = call.site::<()>();
    // Such a child does not die of its crash, and its report is the end.
    let remarks = Remarks { has_descendants: true, ..Remarks::default() };
    let mut supervisor = Supervisor::new(Deadline::after(site.begin, call.limit), Duration::ZERO);
    let Action::End(outcome) = supervisor.on(Event::Message(message, remarks), site.begin) else {
        panic!("it goes on after that")
    };
    let (reason, ran) = reason(outcome, None, Sample::default(), site.view()).unwrap();
    call.failure(&site, reason, ran)
}

/// Shows the error of such a report, if it is one.
fn is_shown(kind: Kind, payload: &[u8]) -> bool {
    assert!(payload.len() as u64 <= LONGEST_REPORT, "the reader refuses that much");
    let Ok(message) = message::parse(kind, payload) else { return false };
    let error = error_of(message);
    let line = error.to_string();
    assert!(line.chars().count() < 2000 && !line.contains(char::is_control), "{} bytes: {line:.3000}", line.len());
    let debug = format!("{error:?}");
    assert!(debug.chars().count() < 10_000, "{} bytes: {debug:.12000}", debug.len());
    // An address may stand for a few calls that were merged into one.
    let calls = error.backtrace().map_or(0, |backtrace| backtrace.frames().len());
    assert!(calls <= 20 * Frames::MOST, "{calls} calls");
    true
}

fn panic_report() -> PanicReport {
    PanicReport {
        message: "no".into(),
        place: Some(("src/a.rs".into(), 3, 7)),
        thread: Some("bee".into()),
        on_body: false,
        frames: unwind::here().as_slice().iter().copied().take(3).collect(),
    }
}

#[test]
fn a_report_with_a_flipped_bit_is_refused_or_shown() {
    let crash = Crash { signal: 11, address: Some(16), ..Crash::default() };
    let [panicked, crashed] =
        [codec::encode(&panic_report()).unwrap(), CrashPayload::new(&crash, &unwind::here()).as_slice().to_vec()];
    for (kind, payload) in [(Kind::Panicked, panicked), (Kind::Crashed, crashed)] {
        assert!(is_shown(kind, &payload));
        let mut shown = 0;
        for bit in 0..8 * payload.len() {
            let mut flipped = payload.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            shown += usize::from(is_shown(kind, &flipped));
        }
        println!("{kind:?}: {shown} of {} were shown", 8 * payload.len());
        assert!(shown > 0, "this proves nothing");
    }
}

#[test]
fn a_report_of_great_length_is_shown_in_few_words_and_at_once() {
    let begin = Instant::now();
    let long = "a\n\u{1b}[1m".repeat(100_000);
    let frames: Vec<u64> = (1..100_000).collect();
    for report in [
        PanicReport { message: long.clone(), ..panic_report() },
        PanicReport { place: Some((long.clone(), u32::MAX, u32::MAX)), ..panic_report() },
        PanicReport { thread: Some(long.clone()), ..panic_report() },
        PanicReport { frames: frames.clone(), ..panic_report() },
    ] {
        assert!(is_shown(Kind::Panicked, &codec::encode(&report).unwrap()));
    }
    let header = CrashPayload::new(&Crash { signal: 6, ..Crash::default() }, &Frames::NONE).as_slice().to_vec();
    let frames = frames.into_iter().flat_map(u64::to_le_bytes);
    assert!(is_shown(Kind::Crashed, &header.into_iter().chain(frames).collect::<Vec<_>>()));
    assert!(is_shown(Kind::Lost, long.as_bytes()));
    for errno in [0, 12] {
        let setup = SetupReport { step: long.clone(), errno };
        assert!(is_shown(Kind::NotStarted, &codec::encode(&setup).unwrap()));
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}
