//! `start = forkserver` on every kind of function whose arguments can travel, and the same results as without it.

use std::{
    cell::Cell,
    collections::BTreeMap,
    ffi::OsStr,
    fmt::{self, Display},
    io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use timeout_runtime::{Cancel, Ran, Reason, timeout};

/// The caller's own number, and a proof that the body is elsewhere.
static HERE: AtomicU32 = AtomicU32::new(0);

fn is_elsewhere() -> bool {
    HERE.load(Ordering::Relaxed) == 0
}

fn here() {
    HERE.store(process::id(), Ordering::Relaxed);
}

#[timeout(20, start = forkserver)]
fn owned(text: String, numbers: Vec<u64>, map: BTreeMap<u8, Option<char>>) -> (String, u64, usize, bool) {
    (text + "!", numbers.iter().sum(), map.len(), is_elsewhere())
}

#[test]
fn owned_arguments_travel() {
    here();
    let map = BTreeMap::from([(1, None), (2, Some('x'))]);
    assert_eq!(owned("a".into(), vec![1, 2], map).unwrap(), ("a!".into(), 3, 2, true));
}

#[timeout(20, start = forkserver)]
fn borrowed<'a>(
    text: &'a str,
    bytes: &[u8],
    pairs: &'a [(u8, String)],
    path: &Path,
    name: &OsStr,
    map: &BTreeMap<u8, u8>,
) -> String {
    let longest: &'a str = pairs.iter().map(|(_, text)| text.as_str()).max_by_key(|text| text.len()).unwrap_or(text);
    format!("{text} {bytes:?} {longest} {path:?} {name:?} {map:?}")
}

#[test]
fn borrowed_arguments_travel_in_their_owned_form() {
    let pairs = [(1, "long".to_string()), (2, "longer".to_string())];
    let told = borrowed("t", &[1, 2], &pairs, Path::new("/a/b"), OsStr::new("n"), &BTreeMap::from([(3, 4)]));
    assert_eq!(told.unwrap(), r#"t [1, 2] longer "/a/b" "n" {3: 4}"#);
}

#[timeout(20, start = forkserver)]
fn patterns((a, mut b): (u8, u8), [first, .., last]: [u16; 4], mut total: u32, _: String, _unused: u8) -> u32 {
    b += a;
    total += u32::from(b) + u32::from(first) + u32::from(last);
    total
}

#[test]
fn patterns_are_matched_in_the_worker() {
    assert_eq!(patterns((1, 2), [10, 20, 30, 40], 100, String::new(), 0).unwrap(), 153);
}

#[timeout(20, start = forkserver)]
fn generic<T, const N: usize>(items: &[T], extra: T) -> [Option<T>; N]
where
    T: Serialize + DeserializeOwned + Clone + PartialEq,
    [Option<T>; N]: Serialize + DeserializeOwned,
{
    let mut found = items.iter().filter(|item| **item != extra).cloned();
    std::array::from_fn(|_| found.next())
}

#[test]
fn every_instance_of_a_generic_function_is_found() {
    assert_eq!(generic::<u8, 2>(&[1, 2, 3], 2).unwrap(), [Some(1), Some(3)]);
    assert_eq!(generic::<String, 1>(&["a".into()], "a".into()).unwrap(), [None]);
}

#[timeout(20, start = forkserver)]
fn opaque(value: impl Display + Serialize + DeserializeOwned) -> String {
    format!("<{value}>")
}

#[test]
fn an_impl_argument_with_serde_travels() {
    assert_eq!(opaque(7).unwrap(), "<7>");
    assert_eq!(opaque('x').unwrap(), "<x>");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Counter {
    count: u32,
    name: String,
}

impl Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.count)
    }
}

trait Steps {
    fn step(&mut self, by: u32) -> Result<u32, timeout_runtime::TimedOut>;
    fn twice(&self) -> Result<Self, timeout_runtime::TimedOut>
    where
        Self: Sized;
}

impl Counter {
    #[timeout(20, start = forkserver)]
    fn named(name: &str) -> Self {
        Self { count: 0, name: name.to_owned() }
    }

    #[timeout(20, start = forkserver)]
    fn show(&self) -> String {
        // Every way in which a body names its object.
        let inner = || self.count;
        format!("{self} {self:?} {} {}", self.name, inner())
    }

    #[timeout(20, start = forkserver)]
    fn take(mut self) -> Self {
        self.count += 1;
        self
    }

    #[timeout(20, start = forkserver)]
    fn boxed(self: Box<Self>, other: &mut Counter) -> u32 {
        other.count = self.count;
        std::mem::take(&mut other.count) + 1
    }

    #[timeout(20, start = forkserver)]
    fn fail_after(&mut self, by: u32) {
        self.count += by;
        process::exit(1)
    }

    // The same name as the trait's.
    fn twice(&self) -> &'static str {
        "the other one"
    }
}

impl Steps for Counter {
    #[timeout(20, start = forkserver)]
    fn step(&mut self, by: u32) -> u32 {
        self.count += by;
        self.count
    }

    #[timeout(20, start = forkserver)]
    fn twice(&self) -> Self {
        Self { count: self.count * 2, ..self.clone() }
    }
}

