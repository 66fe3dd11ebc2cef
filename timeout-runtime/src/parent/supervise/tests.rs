//! Every rule of time and truth, as rows of events at moments and what is to be done about each.

use super::*;

/// What happens, in a form that can stand in a table.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// A value that took the child so many milliseconds to decode.
    Value(u64),
    Panicked,
    /// A crash record: the signal, and whether the stack had overflowed.
    CrashRecord(i32, bool),
    /// A crash record of a child that waits to be killed together with its descendants.
    LastCrashRecord(i32),
    Exited(i32),
    Lost,
    NotStarted,
    Junk,
    /// Gone by `exit`; whether half a frame was left.
    GoneByExit(i32, bool),
    GoneBySignal(i32, bool),
    GoneUnknown(bool),
    HookHeld,
    Cancel,
    Clock,
}

/// What is to be done, with moments in milliseconds from the beginning.
#[derive(Debug)]
enum Then {
    Wait(u64),
    WaitForEver,
    Terminate(u64),
    TerminateAndWaitForEver,
    End(Outcome),
}

use Happens::*;
use Then::{End, Terminate, TerminateAndWaitForEver, Wait, WaitForEver};

const ADDRESS: u64 = 0x10;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn panic_report() -> PanicReport {
    PanicReport { message: "no such island".into(), place: Some(("src/map.rs".into(), 7, 9)), ..PanicReport::default() }
}

fn setup_report() -> SetupReport {
    SetupReport { step: "setsid".into(), errno: 1 }
}

impl Happens {
    fn event(self) -> Event {
        let message = match self {
            Value(decoding) => {
                return Event::Message(Message::Value, Remarks { decoding: ms(decoding), ..Remarks::default() });
            }
            Junk => return Event::Junk("not ours".into()),
            GoneByExit(code, cut) => return Event::Gone { status: Status::Exited(code), cut },
            GoneBySignal(signal, cut) => return Event::Gone { status: Status::Signaled(signal), cut },
            GoneUnknown(cut) => return Event::Gone { status: Status::Unknown, cut },
            LastCrashRecord(signal) => {
                let remarks = Remarks { has_descendants: true, ..Remarks::default() };
                return Event::Message(Message::Crashed(record(signal, false)), remarks);
            }
            HookHeld => return Event::HookHeld,
            Cancel => return Event::Cancelled,
            Clock => return Event::Clock,
            Panicked => Message::Panicked(panic_report()),
            CrashRecord(signal, overflow) => Message::Crashed(record(signal, overflow)),
            Exited(code) => Message::Exited(code),
            Lost => Message::Lost("too wide".into()),
            NotStarted => Message::NotStarted(setup_report()),
        };
        Event::Message(message, Remarks::default())
    }
}

fn record(signal: i32, stack_overflow: bool) -> Crash {
    Crash { signal, address: Some(ADDRESS), stack_overflow, ..Crash::default() }
}

/// A crash of which only the status is known.
fn bare(signal: i32) -> Outcome {
    Outcome::Crashed(Crash { signal, ..Crash::default() })
}

/// Plays one row: a limit and a grace in milliseconds, then what happens when and what is to be done.
fn play(name: &str, limit: Duration, grace: Duration, row: Vec<(u64, Happens, Then)>) {
    let begin = Instant::now();
    let mut supervisor = Supervisor::new(Deadline::after(begin, limit), grace);
    let steps = row.len();
    for (step, (at, happens, then)) in row.into_iter().enumerate() {
        let cause = if matches!(happens, Cancel) { Cause::Cancelled } else { Cause::Late };
        let action = supervisor.on(happens.event(), begin + ms(at));
        let expected = match then {
            Wait(until) => Action::Wait { until: Some(begin + ms(until)) },
            WaitForEver => Action::Wait { until: None },
            Terminate(until) => Action::Terminate { cause, until: Some(begin + ms(until)) },
            TerminateAndWaitForEver => Action::Terminate { cause, until: None },
            End(outcome) => Action::End(outcome),
        };
        // Texts of lost values are for people; that there is one is all that counts here.
        match (&action, &expected) {
            (Action::End(Outcome::Lost(why)), Action::End(Outcome::Lost(part))) => {
                assert!(why.contains(part.as_str()), "{name}, {happens:?}: {why}");
            }
            _ => assert_eq!(action, expected, "{name}, step {step}, {happens:?} at {at} ms"),
        }
        assert_eq!(matches!(action, Action::End(_)), step + 1 == steps, "{name}: a row ends with the call");
    }
}

