//! Errors of a program's own come back: by serde, by `PortableError`, or as text; and each takes the first of these.

mod common;

use std::{
    error::Error,
    fmt, fs, io,
    num::ParseIntError,
    time::{Duration, Instant},
};

use common::{
    LONG, SOON, Start, assert_fails,
    chain::{Opaque, chain, deep, find_io},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use timeout_runtime::{PortableError, Ran, Reason, RemoteError, TimedOut, timeout};

common::scenarios_everywhere![
    an_own_error_comes_back_by_serde_with_an_io_error_in_it,
    an_own_error_comes_back_by_its_trait,
    an_own_error_comes_back_as_text,
    an_error_with_serde_takes_no_other_way,
    generic_functions_and_traits_bring_errors_home,
];

// Their errors come from closures that have something with them.
common::scenarios_by_fork![
    an_error_that_panics_on_its_way_is_lost_and_named,
    an_error_that_never_ends_on_its_way_is_late_and_named,
];

/// The attribute's limit: nothing in a passing test meets it.
const AMPLE: Duration = LONG;

/// An error with serde and an io field.
#[derive(Debug, Serialize, Deserialize)]
enum LoadError {
    Read {
        path: String,
        #[serde(with = "timeout_runtime::io_error")]
        error: io::Error,
    },
    Empty,
}

type Loaded = Result<String, LoadError>;

/// The same functions by each start method.
macro_rules! functions {
    ($($start:ident)?) => {
        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn load(path: &str) -> Loaded {
            let text = fs::read_to_string(path).map_err(|error| LoadError::Read { path: path.into(), error })?;
            if text.is_empty() { Err(LoadError::Empty) } else { Ok(text) }
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn list(path: &str) -> Result<usize, ListError> {
            match fs::read_to_string(path).map_err(ListError::Open)?.lines().count() {
                0 => Err(ListError::Line(7)),
                lines => Ok(lines),
            }
        }

        #[timeout(AMPLE, error = text $(, start = $start)?)]
        pub(super) fn parse(text: &str, calls: &mut u32) -> Result<i32, Failure> {
            *calls += 1;
            if text == "deep" { Err(Failure::Deep(deep())) } else { text.parse().map_err(Failure::Number) }
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn both() -> Result<(), Both> {
            Err(Both("by serde".into()))
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn generic_value<T: Clone + Serialize + DeserializeOwned>(value: &T, well: bool) -> Result<T, io::Error> {
            if well { Ok(value.clone()) } else { Err(io::ErrorKind::Unsupported.into()) }
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn generic_error_with_serde<E: Serialize + DeserializeOwned>(error: E) -> Result<(), E> {
            Err(error)
        }
    };
}

common::by_each_start_method!(functions);

fn an_own_error_comes_back_by_serde_with_an_io_error_in_it(start: Start) {
    let load = common::by!(start, load);
    let check = |error: LoadError| match error {
        LoadError::Read { path, error } => assert_eq!((&*path, error.raw_os_error()), ("/no/such/file", Some(2))),
        LoadError::Empty => panic!("another variant"),
    };
    check(load("/no/such/file").unwrap().unwrap_err());
    assert!(matches!(load("/dev/null").unwrap(), Err(LoadError::Empty)));
    let error = || LoadError::Read { path: "/no/such/file".into(), error: io::Error::from_raw_os_error(2) };
    check(start.call(LONG).run(|| Err::<u8, _>(error())).unwrap().unwrap_err());
    // The same error where it is no result's.
    check(start.call(LONG).run(error).unwrap());
}

/// An error that says itself how it travels.
#[derive(Debug)]
enum ListError {
    Open(io::Error),
    Line(usize),
}

impl PortableError for ListError {
    type Wire = Result<usize, RemoteError>;

    fn to_wire(&self) -> Self::Wire {
        match self {
            Self::Line(line) => Ok(*line),
            Self::Open(error) => Err(RemoteError::of(error)),
        }
    }

    fn from_wire(wire: Self::Wire) -> Self {
        wire.map_or_else(|error| Self::Open(error.into()), Self::Line)
    }
}

fn an_own_error_comes_back_by_its_trait(start: Start) {
    let list = common::by!(start, list);
    let error = list("/no/such/file").unwrap().unwrap_err();
    assert!(matches!(error, ListError::Open(error) if error.raw_os_error() == Some(2)));
    assert!(matches!(list("/dev/null").unwrap(), Err(ListError::Line(7))));
    let line = start.call(LONG).run_result(|| Err::<(), _>(ListError::Line(8))).unwrap();
    assert!(matches!(line, Err(ListError::Line(8))));
}

/// An error that comes back as a text, whatever it was.
#[derive(Debug)]
enum Failure {
    Number(ParseIntError),
    Deep(Opaque),
    Remote(RemoteError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(_) => f.write_str("no number"),
            Self::Deep(_) => f.write_str("deep down"),
            Self::Remote(error) => error.fmt(f),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Number(error) => Some(error),
            Self::Deep(error) => Some(error),
            Self::Remote(error) => error.source(),
        }
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

fn an_own_error_comes_back_as_text(start: Start) {
    let parse = common::by!(start, parse);
    let mut calls = 0;
    assert_eq!(parse("7", &mut calls).unwrap().unwrap(), 7);
    let error = parse("x", &mut calls).unwrap().unwrap_err();
    assert!(matches!(error, Failure::Remote(_)));
    let original = Failure::Number("x".parse::<i32>().unwrap_err());
    let texts = |error: &Failure| (error.to_string(), error.source().map(chain));
    assert_eq!(texts(&error), texts(&original));
    let error = parse("deep", &mut calls).unwrap().unwrap_err();
    assert_eq!(texts(&error), texts(&Failure::Deep(deep())));
    assert!(find_io(&error).is_some());
    assert_eq!(calls, 3);
}

/// An error that has both, and must not use the trait.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Both(String);

impl PortableError for Both {
    type Wire = ();

    fn to_wire(&self) {
        panic!("it has serde")
    }

    fn from_wire((): ()) -> Self {
        panic!("it has serde")
    }
}

fn an_error_with_serde_takes_no_other_way(start: Start) {
    let both = common::by!(start, both);
    assert_eq!(both().unwrap(), Err(Both("by serde".into())));
    let error = start.call(LONG).run(|| Err::<(), _>(Both("by serde".into()))).unwrap();
    assert_eq!(error, Err(Both("by serde".into())));
    // The control: asked to, it does take the other way, and is lost there.
    assert_fails!(start.call(LONG).run_result(|| Err::<(), _>(Both(String::new()))), Reason::Lost { .. }, Ran::Yes);
}

#[timeout(AMPLE)]
fn generic_error<E: PortableError>(error: impl Fn() -> E) -> Result<(), E> {
    Err(error())
}

trait Source {
    type Item: Serialize + DeserializeOwned;
    type Error: PortableError;

    fn next(&mut self) -> Result<Result<Self::Item, Self::Error>, TimedOut>;
}

#[derive(Serialize, Deserialize)]
struct Countdown(u32);

impl Source for Countdown {
    type Item = u32;
    type Error = io::Error;

    #[timeout(AMPLE)]
    fn next(&mut self) -> Result<Self::Item, Self::Error> {
        self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(self.0)
    }
}

impl<S: Source> Source for Box<S>
where
    Box<S>: Serialize + DeserializeOwned,
{
    type Item = S::Item;
    type Error = S::Error;

    #[timeout(AMPLE)]
    fn next(&mut self) -> Result<S::Item, S::Error> {
        S::next(self).unwrap()
    }
}

fn generic_functions_and_traits_bring_errors_home(start: Start) {
    assert_eq!(common::by!(start, generic_value)(&"x".to_owned(), true).unwrap().unwrap(), "x");
    assert_eq!(common::by!(start, generic_value)(&1, false).unwrap().unwrap_err().kind(), io::ErrorKind::Unsupported);
    let error = generic_error(|| io::Error::from_raw_os_error(5)).unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
    assert_eq!(common::by!(start, generic_error_with_serde)(7).unwrap().unwrap_err(), 7);
    let mut countdown = Box::new(Countdown(2));
    assert_eq!(countdown.next().unwrap().unwrap(), 1);
    assert_eq!((*countdown).next().unwrap().unwrap(), 0);
    assert_eq!(countdown.next().unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

/// An error that does as it is told on its way out, and on its way back.
struct Stubborn {
    out: Deed,
    back: Deed,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Deed {
    Obey,
    Panic,
    Loop,
}

impl Deed {
    fn done(self) -> Deed {
        match self {
            Deed::Obey => self,
            Deed::Panic => panic!("not with me"),
            Deed::Loop => loop {
                std::hint::spin_loop();
            },
        }
    }
}

impl PortableError for Stubborn {
    type Wire = (Deed, Deed);

    fn to_wire(&self) -> (Deed, Deed) {
        (self.out.done(), self.back)
    }

    fn from_wire((out, back): (Deed, Deed)) -> Stubborn {
        Stubborn { out, back: back.done() }
    }
}

fn an_error_that_panics_on_its_way_is_lost_and_named(start: Start) {
    let fail = |out, back| start.call(LONG).run_result(move || Err::<(), _>(Stubborn { out, back }));
    assert!(fail(Deed::Obey, Deed::Obey).unwrap().is_err());
    for (out, back, name) in [(Deed::Panic, Deed::Obey, "`Serialize`"), (Deed::Obey, Deed::Panic, "`Deserialize`")] {
        let begin = Instant::now();
        let error = assert_fails!(fail(out, back), Reason::Lost { .. }, Ran::Yes);
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("not with me") && text.contains("errors.rs"), "{text}");
        assert!(begin.elapsed() < SOON);
    }
}

fn an_error_that_never_ends_on_its_way_is_late_and_named(start: Start) {
    let limit = Duration::from_millis(300);
    for (out, back, name) in [(Deed::Loop, Deed::Obey, "`Serialize`"), (Deed::Obey, Deed::Loop, "`Deserialize`")] {
        let begin = Instant::now();
        let result = start.call(limit).run_result(move || Err::<(), _>(Stubborn { out, back }));
        let elapsed = begin.elapsed();
        let error = assert_fails!(result, Reason::Late { .. }, Ran::Yes);
        assert!(error.to_string().contains(name), "{error}");
        assert!(elapsed >= limit && elapsed < SOON, "{elapsed:?}");
    }
}
