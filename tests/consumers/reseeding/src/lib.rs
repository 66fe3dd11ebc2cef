//! Random numbers in children, with the features `rand` and `fastrand`: what differs then, and what repeats all the same.
//!
//! Each generator is used in the caller first, so that there is a state that a child could repeat.
#![cfg(test)]

use std::{
    cell::RefCell,
    collections::HashSet,
    fmt::Debug,
    hash::{BuildHasher, Hash, RandomState},
    sync::OnceLock,
    thread,
};

use rand::{
    Rng, SeedableRng, TryRng,
    rngs::{StdRng, SysRng},
};
use serde::{Serialize, de::DeserializeOwned};
use timeout_runtime::{call, forkserver, timeout};

const CHILDREN: usize = 50;

/// What `draw` gives in children of this thread, one after the other.
fn in_children<T: Serialize + DeserializeOwned>(draw: impl Fn() -> T) -> Vec<T> {
    (0..CHILDREN).map(|_| call(60, &draw).unwrap()).collect()
}

#[track_caller]
fn assert_differ<T: Hash + Eq + Debug>(numbers: Vec<T>) {
    let (count, distinct) = (numbers.len(), numbers.into_iter().collect::<HashSet<_>>());
    assert_eq!(distinct.len(), count, "some numbers were drawn twice: {distinct:?}");
}

#[track_caller]
fn assert_repeat<T: Hash + Eq + Debug>(numbers: Vec<T>) {
    let distinct: HashSet<_> = numbers.into_iter().collect();
    assert_eq!(distinct.len(), 1, "they differ: {distinct:?}");
}

#[test]
fn the_generator_of_rand_differs_in_every_child() {
    let before = rand::rng().next_u64();
    let mut numbers = in_children(|| rand::rng().next_u64());
    numbers.extend([before, rand::rng().next_u64()]);
    assert_differ(numbers);
}

#[test]
fn the_generator_of_fastrand_differs_in_every_child() {
    let before = fastrand::u64(..);
    let mut numbers = in_children(|| fastrand::u64(..));
    numbers.extend([before, fastrand::u64(..)]);
    assert_differ(numbers);
}

#[test]
fn a_handle_made_in_the_caller_differs_too() {
    let handle = rand::rng();
    assert_differ(in_children(|| handle.clone().next_u64()));
}

#[test]
fn what_asks_the_kernel_differs() {
    assert_differ(in_children(|| SysRng.try_next_u64().unwrap()));
}

#[test]
fn a_thread_of_the_body_seeds_itself() {
    rand::rng().next_u64();
    assert_differ(in_children(|| thread::spawn(|| rand::rng().next_u64()).join().unwrap()));
}

#[test]
fn children_of_children_differ() {
    rand::rng().next_u64();
    assert_differ(in_children(|| call(60, || (rand::rng().next_u64(), fastrand::u64(..))).unwrap()));
}

/// A generator that the fork server keeps for itself.
static OF_THE_SERVER: OnceLock<fastrand::Rng> = OnceLock::new();

#[timeout(60, start = forkserver)]
fn draw_in_worker() -> (u64, u64, u64) {
    let mut own = OF_THE_SERVER.get().unwrap().clone();
    (rand::rng().next_u64(), fastrand::u64(..), own.u64(..))
}

#[test]
fn workers_differ_though_their_server_has_drawn() {
    forkserver::preload(|| {
        let numbers = (rand::rng().next_u64(), fastrand::u64(..));
        // What it has drawn decides what its copies would.
        OF_THE_SERVER.set(fastrand::Rng::with_seed(numbers.0 ^ numbers.1)).unwrap();
    })
    .unwrap();
    let drawn: Vec<_> = (0..CHILDREN).map(|_| draw_in_worker().unwrap()).collect();
    assert_differ(drawn.iter().map(|numbers| numbers.0).collect());
    assert_differ(drawn.iter().map(|numbers| numbers.1).collect());
    // The control: the workers are copies of one server.
    assert_repeat(drawn.iter().map(|numbers| numbers.2).collect());
}

// The controls: generators that nobody reseeds give the same numbers, and the checks above would see it.

#[test]
fn a_generator_of_ones_own_repeats() {
    let generator = RefCell::new(StdRng::seed_from_u64(7));
    assert_repeat(in_children(|| generator.borrow_mut().next_u64()));
    let generator = fastrand::Rng::new();
    assert_repeat(in_children(|| generator.clone().u64(..)));
}

#[test]
fn the_seeds_of_hash_maps_are_the_callers_next() {
    let draw = || RandomState::new().hash_one("the same");
    draw();
    for _ in 0..CHILDREN {
        assert_eq!(call(60, draw).unwrap(), draw());
    }
    // A new thread asks the kernel.
    assert_differ(in_children(|| thread::spawn(draw).join().unwrap()));
}

#[test]
fn the_layout_of_memory_repeats() {
    assert_repeat(in_children(|| (&raw const CHILDREN_AT).addr()));
    static CHILDREN_AT: u8 = 0;
}
