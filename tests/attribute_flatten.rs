//! `#[timeout(…, flatten)]`: the signature stays as it is written, and a failed call is an error of the function's own.

use std::{
    error::Error,
    fmt, fs,
    io::{self, Read},
    panic::catch_unwind,
    process,
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use timeout_runtime::{Cancel, PortableError, Ran, Reason, RemoteError, TimedOut, timeout};

/// A limit that nothing in a passing test meets.
const AMPLE: Duration = Duration::from_secs(60);

/// How a body ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Well,
    Error,
    Late,
    Panic,
    Exit,
}

impl End {
    fn come(self) -> io::Result<u32> {
        match self {
            Self::Well => Ok(7),
            Self::Error => Err(io::Error::from_raw_os_error(2)),
            Self::Late => never(),
            Self::Panic => panic!("on purpose"),
            Self::Exit => process::exit(3),
        }
    }

    fn limit(self) -> Duration {
        if let Self::Late = self { Duration::from_millis(100) } else { AMPLE }
    }
}

fn never() -> ! {
    loop {
        thread::sleep(Duration::from_secs(600));
    }
}

#[timeout(end.limit(), flatten)]
fn io(end: End) -> io::Result<u32> {
    end.come()
}

#[test]
fn an_io_result_holds_values_errors_and_failed_calls() {
    // The written signature, and no other.
    let io: fn(End) -> io::Result<u32> = io;
    assert_eq!(io(End::Well).unwrap(), 7);
    let own = io(End::Error).unwrap_err();
    assert_eq!((own.kind(), own.raw_os_error()), (io::ErrorKind::NotFound, Some(2)));

    let begin = Instant::now();
    let late = io(End::Late).unwrap_err();
    assert!(begin.elapsed() >= End::Late.limit() && begin.elapsed() < Duration::from_secs(10));
    assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    let failure = late.get_ref().and_then(|inner| inner.downcast_ref::<TimedOut>()).unwrap();
    assert!(failure.is_late() && failure.function().ends_with("::io"), "{failure}");

    for end in [End::Panic, End::Exit] {
        let error = io(end).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other);
        assert!(error.get_ref().is_some_and(|inner| inner.is::<TimedOut>()), "{error:?}");
    }
    assert!(io(End::Panic).unwrap_err().to_string().contains("on purpose"));
}

#[timeout(end.limit(), flatten)]
fn boxed(end: End) -> Result<u32, Box<dyn Error + Send + Sync>> {
    Ok(end.come()?)
}

#[timeout(end.limit(), flatten)]
fn boxed_for_one_thread(end: End) -> Result<u32, Box<dyn Error>> {
    Ok(end.come()?)
}

#[timeout(end.limit(), flatten)]
fn anyhow(end: End) -> anyhow::Result<u32> {
    Ok(end.come()?)
}

#[timeout(end.limit(), flatten)]
fn eyre(end: End) -> eyre::Result<u32> {
    Ok(end.come()?)
}

#[test]
fn boxed_anyhow_and_eyre_errors_hold_a_failed_call() {
    let kind = |error: Option<&io::Error>| error.map(io::Error::kind);
    let not_found = Some(io::ErrorKind::NotFound);
    assert_eq!(boxed(End::Well).unwrap(), 7);
    assert_eq!(kind(boxed(End::Error).unwrap_err().downcast_ref()), not_found);
    assert!(boxed(End::Late).unwrap_err().downcast_ref::<TimedOut>().is_some_and(TimedOut::is_late));
    assert_eq!(kind(boxed_for_one_thread(End::Error).unwrap_err().downcast_ref()), not_found);
    assert!(boxed_for_one_thread(End::Panic).unwrap_err().is::<TimedOut>());
    assert_eq!(anyhow(End::Well).unwrap(), 7);
    assert_eq!(kind(anyhow(End::Error).unwrap_err().downcast_ref()), not_found);
    assert!(anyhow(End::Exit).unwrap_err().is::<TimedOut>());
    assert_eq!(eyre(End::Well).unwrap(), 7);
    assert_eq!(kind(eyre(End::Error).unwrap_err().downcast_ref()), not_found);
    assert!(eyre(End::Late).unwrap_err().is::<TimedOut>());
}

/// An error of the program's own, with a place for a failed call. It travels by serde, which a failed call never does.
#[derive(Debug, Serialize, Deserialize)]
enum Failure {
    Own(u8),
    #[serde(skip)]
    Call(TimedOut),
}

impl From<TimedOut> for Failure {
    fn from(error: TimedOut) -> Self {
        Self::Call(error)
    }
}

type Outcome<T = u32> = Result<T, Failure>;

#[timeout(end.limit(), flatten)]
fn alias(end: End) -> Outcome {
    end.come().map_err(|error| Failure::Own(error.raw_os_error().unwrap_or(0) as u8))
}

#[timeout(AMPLE, flatten)]
fn generic<E: PortableError + From<TimedOut>>(error: impl Fn() -> Option<E>) -> Result<(), E> {
    Err(error().unwrap())
}

/// An error that comes back as text.
#[derive(Debug)]
struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Told {}

impl From<RemoteError> for Told {
    fn from(error: RemoteError) -> Self {
        Self(format!("told: {error}"))
    }
}

impl From<TimedOut> for Told {
    fn from(error: TimedOut) -> Self {
        Self(format!("failed: {error}"))
    }
}

