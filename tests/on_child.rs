//! Hooks run first in every child, in their order; what becomes of one is told of it, and not of the body.

mod common;

use std::{
    cell::{Cell, RefCell},
    fs::File,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{LONG, Mark, SOON, Start, greed, raw};
use nix::libc;
use timeout_runtime::{Call, Ran, Reason, Resource, TimedOut, forkserver, on_child};

// Hooks are for copies, and a worker is none.
common::scenarios_by_fork![
    hooks_run_before_the_body_in_their_order,
    a_hook_of_any_thread_runs_on_the_bodys,
    a_hook_may_own_what_it_needs,
    children_of_children_run_the_hooks_too,
    a_hook_registered_in_a_child_stays_there,
    a_generator_repeats_unless_a_hook_reseeds_it,
    a_hook_that_panics_is_told_as_not_started,
    a_hook_that_hangs_is_late,
    a_hook_that_ends_its_process_is_told_as_what_it_did,
    a_hook_is_bound_as_the_body_is,
    a_fork_in_the_middle_of_registrations_changes_nothing,
];

common::from_nothing![hooks_of_the_host_do_not_run_in_a_worker, a_hook_of_a_preload_runs_in_every_worker];

thread_local!(static SEEN: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) });

fn see(number: u32) {
    SEEN.with_borrow_mut(|seen| seen.push(number));
}

fn seen() -> Vec<u32> {
    SEEN.take()
}

fn hooks_run_before_the_body_in_their_order(start: Start) {
    assert_eq!(start.call(LONG).run(seen).unwrap(), []);
    on_child(|| see(1));
    assert_eq!(start.call(LONG).run(seen).unwrap(), [1]);
    on_child(|| see(2));
    on_child(|| see(3));
    for _ in 0..3 {
        assert_eq!(start.call(LONG).run(seen).unwrap(), [1, 2, 3]);
    }
    // The same function again is one more hook.
    on_child(|| see(1));
    assert_eq!(start.call(LONG).run(seen).unwrap(), [1, 2, 3, 1]);
    assert_eq!(seen(), [], "a hook ran in the caller");
}

fn a_hook_of_any_thread_runs_on_the_bodys(start: Start) {
    static BODY: AtomicU32 = AtomicU32::new(0);
    let thread = || nix::unistd::gettid().as_raw() as u32;
    thread::spawn(move || on_child(move || BODY.store(thread(), Ordering::Relaxed))).join().unwrap();
    assert!(start.call(LONG).run(|| BODY.load(Ordering::Relaxed) == thread()).unwrap());
    assert_eq!(BODY.load(Ordering::Relaxed), 0);
}

fn a_hook_may_own_what_it_needs(start: Start) {
    let shared = Arc::new(AtomicU32::new(7));
    let owned = Arc::clone(&shared);
    on_child(move || see(owned.load(Ordering::Relaxed)));
    assert_eq!(start.call(LONG).run(seen).unwrap(), [7]);
    shared.store(8, Ordering::Relaxed);
    assert_eq!(start.call(LONG).run(seen).unwrap(), [8], "a hook sees its caller as it is now");
}

fn children_of_children_run_the_hooks_too(start: Start) {
    on_child(|| see(1));
    let (outer, inner) = start.call(LONG).run(|| (seen(), start.call(LONG).run(seen).unwrap())).unwrap();
    assert_eq!((outer, inner), (vec![1], vec![1]));
}

fn a_hook_registered_in_a_child_stays_there(start: Start) {
    on_child(|| see(1));
    let inner = || {
        on_child(|| see(2));
        seen();
        start.call(LONG).run(seen).unwrap()
    };
    assert_eq!(start.call(LONG).run(inner).unwrap(), [1, 2]);
    assert_eq!(start.call(LONG).run(seen).unwrap(), [1]);
}

fn hooks_of_the_host_do_not_run_in_a_worker() {
    let served = || Call::new(LONG).run_in_server((), |()| seen()).unwrap();
    // Before the server starts, and when it runs.
    for count in 1..=3 {
        on_child(|| see(1));
        assert_eq!(served(), []);
        // The control: those of a copy do.
        assert_eq!(Call::new(LONG).run(seen).unwrap(), vec![1; count]);
    }
}

fn a_hook_of_a_preload_runs_in_every_worker() {
    forkserver::preload(|| on_child(|| see(2))).unwrap();
    on_child(|| see(1));
    for _ in 0..3 {
        // Not in the server, but first in each worker, and in what that forks.
        let nested = |()| (seen(), Call::new(LONG).run(seen).unwrap());
        assert_eq!(Call::new(LONG).run_in_server((), nested).unwrap(), (vec![2], vec![2]));
    }
    assert_eq!(seen(), [], "a hook ran in the caller");
}

fn a_generator_repeats_unless_a_hook_reseeds_it(start: Start) {
    thread_local!(static STATE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) });
    /// Marsaglia's xorshift64, a generator that knows nothing of processes.
    fn draw() -> u64 {
        let mut state = STATE.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        STATE.set(state);
        state
    }
    let draws = || -> Vec<u64> { (0..20).map(|_| start.call(LONG).run(draw).unwrap()).collect() };
    draw();
    let repeated = draws();
    assert!(repeated.iter().all(|number| *number == repeated[0]), "the control: nothing to reseed");
    assert_eq!(draw(), repeated[0], "they even repeat the caller's");
    on_child(|| {
        let mut seed = [0; 8];
        File::open("/dev/urandom").unwrap().read_exact(&mut seed).unwrap();
        STATE.set(u64::from_le_bytes(seed) | 1);
    });
    let mut fresh = draws();
    fresh.push(draw());
    fresh.sort_unstable();
    fresh.dedup();
    assert_eq!(fresh.len(), 21);
}

