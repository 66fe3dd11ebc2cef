//! What a call tells a `tracing` subscriber: one span, one event if it fails, and nothing in the child.

mod common;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use common::{
    LONG, Mark, Start, procs, raw,
    subscriber::{Entry, subscriber},
};
use nix::libc;
use serde::{Deserialize, Serialize};
use timeout_runtime::{Cancel, Reason, TimedOut, timeout};
use tracing::{Level, subscriber::with_default};

common::scenarios_everywhere![
    a_call_that_returns_is_one_span,
    each_failure_is_one_event,
    a_raised_panic_is_told_first,
    a_subscriber_of_warnings_alone_hears_everything_in_the_callers_span,
];

// Their bodies have the subscriber or the caller's memory with them.
common::scenarios_by_fork![
    a_call_that_starts_nothing_is_told_without_a_process,
    the_attribute_tells_the_function,
    nothing_is_told_in_the_child,
    the_bodys_own_events_are_told_in_the_child,
    a_lock_of_the_subscriber_held_at_the_fork_holds_up_no_call,
    a_body_that_tells_something_itself_waits_for_that_lock,
    a_subscriber_that_panics_leaves_nothing_running,
];

/// The number of the process that is here.
fn here() -> u64 {
    process::id().into()
}

fn a_call_that_returns_is_one_span(start: Start) {
    let (writer, reader) = subscriber(Level::TRACE, |_| ());
    with_default(writer, || {
        let pid = start.run(&start.call(2.5), (), |()| here()).unwrap();
        let told = reader.take();
        let [span] = &*told else { panic!("{told:?}") };
        assert!(span.is_span && span.is_closed, "{span:?}");
        assert_eq!((span.name, &*span.target, span.level), ("timed_call", "timeout_runtime", Level::DEBUG));
        assert!(span.fields.text("function").contains("a_call_that_returns_is_one_span"), "{span:?}");
        assert_eq!(span.fields.text("limit"), "2.5");
        assert_eq!(span.fields.text("pid"), pid.to_string());
        assert_eq!(span.fields.text("reason"), "");
        assert!((0.0..2.5).contains(&span.fields.number("elapsed")), "{span:?}");
    });
}

#[derive(Debug, Serialize, Deserialize)]
struct Refused(#[serde(serialize_with = "refuse")] u8);

fn refuse<S: serde::Serializer>(_value: &u8, _serializer: S) -> Result<S::Ok, S::Error> {
    Err(serde::ser::Error::custom("refused"))
}

/// A way to fail, given the word for it: tells the number of its process first.
type Failing = fn(Start, &Mark) -> Result<(), TimedOut>;

const FAILURES: [(&str, Level, Failing); 8] = [
    ("late", Level::WARN, |start, mark| {
        start.run(&start.call(0.05), mark.again(), |mark: Mark| {
            mark.tell(here());
            raw::pause();
        })
    }),
    ("panicked", Level::WARN, |start, mark| {
        start.run(&start.call(LONG), mark.again(), |mark: Mark| {
            mark.tell(here());
            panic!("in the\nbody")
        })
    }),
    ("crashed", Level::WARN, |start, mark| {
        start.run(&start.call(LONG), mark.again(), |mark: Mark| {
            mark.tell(here());
            process::abort()
        })
    }),
    ("out_of_memory", Level::WARN, |start, mark| {
        start.run(&start.call(LONG).memory(64 << 20), mark.again(), |mark: Mark| {
            mark.tell(here());
            std::hint::black_box(vec![1u8; 1 << 30]);
        })
    }),
    ("out_of_cpu", Level::WARN, |start, mark| {
        start.run(&start.call(LONG).cpu(0.05), mark.again(), |mark: Mark| {
            mark.tell(here());
            loop {
                std::hint::spin_loop();
            }
        })
    }),
    ("exited", Level::WARN, |start, mark| {
        start.run(&start.call(LONG), mark.again(), |mark: Mark| {
            mark.tell(here());
            process::exit(3)
        })
    }),
    ("lost", Level::WARN, |start, mark| {
        let lost = start.run(&start.call(LONG), mark.again(), |mark: Mark| {
            mark.tell(here());
            Refused(7)
        });
        lost.map(drop)
    }),
    ("cancelled", Level::INFO, |start, mark| {
        let cancel = Cancel::new();
        let running = Mark::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                running.hear();
                cancel.cancel();
            });
            let arguments = (mark.again(), running.again());
            start.run(&start.call(LONG).cancel(&cancel), arguments, |(mark, running): (Mark, Mark)| {
                mark.tell(here());
                running.now();
                raw::pause();
            })
        })
    }),
];

