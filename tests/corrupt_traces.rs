//! A child that writes nonsense where it should tell where it is.

mod common;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::FileExt,
    thread,
    time::{Duration, Instant},
};

use common::{LONG, Mark, SOON, Start, assert_fails, raw, shown::assert_shows};
use timeout_runtime::{Cancel, Ran, Reason};

common::scenarios_everywhere![
    nonsense_in_place_of_answers_neither_holds_a_call_up_nor_ends_its_caller,
    children_of_one_process_share_their_memory_and_workers_have_their_own,
];

common::with_start_method!(forkserver Forkserver [a_hostile_worker_cannot_write_into_a_siblings_answer]);

/// A piece of memory that this process shares with others.
struct Shared {
    begin: u64,
    length: usize,
    inode: u64,
}

fn shared_memory() -> Vec<Shared> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let shared = maps.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (begin, end) = words[0].split_once('-').unwrap();
        let [begin, end] = [begin, end].map(|number| u64::from_str_radix(number, 16).unwrap());
        let is_shared = words[1] == "rw-s";
        is_shared.then(|| Shared { begin, length: (end - begin) as usize, inode: words[4].parse().unwrap() })
    });
    shared.collect()
}

/// Writes over all of it, again and again.
fn scribble(mut next: impl FnMut() -> u8) -> i32 {
    let memory = File::options().write(true).open("/proc/self/mem").unwrap();
    let places = shared_memory();
    assert!(!places.is_empty());
    let begin = Instant::now();
    while begin.elapsed() < LONG {
        for place in &places {
            let nonsense: Vec<u8> = (0..place.length).map(|_| next()).collect();
            memory.write_all_at(&nonsense, place.begin).unwrap();
        }
    }
    0
}

fn nonsense_in_place_of_answers_neither_holds_a_call_up_nor_ends_its_caller(start: Start) {
    let limit = Duration::from_millis(100);
    for word in [0u8, 1, 0x7f, 0xff, 7] {
        let begin = Instant::now();
        let result = start.run(&start.call(limit), word, |word| match word {
            // No byte like the one before.
            7 => scribble({
                let mut state = 7u64;
                move || {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) as u8
                }
            }),
            word => scribble(|| word),
        });
        let elapsed = begin.elapsed();
        let error = result.unwrap_err();
        assert!(error.is_late() && elapsed >= limit && elapsed < SOON, "{word}: {elapsed:?}, {error:?}");
        // Whatever is shown can be looked at.
        let told = error.backtrace().map(ToString::to_string);
        println!("{word}: {error}, {:?}\n{}", error.usage(), told.unwrap_or_default());
    }
    assert_eq!(start.run(&start.call(LONG), (), |()| 7).unwrap(), 7);
}

fn children_of_one_process_share_their_memory_and_workers_have_their_own(start: Start) {
    // Two first calls at once may both make what is kept for all that follow.
    assert_eq!(start.run(&start.call(LONG), (), |()| 7).unwrap(), 7);
    let marks = [Mark::new(), Mark::new()];
    let [first, second] = &marks;
    // Both live at once, so that no number is given away.
    let inodes = |ours: &Mark, theirs: &Mark| -> BTreeSet<u64> {
        let arguments = (ours.again(), theirs.again());
        let told = start.run(&start.call(LONG), arguments, |(ours, theirs)| {
            let inodes: Vec<u64> = shared_memory().iter().map(|place| place.inode).collect();
            ours.now();
            theirs.hear();
            inodes
        });
        told.unwrap().into_iter().collect()
    };
    let [one, other] = thread::scope(|scope| {
        [scope.spawn(|| inodes(first, second)), scope.spawn(|| inodes(second, first))].map(|call| call.join().unwrap())
    });
    let both = one.intersection(&other).count();
    match start {
        // How far each has come, and where each is.
        Start::Fork => assert_eq!((both, one.len(), other.len()), (2, 2, 2)),
        // The first is one file for all, in which each has a page; the control: what is shared is seen.
        Start::Forkserver => assert_eq!((both, one.len(), other.len()), (1, 2, 2)),
    }
}

#[inline(never)]
fn wait() -> i32 {
    raw::pause()
}

fn a_hostile_worker_cannot_write_into_a_siblings_answer(start: Start) {
    let cancel = Cancel::new();
    let mark = Mark::new();
    thread::scope(|scope| {
        let hostile = scope.spawn(|| {
            start.run(&start.call(LONG).cancel(&cancel), mark.again(), |mark| {
                mark.now();
                scribble(|| 0xff)
            })
        });
        mark.hear();
        for _ in 0..5 {
            let result = start.run(&start.call(0.5), (), |()| wait());
            let error = assert_fails!(result, Reason::Late { .. }, Ran::Maybe);
            assert_shows(&error, "corrupt_traces::wait");
        }
        cancel.cancel();
        assert_fails!(hostile.join().unwrap(), Reason::Cancelled, Ran::Maybe);
    });
}
