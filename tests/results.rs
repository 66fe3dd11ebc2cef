//! `Ok` is the whole value that the body returned, whatever its size; anything else is an error that says why.

mod common;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    os::fd::{AsRawFd, RawFd},
    time::{Duration, Instant},
};

use common::{LONG, Mark, SOON, Start, assert_fails, oracle::Snapshot, procs, raw, travel::Fun};
use nix::{
    libc,
    sys::wait::{WaitStatus, waitpid},
    unistd::{SysconfVar, sysconf},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use timeout_runtime::{Ran, Reason, Resource};

common::scenarios_everywhere![
    bytes_of_every_size_come_back_equal,
    text_of_every_size_comes_back_equal,
    numbers_of_every_size_come_back_equal,
    a_struct_of_every_size_comes_back_equal,
    a_gigabyte_comes_back_equal,
    every_kind_of_value_comes_back_equal,
    a_narrow_pipe_carries_every_size,
    a_value_that_takes_longer_than_the_limit_to_send_is_late,
    a_value_that_the_format_cannot_carry_is_lost_and_says_why,
    a_value_that_the_format_would_change_is_lost_and_says_why,
    a_serialize_that_fails_is_named,
    a_deserialize_that_fails_is_named,
    a_serialize_that_panics_is_named,
    a_deserialize_that_panics_is_named,
    a_serialize_that_never_ends_is_late_and_named,
    a_deserialize_that_never_ends_is_late_and_named,
    a_serialize_that_allocates_without_end_is_over_within_the_limit,
    a_deserialize_that_allocates_without_end_is_over_within_the_limit,
    a_serialize_that_ends_the_process_is_named,
    a_deserialize_that_ends_the_process_is_named,
    a_destructor_of_the_value_does_not_run_in_the_child,
];

/// Where headers, pages, pipes and buffers end.
const SIZES: [usize; 14] =
    [0, 1, 7, 8, 9, 4095, 4096, 4097, 65_535, 65_536, 65_537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1];

/// Bytes that show whatever is lost, doubled or moved.
fn bytes(size: usize) -> Vec<u8> {
    let mut state = size as u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ state >> 33).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Clone + 'static>(start: Start, value: &T) {
    let returned = start.run(&start.call(LONG), value.clone(), |value| value);
    // No `assert_eq!`, which would print megabytes.
    assert!(returned.as_ref().is_ok_and(|returned| returned == value), "{:?}", returned.err());
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Picture {
    name: String,
    pixels: Vec<u8>,
    size: (u32, u32),
}

fn bytes_of_every_size_come_back_equal(start: Start) {
    for size in SIZES.into_iter().chain([64 << 20]) {
        comes_back(start, &bytes(size));
    }
}

fn text_of_every_size_comes_back_equal(start: Start) {
    for size in SIZES.into_iter().chain([16 << 20]) {
        let text: String = bytes(size).into_iter().map(|byte| char::from(b' ' + byte % 90)).collect();
        comes_back(start, &text);
    }
    comes_back(start, &"žluťoučký kůň 🐎".repeat(5000));
}

fn numbers_of_every_size_come_back_equal(start: Start) {
    for size in SIZES {
        let numbers: Vec<u64> = bytes(size).into_iter().map(|byte| u64::from(byte) << 37 | 5).collect();
        comes_back(start, &numbers);
    }
}

fn a_struct_of_every_size_comes_back_equal(start: Start) {
    // Each byte goes through the codec: that takes its time where nothing is optimized.
    for size in SIZES.into_iter().chain([8 << 20]) {
        comes_back(start, &Picture { name: format!("{size}"), pixels: bytes(size), size: (3, 4) });
    }
}

/// The length of a piece of a gigabyte: no divisor or multiple of any page or buffer.
const PIECE: usize = 65_521;

fn a_gigabyte_comes_back_equal(start: Start) {
    const SIZE: usize = 1 << 30;
    let value = start.run(&start.call(LONG), (), |()| {
        // Copied and compared in pieces, as one byte at a time takes long where nothing is optimized.
        let mut value = bytes(PIECE).repeat(SIZE.div_ceil(PIECE));
        value
            .chunks_mut(PIECE)
            .zip(0u64..)
            .for_each(|(piece, number)| piece[..8].copy_from_slice(&number.to_le_bytes()));
        value.truncate(SIZE);
        value
    });
    let (value, expected) = (value.unwrap(), bytes(PIECE));
    assert_eq!(value.len(), SIZE);
    for (piece, number) in value.chunks(PIECE).zip(0u64..) {
        assert!(piece[..8] == number.to_le_bytes() && piece[8..] == expected[8..piece.len()], "piece {number}");
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Point(i8, i128),
    Named { map: BTreeMap<String, Option<Box<Shape>>>, letter: char },
}

fn every_kind_of_value_comes_back_equal(start: Start) {
    comes_back(start, &());
    comes_back(start, &Some(Some(())));
    comes_back(start, &(i64::MIN, u128::MAX, f32::MIN_POSITIVE, 'ž', true));
    comes_back(start, &Result::<u8, String>::Err("its own error".into()));
    comes_back(start, &Duration::MAX);
    comes_back(start, &[Some(1u8); 32]);
    comes_back(start, &vec![vec![String::from("a"), String::new()], vec![]]);
    let inner = Shape::Point(-1, i128::MIN);
    let map = BTreeMap::from([("a".into(), Some(Box::new(inner))), (String::new(), None)]);
    comes_back(start, &vec![Shape::Named { map, letter: '\0' }, Shape::Nothing]);
    let nan = start.run(&start.call(LONG), (), |()| f64::from_bits(0x7ff8_dead_beef_0001)).unwrap();
    assert_eq!(nan.to_bits(), 0x7ff8_dead_beef_0001);
}

fn a_narrow_pipe_carries_every_size(start: Start) {
    // A user who has spent the allowance of pipe memory gets pipes of one page (pipe(7), pipe-user-pages-soft).
    let host = raw::fork(|| {
        raw::become_nobody();
        raw::set_dumpable();
        start.prepare();
        let before = Snapshot::take();
        carry_through_narrow_pipes(start);
        before.assert_unchanged();
    });
    assert_eq!(waitpid(host, None), Ok(WaitStatus::Exited(host, 0)));
}

fn carry_through_narrow_pipes(start: Start) {
    let mut hoard = Vec::new();
    let narrow = loop {
        let pipe = std::io::pipe().unwrap();
        let capacity = raw::pipe_capacity(pipe.0.as_raw_fd());
        hoard.push(pipe);
        if capacity < 65_536 || hoard.len() > 2000 {
            break capacity;
        }
    };
    assert!(narrow <= 8192, "no narrow pipe after {} of them", hoard.len());
    // A child that is forked has the pipes of its host, too.
    let known = if start == Start::Fork { pipes() } else { Vec::new() };
    for size in SIZES.into_iter().chain([4 << 20, 64 << 20]) {
        comes_back_through_one_page(start, &known, &bytes(size));
        if size <= 4 << 20 {
            let picture = Picture { name: String::new(), pixels: bytes(size), size: (1, 1) };
            comes_back_through_one_page(start, &known, &picture);
        }
    }
    let long = start.run(&start.call(LONG), (), |()| -> u8 { panic!("{}", "long ".repeat(100_000)) });
    assert!(long.unwrap_err().is_panic());
    common::endings::check_sample(start);
}

/// The numbers of all pipes that this process has open, but for the standard streams.
fn pipes() -> Vec<RawFd> {
    (3..5000).filter(|fd| raw::pipe_capacity(*fd) > 0).collect()
}

fn page_size() -> i32 {
    sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap() as i32
}

/// As [`comes_back`], and the child's own pipe holds as little as one can, and cannot be made wider.
#[track_caller]
fn comes_back_through_one_page<T>(start: Start, known: &[RawFd], value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + Clone + 'static,
{
    let returned = start.run(&start.call(LONG), (known.to_vec(), value.clone()), |(known, value)| {
        let own: Vec<RawFd> = pipes().into_iter().filter(|fd| !known.contains(fd)).collect();
        assert!(!own.is_empty(), "a child without a pipe");
        for fd in own {
            assert_eq!(raw::set_pipe_capacity(fd, 4096), Ok(page_size()));
            assert!(raw::set_pipe_capacity(fd, 1 << 20).is_err(), "there is no want of room");
        }
        value
    });
    assert!(returned.as_ref().is_ok_and(|returned| returned == value), "{:?}", returned.err());
}

/// A value whose `Serialize` and `Deserialize` do as they are told. It carries what to do as a number.
#[derive(Debug, PartialEq)]
struct Stubborn {
    out: Deed,
    back: Deed,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Deed {
    Obey,
    Fail,
    Panic,
    Loop,
    Allocate,
    Exit,
    Vanish,
    Crash,
}

impl Deed {
    fn done(self) -> Result<(), &'static str> {
        match self {
            Deed::Obey => Ok(()),
            Deed::Fail => Err("it would rather not"),
            Deed::Panic => panic!("not with me"),
            Deed::Loop => loop {
                std::hint::spin_loop();
            },
            Deed::Allocate => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(vec![1u8; 16 << 20]);
                    std::hint::black_box(&hoard);
                }
            }
            Deed::Exit => std::process::exit(3),
            Deed::Vanish => raw::exit_now(3),
            Deed::Crash => std::process::abort(),
        }
    }
}

impl Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.out.done().map_err(serde::ser::Error::custom)?;
        (self.out, self.back).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Stubborn, D::Error> {
        let (out, back) = <(Deed, Deed)>::deserialize(deserializer)?;
        back.done().map_err(serde::de::Error::custom)?;
        Ok(Stubborn { out, back })
    }
}