fn lost(part: &str) -> Then {
    End(Outcome::Lost(part.into()))
}

#[test]
fn a_value_counts_when_it_can_be_used_in_time() {
    for (name, at, decoding, outcome) in [
        ("long before", 1, 0, Outcome::Value),
        ("just before", 99, 0, Outcome::Value),
        // It was whole before the kill.
        ("at the deadline", 100, 0, Outcome::Value),
        ("behind the deadline", 101, 0, Outcome::Value),
        ("long behind", 5000, 0, Outcome::Value),
        ("with decoding that fits", 50, 49, Outcome::Value),
        ("with decoding that ends at the deadline", 50, 50, Outcome::Late),
        ("with decoding that does not fit", 50, 51, Outcome::Late),
        ("with decoding, at the deadline", 100, 1, Outcome::Late),
        ("with decoding, behind the deadline", 101, 1, Outcome::Late),
        ("with decoding of years", 0, u64::MAX / 1_000_000, Outcome::Late),
    ] {
        play(name, ms(100), Duration::ZERO, vec![(at, Value(decoding), End(outcome))]);
    }
}

#[test]
fn decoding_of_less_than_a_millisecond_is_not_held_against_the_limit() {
    let begin = Instant::now();
    for (decoding, outcome) in [(999_999, Outcome::Value), (1_000_000, Outcome::Late)] {
        let mut supervisor = Supervisor::new(Deadline::after(begin, ms(100)), Duration::ZERO);
        let remarks = Remarks { decoding: Duration::from_nanos(decoding), ..Remarks::default() };
        let action = supervisor.on(Event::Message(Message::Value, remarks), begin + ms(100));
        assert_eq!(action, Action::End(outcome), "{decoding} ns");
    }
}

#[test]
fn decoding_beyond_all_time_does_not_fit() {
    let begin = Instant::now();
    let remarks = Remarks { decoding: Duration::MAX, ..Remarks::default() };
    let mut limited = Supervisor::new(Deadline::after(begin, ms(100)), Duration::ZERO);
    assert_eq!(limited.on(Event::Message(Message::Value, remarks), begin), Action::End(Outcome::Late));
}

#[test]
fn without_a_limit_every_decoding_fits() {
    let begin = Instant::now();
    let remarks = Remarks { decoding: Duration::MAX, ..Remarks::default() };
    let mut endless = Supervisor::new(Deadline::after(begin, Duration::MAX), Duration::ZERO);
    assert_eq!(endless.on(Event::Message(Message::Value, remarks), begin), Action::End(Outcome::Value));
}

#[test]
fn the_clock_ends_a_call_at_its_deadline_and_not_before() {
    let wait = || (0, Clock, Wait(100));
    for (name, grace, row) in [
        ("at the deadline", 0, vec![wait(), (99, Clock, Wait(100)), (100, Clock, End(Outcome::Late))]),
        ("behind the deadline", 0, vec![wait(), (107, Clock, End(Outcome::Late))]),
        (
            "a grace is a maximum, from the request on",
            50,
            vec![
                wait(),
                (99, Clock, Wait(100)),
                (100, Clock, Terminate(150)),
                (101, Clock, Wait(150)),
                (149, Clock, Wait(150)),
                (150, Clock, End(Outcome::Late)),
            ],
        ),
        ("a grace that is slept through", 50, vec![(103, Clock, Terminate(153)), (900, Clock, End(Outcome::Late))]),
    ] {
        play(name, ms(100), ms(grace), row);
    }
}

