//! A worker of the fork server that means harm: with all that it was given it reaches its own answer, and nobody else's.
//!
//! What a process may do to any other of its user, by `/proc` or by signals, it may do to its siblings and its server,
//! too: that may lose an answer, but never changes one, and never holds a call up.

mod common;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    thread,
    time::{Duration, Instant},
};

use common::{LONG, Mark, SOON, Start, assert_fails, procs, raw, scenario};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpid, getppid},
};
use timeout_runtime::{Call, Ran, Reason, TimedOut};

common::with_start_method!(started Forkserver [
    siblings_have_nothing_in_common_but_the_streams
    scribbling_over_all_shared_memory_changes_no_siblings_answer
    junk_in_the_pipes_of_siblings_changes_no_answer
]);

common::from_nothing![
    a_worker_that_kills_its_server_is_told_of_truly,
    a_worker_that_stops_its_server_holds_nobody_up,
    junk_to_the_server_ends_it_and_holds_nobody_up,
    junk_from_the_server_holds_nobody_up,
];

fn call<T: timeout_runtime::Portable>(body: impl Fn(()) -> T + Copy) -> Result<T, TimedOut> {
    Call::new(LONG).run_in_server((), body)
}

/// What a process has that another one could have as well: the pages that it shares, and its descriptors without the
/// standard streams. Each is told by the numbers of its file.
fn shared() -> BTreeSet<(u64, u64)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let pages = maps.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (range, rights, offset) = (fields.next()?, fields.next()?, fields.next()?);
        let file: u64 = fields.nth(1)?.parse().unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (begin, end) = range.split_once('-')?;
        let pages = (0..number(end) - number(begin)).step_by(4096);
        rights.ends_with('s').then(|| pages.map(|page| (file, number(offset) + page)).collect::<Vec<_>>())
    });
    let numbers = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().file_name());
    let open = numbers.filter(|number| !["0", "1", "2"].contains(&number.to_str().unwrap()));
    let files = open.filter_map(|number| fs::metadata(format!("/proc/self/fd/{}", number.display())).ok());
    // The listing itself is of this process.
    pages.flatten().chain(files.filter(|file| !file.is_dir()).map(|file| (file.dev(), file.ino()))).collect()
}

fn siblings_have_nothing_in_common_but_the_streams(_: Start) {
    let (begun, go_on) = (Mark::new(), Mark::new());
    let lists: Vec<_> = thread::scope(|scope| {
        let look = || {
            Call::new(LONG).run_in_server((begun.again(), go_on.again()), |(begun, go_on): (Mark, Mark)| {
                begun.now();
                go_on.hear();
                // Both marks are the host's.
                drop((begun, go_on));
                shared()
            })
        };
        let calls: Vec<_> = (0..6).map(|_| scope.spawn(look)).collect();
        (0..6).for_each(|_| assert_ne!(begun.hear(), 0));
        (0..6).for_each(|_| go_on.now());
        calls.into_iter().map(|call| call.join().unwrap().unwrap()).collect()
    });
    for (index, list) in lists.iter().enumerate() {
        // Its result pipe, and the page of its progress: so the search does find them.
        assert!(list.len() >= 2, "{list:?}");
        for other in &lists[index + 1..] {
            assert!(list.is_disjoint(other), "{:?}", list.intersection(other).collect::<Vec<_>>());
        }
    }
}

/// Writes each number of a stage, and others, over all memory that this process shares with anybody, for some time.
fn scribble(time: Duration) {
    let memory = File::options().write(true).open("/proc/self/mem").unwrap();
    let begin = Instant::now();
    let mut number = 0u8;
    while begin.elapsed() < time {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        for line in maps.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|rights| rights == "rw-s")) {
            let (begin, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
            let [begin, end] = [begin, end].map(|text| u64::from_str_radix(text, 16).unwrap());
            memory.write_all_at(&vec![number % 12; (end - begin) as usize], begin).unwrap();
        }
        number = number.wrapping_add(1);
    }
}

