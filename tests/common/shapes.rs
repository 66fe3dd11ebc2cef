//! What a body may start: processes that do their best to outlive it.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{Pid, getpid, setsid},
};

use timeout_runtime::TimedOut;

use super::{Mark, Start, procs, raw, travel::Fun};

/// A way to grow a tree below the calling process. Every process that is to be waited for tells its number.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) plant: fn(&Mark),
    pub(crate) tellers: usize,
}

/// Nothing started by a test lives longer than this, should it escape.
const OLD_AGE: Duration = Duration::from_secs(15);

fn live(mark: &Mark) {
    mark.tell(getpid().as_raw() as u64);
    thread::sleep(OLD_AGE);
}

/// Those that stay in the group of the body.
pub(crate) const IN_THE_GROUP: &[Shape] = &[
    Shape { name: "a grandchild", plant: |mark| drop_pid(raw::fork(|| live(mark))), tellers: 1 },
    Shape {
        name: "a grandchild that ignores SIGTERM",
        plant: |mark| {
            drop_pid(raw::fork(|| {
                raw::ignore(libc::SIGTERM);
                live(mark);
            }));
        },
        tellers: 1,
    },
    Shape {
        name: "a stopped grandchild",
        plant: |mark| {
            drop_pid(raw::fork(|| {
                mark.tell(getpid().as_raw() as u64);
                kill(getpid(), Signal::SIGSTOP).unwrap();
            }));
        },
        tellers: 1,
    },
    Shape { name: "a tree of 30", plant: |mark| grow(mark, 4), tellers: 30 },
    Shape { name: "a fork bomb", plant: |mark| drop_pid(raw::fork(|| explode(mark, BOMB))), tellers: BOMB },
];

/// Those that leave it.
pub(crate) const OUT_OF_THE_GROUP: &[Shape] = &[
    Shape {
        name: "a grandchild in another session",
        plant: |mark| drop_pid(raw::fork(|| live_apart(mark))),
        tellers: 1,
    },
    Shape {
        name: "a daemon",
        plant: |mark| {
            let parent = raw::fork(|| {
                setsid().unwrap();
                raw::fork(|| live_apart(mark));
            });
            waitpid(parent, None).unwrap();
        },
        tellers: 1,
    },
    Shape {
        name: "runners, each in a session of its own",
        plant: |mark| {
            let end = Instant::now() + OLD_AGE;
            drop_pid(raw::fork(|| {
                mark.tell(getpid().as_raw() as u64);
                while Instant::now() < end {
                    raw::become_successor();
                    setsid().unwrap();
                }
            }));
        },
        tellers: 1,
    },
];

pub(crate) fn all() -> impl Iterator<Item = &'static Shape> {
    [IN_THE_GROUP, OUT_OF_THE_GROUP].into_iter().flatten()
}

/// The shape of this name.
pub(crate) fn named(name: &str) -> &'static Shape {
    all().find(|shape| shape.name == name).unwrap()
}

/// How many processes a fork bomb may be at once: enough to outrun a walk, and no harm to the machine.
const BOMB: usize = 40;

/// Divides `tokens` with children, that they may do the same, until each process has one: its own. Then each forks on and
/// on, and hands that to its successor.
fn explode(mark: &Mark, mut tokens: usize) {
    let end = Instant::now() + OLD_AGE;
    while tokens > 1 {
        let half = tokens / 2;
        raw::fork(|| explode(mark, half));
        tokens -= half;
    }
    mark.tell(getpid().as_raw() as u64);
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
        raw::become_successor();
    }
}

fn drop_pid(_: Pid) {}

fn live_apart(mark: &Mark) {
    setsid().unwrap();
    live(mark);
}

/// Two children, each with a smaller tree.
fn grow(mark: &Mark, depth: u32) {
    if depth > 0 {
        for _ in 0..2 {
            raw::fork(|| {
                grow(mark, depth - 1);
                live(mark);
            });
        }
    }
}

impl Shape {
    /// Plants it and waits until all of it stands. The numbers are told again, for the caller.
    pub(crate) fn plant_and_tell(&self, mark: &Mark) {
        let planted = Mark::new();
        (self.plant)(&planted);
        for _ in 0..self.tellers {
            mark.tell(planted.hear());
        }
    }
}

/// What a crowded machine may need at the worst, until everything is gone.
pub(crate) const GONE: Duration = Duration::from_secs(1);

/// Has a body plant a tree and then `end`; gives what the call gave, once it is certain that nothing runs on.
pub(crate) fn plant(start: Start, limit: Duration, shape: &Shape, end: fn() -> i32) -> Result<i32, TimedOut> {
    plant_and_time(start, limit, shape, end).0
}

/// The same, with how long after the return that was.
pub(crate) fn plant_and_time(
    start: Start,
    limit: Duration,
    shape: &Shape,
    end: fn() -> i32,
) -> (Result<i32, TimedOut>, Duration) {
    let mark = Mark::new();
    let arguments = (shape.name.to_owned(), Fun(end), mark.again());
    let result = start.run(&start.call(limit), arguments, |(name, Fun(end), mark): (String, Fun<i32>, Mark)| {
        named(&name).plant_and_tell(&mark);
        end()
    });
    let returned = Instant::now();
    let told: Vec<_> = mark.hear_all().into_iter().map(|pid| Pid::from_raw(pid as i32)).collect();
    assert_eq!(told.len(), shape.tellers, "{}: not all of it was started: {result:?}", shape.name);
    // By number first: a process in the middle of its death has no environment to be found by.
    procs::assert_gone_within(&told, GONE);
    (result, procs::assert_alone_after(returned, GONE))
}

/// Plants every shape in a call that is late.
#[track_caller]
pub(crate) fn check_late(start: Start) {
    for shape in all() {
        let error = plant(start, Duration::from_millis(600), shape, raw::pause).unwrap_err();
        assert!(error.is_late(), "{}: {error:?}", shape.name);
    }
}