#[test]
fn what_happens_in_the_grace_is_late_unless_it_is_a_value() {
    for (name, happens, outcome) in [
        ("it exits", GoneByExit(0, false), Outcome::Late),
        ("it dies of the request", GoneBySignal(15, false), Outcome::Late),
        ("it crashes", GoneBySignal(11, false), Outcome::Late),
        ("it is gone, nobody knows how", GoneUnknown(false), Outcome::Late),
        ("it is gone in the middle of a frame", GoneByExit(0, true), Outcome::Late),
        ("it panics", Panicked, Outcome::Late),
        ("it calls exit", Exited(3), Outcome::Late),
        ("it writes junk", Junk, Outcome::Late),
        ("its value is lost", Lost, Outcome::Late),
        ("it was never started", NotStarted, Outcome::Late),
        ("a value", Value(0), Outcome::Value),
        ("a value that can be decoded in the grace", Value(10), Outcome::Value),
        ("a value that cannot", Value(40), Outcome::Late),
    ] {
        play(name, ms(100), ms(50), vec![(100, Clock, Terminate(150)), (120, happens, End(outcome))]);
    }
}

#[test]
fn a_value_behind_the_grace_but_before_the_kill_counts() {
    play("value", ms(100), ms(50), vec![(100, Clock, Terminate(150)), (151, Value(0), End(Outcome::Value))]);
}

#[test]
fn a_cancelled_call_ends_like_a_late_one_and_says_so() {
    for (name, grace, row) in [
        ("without grace", 0, vec![(30, Cancel, End(Outcome::Cancelled))]),
        ("with grace", 50, vec![(30, Cancel, Terminate(80)), (80, Clock, End(Outcome::Cancelled))]),
        (
            "dead in the grace",
            50,
            vec![(30, Cancel, Terminate(80)), (31, GoneBySignal(15, false), End(Outcome::Cancelled))],
        ),
        ("panics in the grace", 50, vec![(30, Cancel, Terminate(80)), (31, Panicked, End(Outcome::Cancelled))]),
        ("value in the grace", 50, vec![(30, Cancel, Terminate(80)), (31, Value(0), End(Outcome::Value))]),
        ("undecodable in the grace", 50, vec![(30, Cancel, Terminate(80)), (31, Value(50), End(Outcome::Cancelled))]),
        (
            "twice gives no second grace",
            50,
            vec![(30, Cancel, Terminate(80)), (60, Cancel, Wait(80)), (80, Clock, End(Outcome::Cancelled))],
        ),
        (
            "in the grace of a late call, which stays late",
            50,
            vec![(100, Clock, Terminate(150)), (120, Cancel, Wait(150)), (150, Clock, End(Outcome::Late))],
        ),
        (
            "just before the deadline, whose moment then passes in the grace",
            50,
            vec![(90, Cancel, Terminate(140)), (110, Clock, Wait(140)), (140, Clock, End(Outcome::Cancelled))],
        ),
    ] {
        play(name, ms(100), ms(grace), row);
    }
}