const ENCODED: &str = "while its value was being encoded by its `Serialize`";
const DECODED: &str = "while its value was being decoded by its `Deserialize`";

/// Has a stubborn value come back; gives the error's text.
#[track_caller]
fn lost(start: Start, out: Deed, back: Deed) -> String {
    let begin = Instant::now();
    let result = start.run(&start.call(LONG), (out, back), |(out, back)| Stubborn { out, back });
    let error = assert_fails!(result, Reason::Lost { .. }, Ran::Yes);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    error.to_string()
}

fn a_serialize_that_fails_is_named(start: Start) {
    let text = lost(start, Deed::Fail, Deed::Obey);
    assert!(text.contains("it would rather not"), "{text}");
    comes_back_stubborn(start);
}

fn a_deserialize_that_fails_is_named(start: Start) {
    let text = lost(start, Deed::Obey, Deed::Fail);
    assert!(text.contains("it would rather not"), "{text}");
}

fn a_serialize_that_panics_is_named(start: Start) {
    let text = lost(start, Deed::Panic, Deed::Obey);
    assert!(text.contains("`Serialize` panicked") && text.contains("not with me"), "{text}");
}

fn a_deserialize_that_panics_is_named(start: Start) {
    let text = lost(start, Deed::Obey, Deed::Panic);
    assert!(text.contains("`Deserialize` panicked") && text.contains("not with me"), "{text}");
}