fn scribbling_over_all_shared_memory_changes_no_siblings_answer(_: Start) {
    thread::scope(|scope| {
        let begun = Mark::new();
        let scribbler = scope.spawn({
            let begun = begun.again();
            move || {
                Call::new(LONG).run_in_server(begun, |begun: Mark| {
                    begun.now();
                    scribble(Duration::from_millis(1000));
                    7
                })
            }
        });
        begun.hear();
        for round in 0..8 {
            // Whether it ran is read from there: a body that has begun must not pass for one that has not, or that is over.
            let late = Call::new(0.1).run_in_server(begun.again(), |begun: Mark| {
                begun.now();
                raw::pause()
            });
            begun.hear();
            assert_fails!(late, Reason::Late { .. }, Ran::Maybe);
            let ended = Call::new(LONG).run_in_server(round, |round: i32| -> i32 { raw::exit_now(round) });
            assert_fails!(ended, Reason::Exited { code, .. } if *code == round, Ran::Yes);
            let killed = call(|()| kill(getpid(), Signal::SIGKILL).map_or(0, |()| raw::pause()));
            assert_fails!(killed, Reason::Crashed { .. }, Ran::Maybe);
            assert_eq!(Call::new(LONG).run_in_server(round, |round: i32| round).unwrap(), round);
        }
        // What it did, it did to itself.
        assert_eq!(scribbler.join().unwrap().unwrap(), 7);
    });
}

/// The processes of this scenario that have the same parent as this one, and that parent.
fn siblings() -> Vec<Pid> {
    let parent = |pid: Pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<i32>().ok()
    };
    let own = getppid();
    let all = procs::tagged(&scenario::tag()).into_iter();
    all.filter(|pid| *pid != getpid() && (*pid == own || parent(*pid) == Some(own.as_raw()))).collect()
}

/// Writes into each pipe that its siblings and their parent have open, where the system allows it; how many there were.
fn fill_pipes_of_others(time: Duration) -> usize {
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < time {
        for entry in
            siblings().iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok()).flatten().flatten()
        {
            let is_pipe = fs::read_link(entry.path()).is_ok_and(|link| link.to_str().unwrap().starts_with("pipe:"));
            let is_stream = ["0", "1", "2"].contains(&entry.file_name().to_str().unwrap());
            if !is_pipe || is_stream {
                continue;
            }
            if let Ok(mut pipe) = File::options().write(true).open(entry.path()) {
                count += usize::from(pipe.write(&[0xa5; 40]).is_ok());
            }
        }
    }
    count
}

fn junk_in_the_pipes_of_siblings_changes_no_answer(_: Start) {
    let (mut whole, mut lost) = (0, 0);
    thread::scope(|scope| {
        let begun = Mark::new();
        let vandal = scope.spawn({
            let begun = begun.again();
            move || {
                Call::new(LONG).run_in_server(begun, |begun: Mark| {
                    begun.now();
                    drop(begun);
                    fill_pipes_of_others(Duration::from_millis(700))
                })
            }
        });
        begun.hear();
        let begin = Instant::now();
        while !vandal.is_finished() {
            let result = Call::new(LONG).run_in_server(whole, |round: u32| {
                thread::sleep(Duration::from_millis(5));
                vec![round; 20_000]
            });
            match result {
                Ok(value) => {
                    assert_eq!(value, vec![whole; 20_000], "a wrong value");
                    whole += 1;
                }
                Err(error) => {
                    assert!(matches!(error.reason(), Reason::Lost { .. }), "{error:?}");
                    lost += 1;
                }
            }
            assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        }
        let written = vandal.join().unwrap().unwrap();
        println!("{whole} whole, {lost} lost; {written} times junk was written");
        assert!(written > 0 && lost > 0, "this proves nothing");
    });
    // Workers that waited have some of it on their pipes; those that are forked now have not. Each is used once.
    let spoilt = (0..40).filter(|_| call(|()| 7).is_err()).count();
    println!("{spoilt} that waited were spoilt");
    (0..10).for_each(|_| assert_eq!(call(|()| 7).unwrap(), 7));
}

/// Has a worker do something to its server while others run; all ends in time, and the next call is served.
fn while_others_run(attack: impl Fn(()) -> i32 + Copy + Sync) {
    let begun = Mark::new();
    let first = server();
    let before = descriptors();
    let begin = Instant::now();
    thread::scope(|scope| {
        let others: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    Call::new(LONG).run_in_server(begun.again(), |begun: Mark| {
                        begun.now();
                        thread::sleep(Duration::from_millis(200));
                        7
                    })
                })
            })
            .collect();
        (0..3).for_each(|_| assert_ne!(begun.hear(), 0));
        match call(attack) {
            Ok(value) => assert_eq!(value, 7),
            Err(error) => assert!(matches!(error.reason(), Reason::Lost { .. }), "{error:?}"),
        }
        assert_eq!(call(|()| 8).unwrap(), 8, "the next call");
        for other in others {
            match other.join().unwrap() {
                Ok(value) => assert_eq!(value, 7),
                Err(error) => assert!(matches!(error.reason(), Reason::Lost { .. }), "{error:?}"),
            }
        }
    });
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    // A stopped one is noticed when it has no more workers ready.
    assert!((0..40).any(|_| server() != first), "the server of before was asked for ever");
    procs::assert_gone_within(&[first], SOON);
    assert_eq!(descriptors(), before, "the server of before has left descriptors behind");
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The number of the server that serves the next call.
#[track_caller]
fn server() -> Pid {
    Pid::from_raw(call(|()| getppid().as_raw()).unwrap())
}