#[test]
fn a_crash_record_is_believed_if_the_child_dies_of_it() {
    let noted = |signal, overflow| (10, CrashRecord(signal, overflow), Wait(100));
    for (name, row) in [
        (
            "the same signal",
            vec![noted(11, false), (11, GoneBySignal(11, false), End(Outcome::Crashed(record(11, false))))],
        ),
        ("another signal", vec![noted(11, false), (11, GoneBySignal(9, false), End(bare(9)))]),
        // std's handler prints its line and aborts.
        (
            "an overflow ends in an abort",
            vec![noted(11, true), (11, GoneBySignal(6, false), End(Outcome::Crashed(record(6, true))))],
        ),
        ("it recovers and exits", vec![noted(11, false), (11, GoneByExit(3, false), End(Outcome::Exited(3)))]),
        (
            "nobody knows how it ended",
            vec![noted(11, false), (11, GoneUnknown(false), End(Outcome::Crashed(record(11, false))))],
        ),
        (
            "half a frame, same signal",
            vec![noted(11, false), (11, GoneBySignal(11, true), End(Outcome::Crashed(record(11, false))))],
        ),
        ("it recovers and returns", vec![noted(8, false), (11, Value(0), End(Outcome::Value))]),
        ("it recovers and panics", vec![noted(8, false), (11, Panicked, End(Outcome::Panicked(panic_report())))]),
        ("it recovers and hangs", vec![noted(8, false), (11, Clock, Wait(100)), (100, Clock, End(Outcome::Late))]),
        (
            "an overflow is the cause of the abort behind it",
            vec![
                noted(11, true),
                noted(6, false),
                (11, GoneBySignal(6, false), End(Outcome::Crashed(record(6, true)))),
            ],
        ),
        ("it stays for its descendants", vec![(10, LastCrashRecord(11), End(Outcome::Crashed(record(11, false))))]),
        ("it is cancelled before it is dead", vec![noted(11, false), (11, Cancel, End(Outcome::Cancelled))]),
    ] {
        play(name, ms(100), Duration::ZERO, row);
    }
}

#[test]
fn of_two_crash_records_the_one_it_died_of_counts() {
    let rows = vec![
        (10, CrashRecord(8, false), Wait(100)),
        (20, CrashRecord(11, false), Wait(100)),
        (21, GoneBySignal(11, false), End(Outcome::Crashed(record(11, false)))),
    ];
    play("it got over the first", ms(100), Duration::ZERO, rows);
}

#[test]
fn of_crash_records_without_end_the_last_are_kept() {
    let begin = Instant::now();
    let mut supervisor = Supervisor::new(Deadline::after(begin, ms(100)), Duration::ZERO);
    for number in 0..10_000 {
        supervisor.on(CrashRecord(if number == 9_990 { 11 } else { 8 }, false).event(), begin);
    }
    assert_eq!(supervisor.crashes.len(), MOST_CRASHES);
    let end = supervisor.on(GoneBySignal(11, false).event(), begin);
    assert_eq!(end, Action::End(Outcome::Crashed(record(11, false))));
}

#[test]
fn an_overflow_that_was_survived_is_not_the_cause_of_a_kill() {
    let rows = vec![(10, CrashRecord(11, true), Wait(100)), (90, GoneBySignal(9, false), End(bare(9)))];
    play("killed by somebody", ms(100), Duration::ZERO, rows);
}

#[test]
fn a_child_without_its_panic_hook_is_replaced_unless_it_was_asked_to_end() {
    play("in time", ms(100), ms(50), vec![(10, HookHeld, End(Outcome::HookHeld))]);
    play("in the grace", ms(100), ms(50), vec![(100, Clock, Terminate(150)), (110, HookHeld, End(Outcome::Late))]);
    play("cancelled", ms(100), ms(50), vec![(30, Cancel, Terminate(80)), (31, HookHeld, End(Outcome::Cancelled))]);
}

#[test]
fn crash_records_do_not_hold_up_the_clock() {
    // Without a look at the clock, a child that sends them without a pause would never be late.
    play("without grace", ms(100), Duration::ZERO, vec![(101, CrashRecord(11, false), End(Outcome::Late))]);
    play(
        "with grace",
        ms(100),
        ms(50),
        vec![(101, CrashRecord(11, false), Terminate(151)), (152, CrashRecord(11, false), End(Outcome::Late))],
    );
}