/// Checks that a span and an event in it, and nothing else, told of `error`.
#[track_caller]
/// Whether `whole` says in the same order what `part` says, and more: the names of places are not looked up for an event.
fn is_part_of(part: &str, whole: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        text.split_whitespace().map(|word| word.trim_matches(['(', ')', ';']).to_owned()).collect()
    };
    let mut whole = words(whole).into_iter();
    !part.is_empty() && words(part).into_iter().all(|word| whole.any(|other| other == word))
}

fn check(told: &[Entry], reason: &str, level: Level, pid: &str, error: &TimedOut) {
    let [span, event] = told else { panic!("{reason}: {told:?}") };
    assert!(span.is_span && span.is_closed && !event.is_span, "{told:?}");
    assert_eq!((event.within, &*event.target, event.level), (1, "timeout_runtime", level), "{reason}");
    assert!(is_part_of(event.fields.text("message"), &error.to_string()), "{event:?}, {error}");
    for entry in told {
        assert_eq!(entry.fields.text("function"), error.function());
        assert_eq!(entry.fields.number("limit"), error.limit().as_secs_f64());
        assert_eq!(entry.fields.number("elapsed"), error.elapsed().as_secs_f64());
        assert_eq!(entry.fields.text("reason"), reason);
        assert_eq!(entry.fields.text("pid"), pid, "{reason}");
    }
}

fn each_failure_is_one_event(start: Start) {
    let (writer, reader) = subscriber(Level::TRACE, |_| ());
    let mark = Mark::new();
    with_default(writer, || {
        for (reason, level, fail) in FAILURES {
            let error = fail(start, &mark).unwrap_err();
            check(&reader.take(), reason, level, &mark.hear().to_string(), &error);
        }
    });
}

fn a_call_that_starts_nothing_is_told_without_a_process(start: Start) {
    let (writer, reader) = subscriber(Level::TRACE, |_| ());
    with_default(writer, || {
        let late = start.call(0).run(|| ()).unwrap_err();
        check(&reader.take(), "late", Level::WARN, "", &late);
        let before = raw::set_soft_limit(libc::RLIMIT_NOFILE, 0);
        let not_started = start.call(LONG).run(|| ()).unwrap_err();
        raw::set_soft_limit(libc::RLIMIT_NOFILE, before);
        assert!(matches!(not_started.reason(), Reason::NotStarted(_)), "{not_started:?}");
        check(&reader.take(), "not_started", Level::WARN, "", &not_started);
    });
}

fn a_raised_panic_is_told_first(start: Start) {
    let (writer, reader) = subscriber(Level::TRACE, |_| ());
    with_default(writer, || {
        let call = start.call(LONG).resume_panics();
        let raised = catch_unwind(|| start.run(&call, (), |()| -> u8 { panic!("in the body") }));
        assert!(raised.is_err());
        let told = reader.take();
        let [span, event] = &*told else { panic!("{told:?}") };
        assert!(span.is_span && span.is_closed, "{span:?}");
        assert_eq!(event.fields.text("reason"), "panicked");
    });
}

#[timeout(50ms)]
fn attributed() {
    raw::pause();
}

fn the_attribute_tells_the_function(_start: Start) {
    let (writer, reader) = subscriber(Level::INFO, |_| ());
    with_default(writer, || attributed().unwrap_err());
    let told = reader.take();
    let [event] = &*told else { panic!("{told:?}") };
    assert_eq!(event.fields.text("function"), "events::attributed");
    let message = event.fields.text("message");
    assert!(message.starts_with("`events::attributed` did not return within 50 ms: it was "), "{message}");
    assert!(!message.contains("pause"), "{message}");
}