#[timeout(end.limit(), flatten, error = text)]
fn told(end: End) -> Result<u32, Told> {
    end.come().map_err(|error| Told(error.kind().to_string()))
}

#[test]
fn own_errors_aliases_and_generics_hold_a_failed_call() {
    assert_eq!(alias(End::Well).unwrap(), 7);
    assert!(matches!(alias(End::Error), Err(Failure::Own(2))));
    assert!(matches!(alias(End::Late), Err(Failure::Call(error)) if error.is_late()));
    assert_eq!(generic(|| Some(io::Error::from_raw_os_error(9))).unwrap_err().raw_os_error(), Some(9));
    assert!(generic(|| None::<Box<dyn Error>>).unwrap_err().is::<TimedOut>());
    assert_eq!(told(End::Error).unwrap_err().0, "told: entity not found");
    assert!(told(End::Late).unwrap_err().0.contains("did not return within 100 ms"));
}

/// Reads a few bytes, and then nothing for ever.
#[derive(Serialize, Deserialize)]
struct Stuck {
    left: Vec<u8>,
}

impl Read for Stuck {
    #[timeout(300ms, flatten)]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() {
            buffer.fill(9);
            never();
        }
        let taken = self.left.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.left[..taken]);
        self.left.drain(..taken);
        Ok(taken)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Number(u32);

impl FromStr for Number {
    type Err = io::Error;

    #[timeout(AMPLE, flatten)]
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Number).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

#[test]
fn a_method_of_a_trait_keeps_the_signature_that_the_trait_gives() {
    let mut stuck = Stuck { left: vec![1, 2, 3] };
    let mut buffer = [0; 2];
    stuck.read_exact(&mut buffer).unwrap();
    assert_eq!((buffer, &*stuck.left), ([1, 2], &[3][..]));
    assert_eq!(stuck.read(&mut buffer).unwrap(), 1);
    assert_eq!(buffer, [3, 2]);
    let error = stuck.read(&mut buffer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(buffer, [3, 2], "a failed call has changed its argument");
    assert_eq!("12".parse::<Number>().unwrap().0, 12);
    assert_eq!("x".parse::<Number>().unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[timeout(end.limit(), flatten)]
fn writes(end: End, list: &mut Vec<u8>) -> io::Result<u32> {
    list.push(1);
    end.come()
}

#[test]
fn arguments_are_written_back_unless_the_call_fails() {
    let mut list = vec![];
    assert_eq!(writes(End::Well, &mut list).unwrap(), 7);
    assert!(writes(End::Error, &mut list).is_err());
    assert_eq!(list, [1, 1], "an error of the body is a value");
    assert!(writes(End::Late, &mut list).is_err());
    assert_eq!(list, [1, 1]);
}

#[timeout(end.limit(), flatten, grace = 5s, panic = "resume", cancel = token, start = fork)]
fn with_options(end: End, token: &Cancel) -> anyhow::Result<u32> {
    Ok(end.come()?)
}

#[test]
fn every_option_goes_with_it() {
    let token = Cancel::new();
    assert_eq!(with_options(End::Well, &token).unwrap(), 7);
    let payload = catch_unwind(|| with_options(End::Panic, &token)).unwrap_err();
    assert!(payload.downcast_ref::<String>().unwrap().starts_with("on purpose"));
    let begin = Instant::now();
    let late = with_options(End::Late, &token).unwrap_err().downcast::<TimedOut>().unwrap();
    // The body has no handler: it is gone as soon as it is asked to end.
    assert!(late.is_late() && begin.elapsed() < Duration::from_secs(4), "{late:?} after {:?}", begin.elapsed());
    token.cancel();
    let error = with_options(End::Well, &token).unwrap_err().downcast::<TimedOut>().unwrap();
    assert!(matches!(error.reason(), Reason::Cancelled) && error.ran() == Ran::No);
}

#[test]
fn a_question_mark_passes_everything_on() {
    fn program(path: &str, end: End) -> Result<u32, Box<dyn Error>> {
        let text = fs::read_to_string(path)?;
        Ok(io(end)? + text.len() as u32)
    }
    assert_eq!(program("/dev/null", End::Well).unwrap(), 7);
    let error = program("/dev/null", End::Late).unwrap_err();
    assert_eq!(error.downcast_ref::<io::Error>().map(io::Error::kind), Some(io::ErrorKind::TimedOut));
}

#[test]
fn an_error_names_the_line_of_the_call() {
    let line = line!() + 1;
    let error = boxed(End::Panic).unwrap_err().downcast::<TimedOut>().unwrap();
    assert_eq!((error.called_from().file(), error.called_from().line()), (file!(), line));
}

#[test]
#[timeout(AMPLE, flatten)]
fn test_above() -> io::Result<()> {
    io(End::Well).map(drop)
}

#[timeout(AMPLE, flatten)]
#[test]
fn test_below() -> Result<(), Box<dyn Error>> {
    Ok(io(End::Well).map(drop)?)
}

#[tokio::test]
#[timeout(AMPLE, flatten)]
async fn tokio_above() -> anyhow::Result<()> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(())
}

#[timeout(AMPLE, flatten)]
#[tokio::test]
async fn tokio_below() -> eyre::Result<()> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(())
}

common::whole_file::leaves_no_process!();

mod common;