fn a_worker_that_kills_its_server_is_told_of_truly() {
    while_others_run(|()| {
        kill(getppid(), Signal::SIGKILL).unwrap();
        raw::pause()
    });
}

fn a_worker_that_stops_its_server_holds_nobody_up() {
    while_others_run(|()| {
        kill(getppid(), Signal::SIGSTOP).unwrap();
        7
    });
}

/// The numbers of the sockets for messages that a process has: a host and its server have one for each other.
fn sockets_for_messages(of: Pid) -> Vec<i32> {
    let numbers = fs::read_dir(format!("/proc/{of}/fd")).unwrap().map(|entry| entry.unwrap().file_name());
    let numbers = numbers.map(|number| number.to_str().unwrap().parse().unwrap());
    numbers.filter(|number| raw::descriptor_of(of, *number).is_ok_and(|fd| raw::is_for_messages(&fd))).collect()
}

/// Writes `junk` as the process `of` would; `None` where the system does not let us have its descriptors.
fn write_as(of: Pid, junk: &[u8]) -> Option<()> {
    let sockets = sockets_for_messages(of);
    let [socket] = sockets[..] else { return None };
    let socket = raw::descriptor_of(of, socket).unwrap();
    assert_eq!(raw::write(socket.as_raw_fd(), junk), Ok(junk.len()));
    Some(())
}

/// Has a call run while `junk` is written; it ends truly, and so do the next, the last of them with its value.
fn check_junk(of: fn() -> Pid, junk: &[u8]) {
    server();
    let begun = Mark::new();
    let before = descriptors();
    let begin = Instant::now();
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            Call::new(LONG).run_in_server(begun.again(), |begun: Mark| {
                begun.now();
                thread::sleep(Duration::from_millis(100));
                7
            })
        });
        begun.hear();
        if write_as(of(), junk).is_none() {
            println!("NOT TESTED: the sockets of another process cannot be had");
        }
        // More than can wait in the socket: by then both sides have heard it.
        let told: Vec<_> = (0..100).map(|round| Call::new(LONG).run_in_server(round, |round: i32| round)).collect();
        for (round, result) in (0..).zip(&told) {
            match result {
                Ok(value) => assert_eq!(*value, round),
                Err(error) => {
                    assert!(
                        matches!(error.reason(), Reason::NotStarted(_) | Reason::Lost { .. }),
                        "{junk:?}: {error:?}"
                    )
                }
            }
        }
        assert!(told.last().unwrap().is_ok(), "{junk:?}: {told:?}");
        match running.join().unwrap() {
            Ok(value) => assert_eq!(value, 7),
            Err(error) => assert!(matches!(error.reason(), Reason::Lost { .. }), "{junk:?}: {error:?}"),
        }
    });
    assert!(begin.elapsed() < SOON, "{junk:?}: {:?}", begin.elapsed());
    assert_eq!(descriptors(), before, "{junk:?}");
}

fn junk_to_the_server_ends_it_and_holds_nobody_up() {
    for junk in [&b"X"[..], b"T", b"B\0\0\0\0\0\0\0\x7f", b"B", &[b'T'; 4096], &[0; 20_000]] {
        let first = server();
        check_junk(getpid, junk);
        procs::assert_gone_within(&[first], SOON);
    }
    // These are words that it knows, and only not true.
    for words in [&b"T\0"[..], b"T\x01", b"D\xff\xff\xff\xff", b"D\0\0\0\0"] {
        let first = server();
        check_junk(getpid, words);
        assert_eq!(server(), first);
    }
}

fn junk_from_the_server_holds_nobody_up() {
    for junk in [
        &b"X"[..],
        b"W",
        b"W\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        // Without the descriptors that belong to it.
        b"W\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"R\x0c\0\0\0",
        b"F\xff\xfe",
        &[b'W'; 4096],
        &[0; 20_000],
    ] {
        check_junk(server, junk);
    }
}