fn comes_back_stubborn(start: Start) {
    let obedient = start.run(&start.call(LONG), (), |()| Stubborn { out: Deed::Obey, back: Deed::Obey });
    assert_eq!(obedient.unwrap(), Stubborn { out: Deed::Obey, back: Deed::Obey });
}

/// Has a value come back that never does; gives the error's text.
#[track_caller]
fn late(start: Start, out: Deed, back: Deed) -> String {
    let limit = Duration::from_millis(300);
    let begin = Instant::now();
    let result = start.run(&start.call(limit), (out, back), |(out, back)| Stubborn { out, back });
    let elapsed = begin.elapsed();
    assert!(elapsed >= limit && elapsed < SOON, "{elapsed:?}");
    assert_fails!(result, Reason::Late { .. }, Ran::Yes).to_string()
}

fn a_serialize_that_never_ends_is_late_and_named(start: Start) {
    let text = late(start, Deed::Loop, Deed::Obey);
    assert!(text.contains("`Serialize`"), "{text}");
}

fn a_deserialize_that_never_ends_is_late_and_named(start: Start) {
    let text = late(start, Deed::Obey, Deed::Loop);
    assert!(text.contains("`Deserialize`"), "{text}");
}

/// Whatever the kernel or the allocator does about it, the call is over in time and does not give a value.
#[track_caller]
fn allocates(start: Start, out: Deed, back: Deed, told: &str) {
    const ROOM: u64 = 512 << 20;
    let used = procs::status("VmSize") << 10;
    let call = start.call(Duration::from_secs(20));
    let before = raw::limit(libc::RLIMIT_AS).0;
    let call = match start {
        Start::Fork => {
            raw::set_soft_limit(libc::RLIMIT_AS, used + ROOM);
            call
        }
        // A limit of the host's does not reach a worker of a server that has none.
        Start::Forkserver => call.memory(ROOM),
    };
    let begin = Instant::now();
    let result = start.run(&call, (out, back), |(out, back)| Stubborn { out, back });
    let elapsed = begin.elapsed();
    raw::set_soft_limit(libc::RLIMIT_AS, before);
    let error = result.unwrap_err();
    println!("{elapsed:?}: {error}");
    // std aborts when memory is out, and that is told from other aborts.
    assert!(matches!(error.reason(), Reason::OutOf(Resource::Memory)), "{error:?}");
    assert!(error.to_string().contains(told), "{error}");
    assert_eq!(error.ran(), Ran::Yes);
    assert!(elapsed < Duration::from_secs(20));
}

