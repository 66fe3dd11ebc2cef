//! Bodies that use up what they may have, in Rust's way and in C's.
#![expect(unsafe_code, reason = "malloc and what C code does with a null pointer")]

use std::{
    collections::HashMap,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::resource::{UsageWho, getrusage},
};
use timeout_runtime::{Ran, Reason, Resource};

use super::{LONG, Start, assert_fails};

/// Ways to allocate until nothing is left, none of which can be answered by the program.
pub(crate) const EATERS: &[(&str, fn())] = &[
    ("a vector that grows", || {
        let mut numbers = Vec::new();
        loop {
            numbers.push(black_box([1u64; 100]));
        }
    }),
    ("one large request", || drop(black_box(vec![1u8; black_box(1 << 40)]))),
    ("many small boxes", || {
        let mut last: Option<Box<Link>> = None;
        loop {
            last = Some(Box::new(Link(black_box([1; 500]), last)));
        }
    }),
    ("many blocks of a megabyte", || {
        let mut blocks = Vec::new();
        loop {
            blocks.push(black_box(vec![1u8; 1 << 20]));
        }
    }),
    ("a text", || {
        let (mut text, more) = (String::new(), "more of the same ".repeat(1000));
        loop {
            text.push_str(black_box(&more));
        }
    }),
    ("a map", || {
        let mut map = HashMap::new();
        for number in 0u64.. {
            map.insert(black_box(number), [number; 500]);
        }
    }),
    ("shared blocks", || {
        let mut blocks: Vec<Arc<[u8]>> = Vec::new();
        loop {
            blocks.push(vec![1u8; black_box(1 << 20)].into());
        }
    }),
    ("a thread's boxes", || {
        let eat = || {
            let mut boxes = Vec::new();
            loop {
                boxes.push(Box::new(black_box([1u64; 1000])));
            }
        };
        let _: Result<(), _> = std::thread::spawn(eat).join();
    }),
];

struct Link([u64; 500], #[expect(dead_code, reason = "it keeps the others alive")] Option<Box<Link>>);

/// Takes memory from the C library until it gives no more.
pub(crate) fn exhaust_malloc(piece: usize) {
    loop {
        // SAFETY: a size is all it takes.
        let taken = unsafe { libc::malloc(black_box(piece)) };
        if taken.is_null() {
            return;
        }
        // SAFETY: the block has `piece` bytes, and at least one.
        unsafe { taken.cast::<u8>().write_volatile(1) };
    }
}

/// Writes to the field of a C structure that was not there.
pub(crate) fn write_through_null(offset: usize) {
    let field = std::ptr::without_provenance_mut::<u8>(black_box(offset));
    // SAFETY: none: this is a crash on purpose.
    unsafe { field.write_volatile(1) };
}

/// Uses CPU time, of this thread alone.
pub(crate) fn burn(time: Duration) -> u32 {
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
        let micros = |time: nix::sys::time::TimeVal| (time.tv_sec() * 1_000_000 + time.tv_usec()) as u64;
        Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
    };
    let begin = used();
    while used() - begin < time {
        black_box(0);
    }
    1
}

/// Uses CPU time for as long as the longest call takes.
pub(crate) fn burn_on() -> u32 {
    let begin = Instant::now();
    while begin.elapsed() < super::LONG {
        std::hint::spin_loop();
    }
    0
}

/// Whether `local` lies on a stack that grows when it is used: that of the main thread.
pub(crate) fn is_on_growing_stack<T>(local: &T) -> bool {
    let address = std::ptr::from_ref(local).addr();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.ends_with("[stack]")).any(|line| {
        let (begin, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [begin, end] = [begin, end].map(|text| usize::from_str_radix(text, 16).unwrap());
        (begin..end).contains(&address)
    })
}

/// The kernel looks at each clock tick, of which there are a hundred a second or more.
pub(crate) const TICKS: Duration = Duration::from_millis(60);

/// Checks that bodies that burn are cut when they have used what they may.
#[track_caller]
pub(crate) fn check_burning(start: Start) {
    for limit in [20, 150, 700].map(Duration::from_millis) {
        let begin = Instant::now();
        let result = start.run(&start.call(LONG).cpu(limit), (), |()| burn_on());
        let error = assert_fails!(result, Reason::OutOf(Resource::Cpu), Ran::Maybe);
        let used = error.usage().unwrap().cpu();
        println!("{used:?} of {limit:?}, after {:?}", begin.elapsed());
        assert!(used + Duration::from_millis(1) >= limit && used < limit + TICKS, "{used:?} of {limit:?}");
        assert!(begin.elapsed() >= limit, "no thread uses more time than there is");
        assert!(error.to_string().contains(&format!("used up its {} ms of CPU time", limit.as_millis())), "{error}");
    }
    let call = start.call(LONG).cpu(LONG);
    assert_eq!(start.run(&call, (), |()| burn(Duration::from_millis(50))).unwrap(), 1);
}
