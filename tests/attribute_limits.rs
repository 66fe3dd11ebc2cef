//! The limit and the options of `#[timeout]`: every way to write them, and what the call makes of them.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    thread,
    time::{Duration, Instant},
};

use timeout_runtime::{Cancel, Ran, Reason, TimedOut, timeout};

/// The limit the call was made with: every function it is asked about panics, because an error knows it.
fn limit_of<T>(result: Result<T, TimedOut>) -> Duration {
    let error = result.err().expect("the function panics");
    assert!(error.is_panic(), "{error}");
    error.limit()
}

macro_rules! failing {
    ($($name:ident: $limit:expr;)*) => { $( #[timeout($limit)] fn $name() { panic!("on purpose") } )* };
}

mod literals {
    use super::*;

    failing! {
        seconds: 20;
        typed_seconds: 20u8;
        fraction: 20.25;
        typed_fraction: 20.5f32;
        exponent: 2e1;
        nanoseconds: 20_000_000_001ns;
        microseconds: 20_000_000us;
        milliseconds: 20_250ms;
        unit: 20.5s;
        minutes: 2m;
        long_minutes: 2min;
        hours: 1h;
        days: 1d;
        text: "1m 30s";
        dense_text: "1m30s250ms";
        blank: "1.5 m";
    }

    #[test]
    fn are_exact() {
        for (limit, expected) in [
            (limit_of(seconds()), Duration::from_secs(20)),
            (limit_of(typed_seconds()), Duration::from_secs(20)),
            (limit_of(fraction()), Duration::from_millis(20_250)),
            (limit_of(typed_fraction()), Duration::from_millis(20_500)),
            (limit_of(exponent()), Duration::from_secs(20)),
            (limit_of(nanoseconds()), Duration::new(20, 1)),
            (limit_of(microseconds()), Duration::from_secs(20)),
            (limit_of(milliseconds()), Duration::from_millis(20_250)),
            (limit_of(unit()), Duration::from_millis(20_500)),
            (limit_of(minutes()), Duration::from_secs(120)),
            (limit_of(long_minutes()), Duration::from_secs(120)),
            (limit_of(hours()), Duration::from_secs(3_600)),
            (limit_of(days()), Duration::from_secs(86_400)),
            (limit_of(text()), Duration::from_secs(90)),
            (limit_of(dense_text()), Duration::from_millis(90_250)),
            (limit_of(blank()), Duration::from_secs(90)),
        ] {
            assert_eq!(limit, expected);
        }
    }
}

mod expressions {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(21);

    failing! {
        constant: LIMIT;
        reference: &LIMIT;
        arithmetic: LIMIT * 2;
        number: 7 * 3;
        block: { let seconds = 10.5; seconds * 2.0 };
        choice: if cfg!(unix) { LIMIT } else { Duration::MAX };
        no_limit: Duration::MAX;
    }

    #[timeout(limit)]
    fn argument(limit: Duration) {
        panic!("on purpose")
    }

    #[timeout(*seconds as f64 / 2.0)]
    fn borrowed_argument(seconds: &u32) {
        panic!("on purpose")
    }

    #[timeout(N)]
    fn const_generic<const N: u64>() {
        panic!("on purpose")
    }

    struct Solver {
        limit: Duration,
        uses: Cell<u32>,
    }

    impl Solver {
        const LIMIT: u64 = 23;

        #[timeout(self.limit)]
        fn field(&self) {
            panic!("on purpose")
        }

        #[timeout(self.next_limit(), grace = self.limit)]
        fn method(&self) {
            panic!("on purpose")
        }

        #[timeout(Self::LIMIT)]
        fn associated(self) {
            panic!("on purpose")
        }

        fn next_limit(&self) -> Duration {
            self.uses.set(self.uses.get() + 1);
            self.limit + Duration::from_secs(1)
        }
    }

    #[test]
    fn are_evaluated_in_the_scope_of_the_function() {
        assert_eq!(limit_of(constant()), LIMIT);
        assert_eq!(limit_of(reference()), LIMIT);
        assert_eq!(limit_of(arithmetic()), LIMIT * 2);
        assert_eq!(limit_of(number()), LIMIT);
        assert_eq!(limit_of(block()), LIMIT);
        assert_eq!(limit_of(choice()), LIMIT);
        assert_eq!(limit_of(no_limit()), Duration::MAX);
        assert_eq!(limit_of(argument(LIMIT)), LIMIT);
        assert_eq!(limit_of(borrowed_argument(&42)), LIMIT);
        assert_eq!(limit_of(const_generic::<21>()), LIMIT);
        let solver = Solver { limit: LIMIT, uses: Cell::new(0) };
        assert_eq!(limit_of(solver.field()), LIMIT);
        assert_eq!(limit_of(solver.method()), LIMIT + Duration::from_secs(1));
        assert_eq!(solver.uses.get(), 1, "the limit is computed once, and here");
        assert_eq!(limit_of(solver.associated()), Duration::from_secs(23));
    }

    #[timeout(shared.borrow_mut().as_secs())]
    fn locked(shared: &RefCell<Duration>) -> u64 {
        shared.borrow_mut().as_secs()
    }

    #[test]
    fn let_go_of_what_they_hold_before_the_body_starts() {
        assert_eq!(locked(&RefCell::new(LIMIT)).unwrap(), 21);
    }

    #[test]
    fn of_zero_start_nothing() {
        let error = argument(Duration::ZERO).unwrap_err();
        assert!(error.is_late());
        assert_eq!(error.ran(), Ran::No);
    }

    #[timeout(seconds)]
    fn number_of_seconds(seconds: f64) {}

    #[test]
    fn that_are_no_time_panic_at_the_callers_line() {
        for seconds in [f64::NAN, -1.0] {
            let line = line!() + 1;
            let (message, file, at) = panic_of(|| drop(number_of_seconds(seconds)));
            assert_eq!((&*file, at), (file!(), line), "{message}");
            assert!(message.starts_with("a limit of "), "{message}");
        }
    }

    /// The message, file and line of a panic of this thread, as the hook is told: the payload does not have the place.
    fn panic_of(call: impl FnOnce()) -> (String, String, u32) {
        thread_local!(static PLACE: RefCell<Option<(String, u32)>> = const { RefCell::new(None) });
        let before = take_hook();
        set_hook(Box::new(move |info| {
            PLACE.set(info.location().map(|place| (place.file().to_owned(), place.line())));
            before(info);
        }));
        let payload = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        let text = payload.downcast_ref::<&str>().map(|text| String::from(*text));
        let (file, line) = PLACE.take().unwrap();
        (text.or_else(|| payload.downcast_ref().cloned()).unwrap_or_default(), file, line)
    }
}

#[timeout(100ms)]
fn sleeps() {
    thread::sleep(Duration::from_secs(600));
}

#[timeout(100ms, grace = 600)]
fn ends_when_asked() {
    thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_late_body_is_left() {
    let begin = Instant::now();
    let error = sleeps().unwrap_err();
    assert!(error.is_late());
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_grace_ends_with_the_body() {
    let begin = Instant::now();
    assert!(ends_when_asked().unwrap_err().is_late());
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[timeout(60)]
fn panic_as_a_value() {
    panic!("the message of the body");
}

const PANIC_AGAIN: u32 = line!() + 5;

#[timeout(60, panic = "resume")]
fn panic_again(list: &mut Vec<u8>) {
    list.clear();
    panic!("the message of the body");
}

#[test]
fn a_panic_is_a_value() {
    let error = panic_as_a_value().unwrap_err();
    assert!(error.is_panic());
    assert!(error.to_string().contains("the message of the body"), "{error}");
}

#[test]
fn a_panic_is_raised_again_if_so_wished() {
    let payload = std::panic::catch_unwind(|| panic_again(&mut vec![1])).unwrap_err();
    let message = payload.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("the message of the body\n"), "{message}");
    assert!(message.contains(&format!(", at {}:{PANIC_AGAIN}:", file!())), "{message}");
}

#[timeout(60, start = fork, crate = timeout_runtime)]
fn every_other_option() -> u8 {
    1
}

#[test]
fn the_other_options_are_understood() {
    assert_eq!(every_other_option().unwrap(), 1);
}

#[test]
fn a_token_ends_a_call_from_elsewhere() {
    #[timeout(60, cancel = token)]
    fn sleeps(token: &Cancel) {
        thread::sleep(Duration::from_secs(600));
    }

    let token = Cancel::new();
    let begin = Instant::now();
    thread::scope(|scope| {
        let call = scope.spawn(|| sleeps(&token).unwrap_err());
        token.cancel();
        assert!(matches!(call.join().unwrap().reason(), Reason::Cancelled));
    });
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    // For good: the next call with it is not started.
    assert_eq!(sleeps(&token).unwrap_err().ran(), Ran::No);
}

common::whole_file::leaves_no_process!();

mod common;