#[test]
fn methods_travel_with_their_object() {
    let mut counter = Counter::named("c").unwrap();
    assert_eq!(counter.step(3).unwrap(), 3);
    assert_eq!(counter.count, 3, "the change has come back");
    assert_eq!(counter.show().unwrap(), r#"c: 3 Counter { count: 3, name: "c" } c 3"#);
    assert_eq!(Steps::twice(&counter).unwrap().count, 6);
    assert_eq!(counter.twice(), "the other one");
    let mut counter = counter.take().unwrap();
    assert_eq!(counter.count, 4);
    assert_eq!(Box::new(counter.clone()).boxed(&mut counter).unwrap(), 5);
    assert_eq!(counter.count, 0);
    counter.fail_after(100).unwrap_err();
    assert_eq!(counter.count, 0, "a failed call has changed its object");
}

#[timeout(20, start = forkserver)]
fn change(list: &mut Vec<u8>, mut slice: &mut [u16], text: &mut String) -> usize {
    list.push(9);
    slice[0] = 7;
    slice = &mut slice[1..];
    slice[0] = 8;
    text.push('!');
    list.len()
}

#[test]
fn changes_come_back_all_together() {
    let (mut list, mut array, mut text) = (vec![1], [0, 0, 0], "a".to_string());
    assert_eq!(change(&mut list, &mut array, &mut text).unwrap(), 2);
    assert_eq!((list, array, text.as_str()), (vec![1, 9], [7, 8, 0], "a!"));
}

#[timeout(20, start = forkserver)]
fn reads(path: &Path) -> io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    Ok(text)
}

#[timeout(20, start = forkserver, flatten)]
fn flat(path: PathBuf) -> io::Result<usize> {
    Ok(std::fs::read(path)?.len())
}

#[test]
fn errors_without_serde_come_back() {
    assert_eq!(reads(Path::new("/no/such/file")).unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(flat("/no/such/file".into()).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[timeout(0.1, start = forkserver)]
fn never(_label: &str) -> ! {
    loop {
        std::thread::yield_now();
    }
}

const RESUMES: u32 = line!() + 4;

#[timeout(limit / 2.0, start = forkserver, panic = "resume")]
fn resumes(limit: f64) -> f64 {
    assert!(limit < 50.0, "too long");
    limit
}

static CANCEL: std::sync::LazyLock<Cancel> = std::sync::LazyLock::new(Cancel::new);

#[timeout(50, start = forkserver, grace = 1, cancel = &CANCEL)]
fn cancelled() -> u32 {
    std::thread::sleep(std::time::Duration::from_secs(50));
    1
}

#[test]
fn options_are_the_callers() {
    assert_eq!(resumes(40.0).unwrap(), 40.0);
    let caught = std::panic::catch_unwind(|| resumes(60.0)).unwrap_err();
    let message = caught.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("too long\n"), "{message}");
    assert!(message.contains(&format!(", at {}:{RESUMES}:", file!())), "{message}");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            CANCEL.cancel();
        });
        assert!(matches!(cancelled().unwrap_err().reason(), Reason::Cancelled));
    });
}

#[timeout(20, start = forkserver)]
fn sum_to(number: u64) -> u64 {
    // Each level is a call of its own, by a server of the worker's.
    if number == 0 { 0 } else { number + sum_to(number - 1).unwrap() }
}

#[test]
fn a_body_may_make_calls_itself() {
    assert_eq!(sum_to(3).unwrap(), 6);
}

#[timeout(20, start = forkserver)]
#[test]
fn a_test_may_run_in_a_worker() {
    assert!(is_elsewhere());
}

#[test]
#[timeout(20, start = forkserver)]
#[should_panic(expected = "seen from outside")]
fn a_test_that_panics_in_a_worker_panics() {
    panic!("seen from outside");
}

thread_local!(static LOCAL: Cell<u32> = const { Cell::new(1) });

#[timeout(20, start = forkserver)]
fn local() -> u32 {
    LOCAL.get()
}

#[test]
fn a_worker_has_locals_of_its_own() {
    LOCAL.set(2);
    assert_eq!(local().unwrap(), 1);
}

#[derive(Clone, Debug)]
struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("in Serialize")
    }
}

impl<'de> Deserialize<'de> for Refuses {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Refuses)
    }
}

#[timeout(20, start = forkserver)]
fn takes(value: &Refuses) -> String {
    format!("{value:?}")
}

#[test]
fn an_argument_that_cannot_be_encoded_is_not_started() {
    let error = takes(&Refuses).unwrap_err();
    assert!(matches!(error.reason(), Reason::NotStarted(_)), "{error}");
    assert_eq!(error.ran(), Ran::No);
}

mod in_a_macro {
    macro_rules! make {
        ($name:ident, $argument:ident: $ty:ty => $body:expr) => {
            #[timeout_runtime::timeout(20, start = forkserver)]
            pub(super) fn $name($argument: $ty) -> $ty {
                $body
            }
        };
    }

    make!(triple, number: u32 => number * 3);
}

#[test]
fn a_function_made_by_a_macro_travels() {
    assert_eq!(in_a_macro::triple(3).unwrap(), 9);
}

#[test]
fn a_late_body_is_told_with_the_place_of_its_call() {
    let line = line!() + 1;
    let error = never("x").unwrap_err();
    assert!(error.is_late());
    assert_eq!((error.called_from().file(), error.called_from().line()), (file!(), line));
    assert!(error.function().ends_with("attribute_server::never"), "{}", error.function());
}

common::whole_file::leaves_no_process!();

mod common;