/// Whether the hooks below do what they are there for. Hooks stay for ever, and the harness makes a call of its own.
static ARMED: AtomicBool = AtomicBool::new(true);

fn when_armed(hook: fn()) {
    on_child(move || {
        if ARMED.load(Ordering::Relaxed) {
            hook();
        }
    });
}

/// Makes a call with whatever hook was registered, and then one without it.
#[track_caller]
fn fail(start: Start, call: &Call) -> TimedOut {
    let mark = Mark::new();
    ARMED.store(true, Ordering::Relaxed);
    let begin = Instant::now();
    let error = call.run(|| mark.now()).expect_err("the hook should have ended it");
    assert!(begin.elapsed() < SOON, "told after {:?}", begin.elapsed());
    ARMED.store(false, Ordering::Relaxed);
    assert!(!mark.is_told(), "the body ran");
    assert_eq!(error.ran(), Ran::No, "{error:?}");
    assert!(error.usage().is_some(), "{error:?}");
    assert_eq!(start.call(LONG).run(|| 7).unwrap(), 7);
    error
}

fn a_hook_that_panics_is_told_as_not_started(start: Start) {
    when_armed(|| panic!("no entropy"));
    let line = line!() - 1;
    // What comes behind it does not run.
    when_armed(|| std::process::exit(3));
    for call in [start.call(LONG), start.call(LONG).resume_panics()] {
        let error = fail(start, &call);
        assert!(matches!(error.reason(), Reason::NotStarted(_)), "{error:?}");
        let place = format!("was not started: a hook of `on_child` panicked at {}:{line}:", file!());
        assert!(error.to_string().contains(&place) && error.to_string().ends_with(": no entropy"), "{error}");
    }
}

fn a_hook_that_hangs_is_late(start: Start) {
    when_armed(|| {
        raw::pause();
    });
    let limit = Duration::from_millis(200);
    for call in [start.call(limit), start.call(limit).grace(0.1)] {
        let error = fail(start, &call);
        assert!(error.is_late() && error.elapsed() >= limit, "{error:?}");
        let text = error.to_string();
        assert!(text.contains("did not return within 200 ms: it was in on_child::common::raw::pause at "), "{text}");
        assert!(text.ends_with(" (sleeping), in a hook of `on_child`"), "{text}");
    }
}

fn a_hook_that_ends_its_process_is_told_as_what_it_did(start: Start) {
    when_armed(|| match WAY.load(Ordering::Relaxed) {
        0 => std::process::abort(),
        1 => raw::read_null(),
        2 => std::process::exit(3),
        _ => raw::exit_now(4),
    });
    static WAY: AtomicU32 = AtomicU32::new(0);
    for way in 0..4 {
        WAY.store(way, Ordering::Relaxed);
        let error = fail(start, &start.call(LONG));
        let is_true = matches!(
            (way, error.reason()),
            (0, Reason::Crashed { signal: libc::SIGABRT, .. })
                | (1, Reason::Crashed { signal: libc::SIGSEGV, address: Some(0), .. })
                | (2, Reason::Exited { code: 3, .. })
                | (3, Reason::Exited { code: 4, .. })
        );
        assert!(is_true && error.to_string().ends_with(", in a hook of `on_child`"), "{way}: {error:?}");
    }
}

fn a_hook_is_bound_as_the_body_is(start: Start) {
    when_armed(|| match TO_EAT.load(Ordering::Relaxed) {
        true => greed::EATERS[1].1(),
        false => drop(greed::burn_on()),
    });
    static TO_EAT: AtomicBool = AtomicBool::new(true);
    for (to_eat, resource) in [(true, Resource::Memory), (false, Resource::Cpu)] {
        TO_EAT.store(to_eat, Ordering::Relaxed);
        let error = fail(start, &start.call(LONG).memory(64 << 20).cpu(0.1));
        assert!(matches!(error.reason(), Reason::OutOf(which) if *which == resource), "{error:?}");
        assert!(error.to_string().ends_with(", in a hook of `on_child`"), "{error}");
    }
}

fn a_fork_in_the_middle_of_registrations_changes_nothing(start: Start) {
    const THREADS: u32 = 3;
    const EACH: u32 = 2000;
    let left = AtomicU32::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let left = &left;
            scope.spawn(move || {
                (0..EACH).for_each(|number| on_child(move || see(thread * EACH + number)));
                left.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let mut calls = 0;
        while left.load(Ordering::Relaxed) > 0 || calls == 0 {
            let error_or = start.call(SOON).run(|| {
                // One more, in a child whose copy of the list may be in the middle of anything.
                on_child(|| see(u32::MAX));
                seen()
            });
            check_order(&error_or.unwrap());
            calls += 1;
        }
        println!("{calls} calls");
        assert!(calls > 10, "this proves little");
    });
    let all = start.call(LONG).run(seen).unwrap();
    check_order(&all);
    assert_eq!(all.len() as u32, THREADS * EACH);

    /// Whether the hooks of each thread have run in their order, with none left out.
    fn check_order(seen: &[u32]) {
        for thread in 0..THREADS {
            let own = seen.iter().filter(|number| **number / EACH == thread).map(|number| number % EACH);
            assert!(own.enumerate().all(|(index, number)| index as u32 == number), "{seen:?}");
        }
    }
}
