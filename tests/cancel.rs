//! A token ends the calls made with it, at once, from any thread.

mod common;

use std::{
    thread,
    time::{Duration, Instant},
};

use common::{LONG, Mark, SOON, Start, assert_fails, median, raw};
use nix::libc;
use timeout_runtime::{Cancel, Ran, Reason};

common::scenarios_everywhere![
    a_cancelled_call_ends_at_once,
    a_cancel_before_the_call_starts_nothing,
    a_cancel_ends_every_call_that_shares_it,
    a_cancelled_call_gets_its_grace,
    an_unused_cancel_changes_nothing,
];

// A worker of the fork server has no copy.
common::scenarios_by_fork![a_body_that_cancels_its_copy_changes_nothing_here];

fn a_cancelled_call_ends_at_once(start: Start) {
    let delays = (0..15).map(|_| {
        let (cancel, running, cancelled) = (Cancel::new(), Mark::new(), Mark::new());
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                running.hear();
                cancelled.now();
                cancel.cancel();
            });
            start.run(&start.call(LONG).cancel(&cancel), running.again(), |running: Mark| {
                running.now();
                raw::pause()
            })
        });
        assert_fails!(result, Reason::Cancelled, Ran::Maybe);
        let delay = cancelled.moment().elapsed();
        assert!(delay < SOON, "{delay:?}");
        delay
    });
    let delay = median(delays.collect());
    println!("ended {delay:?} after the cancel");
    assert!(delay < Duration::from_millis(50), "{delay:?}");
}

fn a_cancel_before_the_call_starts_nothing(start: Start) {
    let (cancel, mark) = (Cancel::new(), Mark::new());
    cancel.cancel();
    assert!(cancel.is_cancelled());
    for _ in 0..3 {
        let call = start.call(LONG).cancel(&cancel);
        assert_fails!(start.run(&call, mark.again(), |mark: Mark| mark.now()), Reason::Cancelled, Ran::No);
    }
    assert!(!mark.is_told(), "the body ran");
}

fn a_cancel_ends_every_call_that_shares_it(start: Start) {
    const CALLS: usize = 8;
    let (cancel, running) = (Cancel::new(), Mark::new());
    let call = start.call(LONG).cancel(&cancel);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLS)
            .map(|_| {
                scope.spawn(|| {
                    start.run(&call, running.again(), |running: Mark| {
                        running.now();
                        raw::pause()
                    })
                })
            })
            .collect();
        for _ in 0..CALLS {
            running.hear();
        }
        let begin = Instant::now();
        cancel.clone().cancel();
        for call in calls {
            assert_fails!(call.join().unwrap(), Reason::Cancelled, Ran::Maybe);
        }
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    });
    assert_fails!(start.run(&call, (), |()| 1), Reason::Cancelled, Ran::No);
}

fn a_cancelled_call_gets_its_grace(start: Start) {
    let grace = Duration::from_millis(100);
    let (cancel, running) = (Cancel::new(), Mark::new());
    let begin = Instant::now();
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            running.hear();
            cancel.cancel();
        });
        start.run(&start.call(LONG).grace(grace).cancel(&cancel), running.again(), |running: Mark| {
            raw::ignore(libc::SIGTERM);
            running.now();
            raw::pause()
        })
    });
    assert_fails!(result, Reason::Cancelled, Ran::Maybe);
    assert!(begin.elapsed() >= grace && begin.elapsed() < LONG, "{:?}", begin.elapsed());
}

fn an_unused_cancel_changes_nothing(start: Start) {
    let cancel = Cancel::new();
    assert_eq!(start.run(&start.call(LONG).cancel(&cancel), (), |()| 7).unwrap(), 7);
    let brief = start.call(Duration::from_millis(20)).cancel(&cancel);
    assert!(start.run(&brief, (), |()| raw::pause()).unwrap_err().is_late());
}

fn a_body_that_cancels_its_copy_changes_nothing_here(start: Start) {
    let cancel = Cancel::new();
    let call = start.call(LONG).cancel(&cancel);
    let inside = call.run(|| {
        cancel.cancel();
        thread::sleep(Duration::from_millis(50));
        7
    });
    // What a body changes in memory stays in the child; so must what it does to a token.
    assert_eq!(inside.unwrap(), 7);
    assert!(!cancel.is_cancelled());
    assert_eq!(call.run(|| 8).unwrap(), 8);
}