fn a_serialize_that_allocates_without_end_is_over_within_the_limit(start: Start) {
    allocates(start, Deed::Allocate, Deed::Obey, ENCODED);
}

fn a_deserialize_that_allocates_without_end_is_over_within_the_limit(start: Start) {
    allocates(start, Deed::Obey, Deed::Allocate, DECODED);
}

/// Has a value come back whose impl ends the process in each way.
#[track_caller]
fn ends_the_process(start: Start, with: fn(Deed) -> (Deed, Deed), told: &str) {
    for deed in [Deed::Exit, Deed::Vanish] {
        let (out, back) = with(deed);
        let text = lost(start, out, back);
        assert!(text.contains("its process ended with code 3 while ") && text.contains(told), "{deed:?}: {text}");
    }
    let result = start.run(&start.call(LONG), with(Deed::Crash), |(out, back)| Stubborn { out, back });
    let error = assert_fails!(result, Reason::Crashed { signal: libc::SIGABRT, .. }, Ran::Yes);
    assert!(error.to_string().contains(told), "{error}");
}

fn a_serialize_that_ends_the_process_is_named(start: Start) {
    ends_the_process(start, |deed| (deed, Deed::Obey), ENCODED);
}

fn a_deserialize_that_ends_the_process_is_named(start: Start) {
    ends_the_process(start, |deed| (Deed::Obey, deed), DECODED);
}