#[test]
fn the_end_of_the_child_is_told_by_what_is_known_best() {
    for (name, row) in [
        ("exit without a word", vec![(10, GoneByExit(3, false), End(Outcome::Exited(3)))]),
        ("exit with 0 without a word", vec![(10, GoneByExit(0, false), End(Outcome::Exited(0)))]),
        ("exit in the middle of a frame", vec![(10, GoneByExit(0, true), lost("in the middle"))]),
        ("a signal", vec![(10, GoneBySignal(9, false), End(bare(9)))]),
        ("a signal in the middle of a frame", vec![(10, GoneBySignal(9, true), End(bare(9)))]),
        ("nobody knows how", vec![(10, GoneUnknown(false), lost("exit status"))]),
        ("nobody knows how, in the middle of a frame", vec![(10, GoneUnknown(true), lost(""))]),
        ("junk", vec![(10, Junk, lost("not ours"))]),
        ("junk behind a crash record", vec![(9, CrashRecord(11, false), Wait(100)), (10, Junk, lost("not ours"))]),
        ("a call of exit", vec![(10, Exited(-1), End(Outcome::Exited(-1)))]),
        ("a panic", vec![(10, Panicked, End(Outcome::Panicked(panic_report())))]),
        ("a value that could not travel", vec![(10, Lost, lost("too wide"))]),
        ("a setup that failed", vec![(10, NotStarted, End(Outcome::NotStarted(setup_report())))]),
        // The driver reads before it asks for the status: these arrive before the clock is looked at.
        ("a panic behind the deadline", vec![(105, Panicked, End(Outcome::Panicked(panic_report())))]),
        ("dead behind the deadline", vec![(105, GoneByExit(1, false), End(Outcome::Exited(1)))]),
    ] {
        play(name, ms(100), Duration::ZERO, row);
    }
}

#[test]
fn without_a_limit_no_clock_ends_a_call() {
    let century = 100 * 365 * 24 * 3600 * 1000;
    for grace in [Duration::ZERO, ms(50), Duration::MAX] {
        play(
            "endless",
            Duration::MAX,
            grace,
            vec![
                (0, Clock, WaitForEver),
                (century, Clock, WaitForEver),
                (century, GoneByExit(1, false), End(Outcome::Exited(1))),
            ],
        );
    }
    play(
        "a cancel still does",
        Duration::MAX,
        ms(50),
        vec![(century, Cancel, Terminate(century + 50)), (century + 50, Clock, End(Outcome::Cancelled))],
    );
}

#[test]
fn a_grace_beyond_all_time_is_never_over() {
    for (name, happens, outcome) in
        [("late", GoneBySignal(15, false), Outcome::Late), ("late, with a value", Value(7), Outcome::Value)]
    {
        let row = vec![
            (100, Clock, TerminateAndWaitForEver),
            (1 << 40, Clock, WaitForEver),
            (1 << 40, Cancel, WaitForEver),
            (1 << 40, happens, End(outcome)),
        ];
        play(name, ms(100), Duration::MAX, row);
    }
    play(
        "cancelled",
        ms(100),
        Duration::MAX,
        vec![
            (1, Cancel, TerminateAndWaitForEver),
            (1 << 40, Clock, WaitForEver),
            (1 << 40, Junk, End(Outcome::Cancelled)),
        ],
    );
}

/// Marsaglia's xorshift64: the same sequences on every run.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// What a call promises, watched from outside.
struct Watch {
    begin: Instant,
    deadline: Deadline,
    grace: Duration,
    /// The last moment that the supervisor may wait for.
    last: Deadline,
    cancelled: bool,
    terminated: bool,
}