fn a_subscriber_of_warnings_alone_hears_everything_in_the_callers_span(start: Start) {
    let (writer, reader) = subscriber(Level::WARN, |_| ());
    with_default(writer, || {
        let request = tracing::error_span!("request").entered();
        let error = start.run(&start.call(LONG), (), |()| -> u8 { panic!("in the body") }).unwrap_err();
        drop(request);
        let told = reader.take();
        let [request, event] = &*told else { panic!("{told:?}") };
        assert_eq!((request.name, event.within), ("request", 1), "{event:?}");
        assert_eq!(event.fields.text("function"), error.function());
        assert_eq!(event.fields.number("limit"), LONG.as_secs_f64());
        assert_eq!(event.fields.number("elapsed"), error.elapsed().as_secs_f64());
        assert_eq!(event.fields.text("reason"), "panicked");
        assert_ne!(event.fields.text("pid"), "");
    });
}

fn nothing_is_told_in_the_child(start: Start) {
    let (writer, reader) = subscriber(Level::TRACE, |_| ());
    let mark = Mark::new();
    with_default(writer, || {
        // Entered by the caller, and in the child as well: nobody leaves it there.
        let _request = tracing::error_span!("request").entered();
        start.call(LONG).run(|| ()).unwrap();
        for (_, _, fail) in FAILURES {
            fail(start, &mark).unwrap_err();
            // The same in a child, whose own child it ends.
            start.call(LONG).run(|| drop(fail(start, &mark))).unwrap();
        }
        let grace = start.call(0.05).grace(LONG).run(raw::pause).unwrap_err();
        assert!(grace.is_late() && grace.elapsed() < LONG, "{grace:?}");
    });
    assert!(reader.was_called_here_only());
}

fn the_bodys_own_events_are_told_in_the_child(start: Start) {
    let (writer, reader) = subscriber(Level::TRACE, |_| ());
    with_default(writer, || start.call(LONG).run(|| tracing::info!("from the body")).unwrap());
    // So the last test would have seen it, and so it is with what a body tells: here it is not in the book.
    assert!(!reader.was_called_here_only());
    assert!(reader.take().iter().all(|entry| entry.is_span));
}

/// Makes a call while another thread holds a lock of the subscriber: from when it is told that the call begins to when
/// `body` begins.
fn call_while_locked<T: Serialize + serde::de::DeserializeOwned>(
    start: Start,
    limit: Duration,
    body: fn(Start) -> T,
) -> Result<T, TimedOut> {
    let meeting = Arc::new(Barrier::new(2));
    let at_the_other_end = meeting.clone();
    let (writer, reader) = subscriber(Level::TRACE, move |entry| {
        if entry.is_span {
            at_the_other_end.wait();
            at_the_other_end.wait();
        }
    });
    let running = Mark::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            meeting.wait();
            let book = reader.lock();
            meeting.wait();
            running.hear();
            drop(book);
        });
        with_default(writer, || {
            start.call(limit).run(|| {
                running.now();
                body(start)
            })
        })
    })
}

fn a_lock_of_the_subscriber_held_at_the_fork_holds_up_no_call(start: Start) {
    assert_eq!(call_while_locked(start, LONG, |_| 7).unwrap(), 7);
    // A call made in there has nothing to tell either, and gives what it would give otherwise.
    let inner = call_while_locked(start, LONG, |start| {
        let value = start.call(LONG).run(|| 7).unwrap();
        let error = start.call(LONG).run(|| -> u8 { panic!("inside") }).unwrap_err();
        (value, error.to_string())
    });
    let (value, error) = inner.unwrap();
    assert_eq!(value, 7);
    assert!(error.ends_with("inside"), "{error}");
}

fn a_body_that_tells_something_itself_waits_for_that_lock(start: Start) {
    let limit = Duration::from_millis(100);
    let result = call_while_locked(start, limit, |_| tracing::info!("from the body"));
    assert!(result.unwrap_err().is_late());
}

fn a_subscriber_that_panics_leaves_nothing_running(start: Start) {
    for at_a_span in [true, false] {
        let (writer, _reader) = subscriber(Level::TRACE, move |entry| {
            if entry.is_span == at_a_span {
                panic!("on purpose");
            }
        });
        let begin = Instant::now();
        let call = AssertUnwindSafe(|| with_default(writer, || start.call(0.05).run(raw::pause)));
        assert!(catch_unwind(call).is_err(), "it should have panicked");
        procs::assert_alone_within(Duration::from_secs(1));
        assert!(begin.elapsed() < LONG);
    }
}