fn a_value_that_takes_longer_than_the_limit_to_send_is_late(start: Start) {
    // 2 GiB in 150 ms is beyond any pipe; the vector itself costs nothing, as nobody touches it before.
    let limit = Duration::from_millis(150);
    let begin = Instant::now();
    let error = start.run(&start.call(limit), (), |()| vec![0u8; 2 << 30]).unwrap_err();
    let elapsed = begin.elapsed();
    assert!(error.is_late(), "{error:?}");
    assert_eq!(error.ran(), Ran::Yes);
    assert!(elapsed >= limit && elapsed < SOON, "{elapsed:?}");
    assert!(procs::status("VmHWM") < 1 << 20, "the caller took in {} KiB", procs::status("VmHWM"));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Skips {
    #[serde(skip_serializing_if = "Option::is_none")]
    nickname: Option<String>,
    age: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SkipsLast {
    age: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u32),
    Text(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flattened {
    id: u32,
    #[serde(flatten)]
    rest: BTreeMap<String, u32>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Number { value: u32 },
}

/// Has a value come back that the format cannot carry: it is lost, with a text that has all these words.
#[track_caller]
fn cannot_come_back<T: Serialize + DeserializeOwned>(start: Start, make: fn() -> T, words: &[&str]) {
    let result = start.run(&start.call(LONG), Fun(make), |Fun(make): Fun<T>| make());
    let text = assert_fails!(result, Reason::Lost { .. }, Ran::Yes).to_string();
    println!("{text}");
    assert!(words.iter().all(|word| text.contains(word)), "it does not name {words:?}: {text}");
}

fn a_value_that_the_format_would_change_is_lost_and_says_why(start: Start) {
    let nickname = ["field `nickname` of `Skips`", "remove the attribute", "skip_serializing_if"];
    cannot_come_back(start, || Skips { nickname: None, age: Some(7) }, &nickname);
    let names = ["field `names` of `SkipsLast`", "remove the attribute", "skip_serializing_if"];
    cannot_come_back(start, || SkipsLast { age: 7, names: vec![] }, &names);
    // Where the missing field of one passes for the beginning of the next.
    cannot_come_back(start, || vec![SkipsLast { age: 1, names: vec![] }, SkipsLast { age: 0, names: vec![] }], &names);
    cannot_come_back(start, || (Skips { nickname: None, age: Some(0) }, 0u8, 0u8), &nickname);
    // With nothing skipped there is nothing to lose.
    comes_back(start, &Skips { nickname: Some("x".into()), age: Some(7) });
    comes_back(start, &SkipsLast { age: 7, names: vec!["x".into()] });
}

fn a_value_that_the_format_cannot_carry_is_lost_and_says_why(start: Start) {
    let cure = "return a plain struct or enum, or the value as text (`serde_json::to_string`)";
    cannot_come_back(start, || Untagged::Number(7), &["`untagged`", cure]);
    cannot_come_back(start, || Untagged::Text("x".into()), &["`untagged`", cure]);
    cannot_come_back(start, || Tagged::Number { value: 7 }, &["`tag = …`", cure]);
    cannot_come_back(start, || serde_json::json!({"a": [1, 2.5, "x", null]}), &["`serde_json::Value`", cure]);
    let flattened = || Flattened { id: 1, rest: BTreeMap::from([("a".into(), 2)]) };
    cannot_come_back(start, flattened, &["`flatten`", "remove the attribute or return another type"]);
}

fn a_destructor_of_the_value_does_not_run_in_the_child(start: Start) {
    #[derive(Serialize, Deserialize)]
    struct Loud(i32);
    impl Drop for Loud {
        fn drop(&mut self) {
            DROPPED.get().unwrap().tell(nix::unistd::getpid().as_raw() as u64);
        }
    }
    static DROPPED: std::sync::OnceLock<&Mark> = std::sync::OnceLock::new();
    // In a process that ends with its static, as the oracle would find the pipe in there.
    let host = raw::fork(|| {
        let told: &Mark = DROPPED.get_or_init(|| Box::leak(Box::new(Mark::new())));
        let value = start.run(&start.call(LONG), (), |()| Loud(7)).unwrap();
        assert_eq!((value.0, told.is_told()), (7, false), "dropped in the child");
        drop(value);
        assert_eq!(told.hear_all(), [nix::unistd::getpid().as_raw() as u64]);
    });
    assert_eq!(waitpid(host, None), Ok(WaitStatus::Exited(host, 0)));
}