impl Watch {
    /// Judges one step; tells whether the call is over.
    fn judge(&mut self, happens: Happens, now: Instant, action: Action) -> bool {
        self.cancelled |= matches!(happens, Cancel);
        match action {
            Action::Wait { until } => {
                assert_eq!(until, self.last.instant(), "it waits for its last moment");
                assert!(!matches!(happens, Clock) || !self.last.is_over(now), "it sleeps on behind its last moment");
                assert!(matches!(happens, Clock | Cancel | CrashRecord(..)), "{happens:?} ends a call");
                false
            }
            Action::Terminate { cause, until } => {
                assert!(!self.terminated, "it asks once");
                assert_eq!(cause == Cause::Cancelled, matches!(happens, Cancel));
                assert!(!self.grace.is_zero());
                assert!(self.cancelled || self.deadline.is_over(now), "it asks before it is time");
                self.terminated = true;
                self.last = Deadline::after(now, self.grace);
                assert_eq!(until, self.last.instant());
                false
            }
            Action::End(outcome) => {
                match outcome {
                    Outcome::Late => {
                        let undecodable = matches!(happens, Value(decoding) if decoding > 0);
                        assert!(self.deadline.is_over(now) || undecodable, "late before the deadline");
                    }
                    Outcome::Cancelled => assert!(self.cancelled, "cancelled by nobody"),
                    Outcome::Value => assert!(matches!(happens, Value(_)), "a value from nowhere"),
                    _ => assert!(!self.terminated, "{outcome:?} after it was asked to end"),
                }
                if let Value(0) = happens {
                    assert_eq!(outcome, Outcome::Value, "a whole value wins");
                }
                if matches!(happens, Clock) {
                    assert!(self.last.is_over(now), "the clock ended it too early");
                }
                true
            }
        }
    }
}

#[test]
fn no_sequence_of_events_outlives_its_last_moment() {
    const SEQUENCES: u32 = 50_000;
    let mut random = Xorshift(0x5eed_cafe_f00d_0002);
    let mut longest = 0;
    for sequence in 0..SEQUENCES {
        let begin = Instant::now();
        let limit = random.one_of(&[ms(1), ms(50), ms(100), Duration::MAX]);
        let grace = random.one_of(&[Duration::ZERO, ms(1), ms(40), Duration::MAX]);
        let deadline = Deadline::after(begin, limit);
        let mut supervisor = Supervisor::new(deadline, grace);
        let mut watch = Watch { begin, deadline, grace, last: deadline, cancelled: false, terminated: false };
        let mut now = 0;
        let mut over = false;
        for step in 0..40 {
            now += random.below(20);
            // Most of what happens is time and crash records: they are what a call survives.
            let code = random.below(256) as i32;
            let cut = random.below(2) == 0;
            let happens = match random.below(100) {
                0..60 => Clock,
                60..75 => CrashRecord(random.one_of(&[4, 6, 7, 8, 11]), cut),
                75..85 => Cancel,
                85..89 => Value(random.one_of(&[0, 0, 1, 30, 90])),
                89 => Panicked,
                90 => Exited(code),
                91 => Lost,
                92 => NotStarted,
                93 => random.one_of(&[Junk, HookHeld, LastCrashRecord(11)]),
                94..96 => GoneByExit(code, cut),
                96..98 => GoneBySignal(random.one_of(&[6, 9, 11, 15]), cut),
                _ => GoneUnknown(cut),
            };
            longest = longest.max(step);
            let moment = watch.begin + ms(now);
            over = watch.judge(happens, moment, supervisor.on(happens.event(), moment));
            if over {
                break;
            }
        }
        // Whatever it was, two looks at the clock end it: one for the deadline, one for the grace.
        for _ in 0..2 {
            if let (false, Some(last)) = (over, watch.last.instant()) {
                let moment = last.max(watch.begin + ms(now));
                over = watch.judge(Clock, moment, supervisor.on(Event::Clock, moment));
                now = u64::try_from((moment - watch.begin).as_millis()).unwrap();
            }
        }
        assert!(over || watch.last.instant().is_none(), "sequence {sequence} goes on for ever");
    }
    assert!(longest > 20, "no sequence was long: {longest}");
}
