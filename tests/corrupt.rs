//! A child that has lost its mind: whatever it does to its descriptors, its caller gets the right value or a true reason.

mod common;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::MetadataExt,
    },
    process, thread,
    time::{Duration, Instant},
};

use common::{LONG, Mark, SOON, Start, procs, raw, travel::Fun};
use nix::time::ClockId;
use timeout_runtime::{Portable, Ran, Reason, TimedOut};

common::scenarios_everywhere![
    junk_on_every_descriptor_before_the_value_loses_it,
    a_few_bytes_of_junk_lose_the_value_as_well,
    junk_on_every_descriptor_while_the_value_is_sent_never_changes_it,
    junk_without_end_is_over_at_once,
    a_few_bytes_of_junk_from_a_body_that_goes_on_are_told_as_such,
    a_child_that_ends_while_it_sends_gives_no_value,
    a_child_that_closes_everything_has_lost_its_value,
    a_child_that_puts_a_file_over_its_pipe_has_lost_its_value,
    a_child_that_closes_everything_and_goes_on_is_late,
    a_caller_sleeps_while_it_waits_for_a_child_that_has_closed_its_pipe,
    a_crash_of_a_child_that_has_closed_everything_is_told,
    a_value_that_claims_to_be_huge_is_lost_and_takes_no_room,
    a_report_that_claims_to_be_huge_is_lost_at_once,
];

/// Every descriptor that the library may have open here. Those below are the standard streams.
const DESCRIPTORS: std::ops::Range<RawFd> = 3..64;

fn write_junk(length: usize) {
    let junk = vec![0xa5; length];
    for fd in DESCRIPTORS {
        let _ = raw::write(fd, &junk);
    }
}

fn close_everything() {
    DESCRIPTORS.for_each(raw::close);
}

/// Waits until some of the value is in the pipe. There is more of it than fits in there.
fn wait_until_it_is_sent() {
    while !DESCRIPTORS.into_iter().any(|fd| raw::bytes_in_pipe(fd) > 0) {
        std::hint::spin_loop();
    }
}

#[track_caller]
fn assert_lost<T: std::fmt::Debug>(result: Result<T, TimedOut>) {
    let error = result.unwrap_err();
    assert!(matches!(error.reason(), Reason::Lost { .. }), "{error:?}");
}

fn junk_on_every_descriptor_before_the_value_loses_it(start: Start) {
    for length in [32, 64, 4096, 50_000] {
        let begin = Instant::now();
        assert_lost(start.run(&start.call(LONG), length, |length| {
            write_junk(length);
            7
        }));
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    }
    // The next call has a pipe of its own.
    assert_eq!(start.run(&start.call(LONG), (), |()| 7).unwrap(), 7);
}

fn a_few_bytes_of_junk_lose_the_value_as_well(start: Start) {
    for length in [1, 8, 31] {
        for _ in 0..10 {
            assert_lost(start.run(&start.call(LONG), length, |length| {
                write_junk(length);
                7
            }));
        }
    }
}

fn a_few_bytes_of_junk_from_a_body_that_goes_on_are_told_as_such(start: Start) {
    for length in [1, 8, 31, 32] {
        assert_lost(start.run(&start.call(LONG), length, |length| {
            write_junk(length);
            raw::pause()
        }));
    }
}

fn junk_on_every_descriptor_while_the_value_is_sent_never_changes_it(start: Start) {
    let (mut whole, mut lost) = (0, 0);
    for round in 0..60u64 {
        let result = start.run(&start.call(LONG), round, |round: u64| {
            thread::spawn(move || {
                wait_until_it_is_sent();
                // From some moment on, until the end of the process: from at once to when all has long been sent.
                thread::sleep(Duration::from_micros(1 << (round / 3)));
                loop {
                    write_junk(1 + round as usize);
                }
            });
            vec![round; 1 << 20]
        });
        match result {
            Ok(value) => {
                assert!(value == vec![round; 1 << 20], "a wrong value");
                whole += 1;
            }
            Err(error) => {
                assert!(matches!(error.reason(), Reason::Lost { .. }), "{error:?}");
                lost += 1;
            }
        }
    }
    println!("{whole} whole, {lost} lost");
    assert!(whole > 0 && lost > 0, "this proves nothing");
    assert!(procs::status("VmHWM") < 200 << 10, "the host took in {} KiB", procs::status("VmHWM"));
}

fn junk_without_end_is_over_at_once(start: Start) {
    let begin = Instant::now();
    assert_lost(start.run(&start.call(LONG), (), |()| -> i32 {
        loop {
            write_junk(60_000);
        }
    }));
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert!(procs::status("VmHWM") < 100 << 10, "the host took in {} KiB", procs::status("VmHWM"));
}

fn a_child_that_ends_while_it_sends_gives_no_value(start: Start) {
    let (mut whole, mut cut, mut exited) = (0, 0, 0);
    for round in 0..60u64 {
        let result = start.run(&start.call(LONG), round, |round: u64| {
            thread::spawn(move || {
                match round % 2 {
                    0 => wait_until_it_is_sent(),
                    _ => thread::sleep(Duration::from_micros(1000 + round * 300)),
                }
                raw::exit_now(3)
            });
            vec![round; 1 << 20]
        });
        match result {
            Ok(value) => {
                assert!(value == vec![round; 1 << 20], "a wrong value");
                whole += 1;
            }
            Err(error) => match error.reason() {
                Reason::Lost { .. } => cut += 1,
                Reason::Exited { code: 3, .. } => exited += 1,
                _ => panic!("{error:?}"),
            },
        }
    }
    println!("{whole} whole, {cut} cut, {exited} exited");
    assert!(cut > 0, "this proves nothing");
}

fn a_child_that_closes_everything_has_lost_its_value(start: Start) {
    let begin = Instant::now();
    let result = start.run(&start.call(LONG), (), |()| {
        close_everything();
        7
    });
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    let error = result.unwrap_err();
    assert!(matches!(error.reason(), Reason::Lost { .. }), "it did return: {error:?}");
    assert_eq!(error.ran(), Ran::Yes);
}

fn a_child_that_puts_a_file_over_its_pipe_has_lost_its_value(start: Start) {
    let result = start.run(&start.call(LONG), (), |()| {
        let null = fs::File::options().write(true).open("/dev/null").unwrap();
        for fd in DESCRIPTORS.filter(|fd| *fd != null.as_raw_fd()) {
            raw::dup_onto(null.as_raw_fd(), fd);
        }
        7
    });
    let error = result.unwrap_err();
    assert!(matches!(error.reason(), Reason::Lost { .. }), "it did return: {error:?}");
}

fn a_child_that_closes_everything_and_goes_on_is_late(start: Start) {
    let limit = Duration::from_millis(100);
    let begin = Instant::now();
    let error = start.run(&start.call(limit), (), |()| {
        close_everything();
        raw::pause()
    });
    let elapsed = begin.elapsed();
    assert!(error.unwrap_err().is_late());
    assert!(elapsed >= limit && elapsed < SOON, "{elapsed:?}");
}

fn a_caller_sleeps_while_it_waits_for_a_child_that_has_closed_its_pipe(start: Start) {
    let own_time = || Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap());
    let before = own_time();
    let result = start.run(&start.call(0.5), (), |()| {
        close_everything();
        raw::pause()
    });
    let spent = own_time() - before;
    assert!(result.unwrap_err().is_late());
    assert!(spent < Duration::from_millis(100), "{spent:?} of computing for half a second of waiting");
}

fn a_crash_of_a_child_that_has_closed_everything_is_told(start: Start) {
    let ends: [fn() -> i32; 3] = [|| std::process::abort(), || raw::exit_now(4), || panic!("unheard")];
    let told = ends.map(|end| {
        let begin = Instant::now();
        let result = start.run(&start.call(LONG), Fun(end), |Fun(end): Fun<i32>| {
            close_everything();
            end()
        });
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        result.unwrap_err()
    });
    assert!(told[0].is_crash(), "{:?}", told[0]);
    assert!(matches!(told[1].reason(), Reason::Exited { code: 4, .. }), "{:?}", told[1]);
    // Nobody can tell that it was a panic, but it was neither a value nor late.
    assert!(!told[2].is_late(), "{:?}", told[2]);
}

/// The pipes that this process has open, by their inodes, with the numbers of their writing ends.
fn writing_ends() -> BTreeMap<u64, RawFd> {
    let writes = |fd: &RawFd| raw::pipe_capacity(*fd) > 0 && raw::write(*fd, &[]).is_ok();
    let inode = |fd| fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().ino();
    DESCRIPTORS.filter(writes).map(|fd| (inode(fd), fd)).collect()
}

/// Runs a body whose frame has another length in its header when it arrives: the child's own pipe ends in this process,
/// which passes the frame on, but not to its end. It is too long for the child to be done with it before.
fn run_with_claim<T: Portable>(start: Start, claim: u64, body: fn() -> T) -> TimedOut {
    const HEADER: usize = 56;
    let (mut reader, writer) = io::pipe().unwrap();
    raw::set_pipe_capacity(reader.as_raw_fd(), 4096).unwrap();
    let (told, go_on) = (Mark::new(), Mark::new());
    let others: Vec<u64> = writing_ends().into_keys().collect();
    let relay = || {
        let (pid, number) = (told.hear(), told.hear());
        let mut pipe = File::options().write(true).open(format!("/proc/{pid}/fd/{number}")).unwrap();
        go_on.now();
        let mut frame = [0; HEADER + 20_000];
        reader.read_exact(&mut frame).unwrap();
        frame[HEADER - 8..HEADER].copy_from_slice(&claim.to_le_bytes());
        // By now the caller may have had enough.
        let _ = pipe.write_all(&frame);
        // With that the child's writing fails.
        drop(reader);
    };
    let place = format!("/proc/{}/fd/{}", process::id(), writer.as_raw_fd());
    let arguments = (told.again(), go_on.again(), others, place, Fun(body));
    thread::scope(|scope| {
        scope.spawn(relay);
        let result = start.run(&start.call(LONG), arguments, |(told, go_on, others, place, Fun(body))| {
            let mut own = writing_ends();
            own.retain(|inode, _| !others.contains(inode));
            assert_eq!(own.len(), 1, "{own:?}");
            let own = own.into_values().next().unwrap();
            let relay = File::options().write(true).open(place).unwrap();
            told.tell(process::id().into());
            told.tell(own as u64);
            go_on.hear();
            raw::dup_onto(relay.as_raw_fd(), own);
            body()
        });
        result.err().expect("the call should have failed")
    })
}

fn a_value_that_claims_to_be_huge_is_lost_and_takes_no_room(start: Start) {
    fn check<T: Portable>(start: Start, body: fn() -> T) {
        for claim in [4 << 30, 1 << 62, u64::MAX] {
            let (begin, before) = (Instant::now(), procs::status("VmPeak"));
            let error = run_with_claim(start, claim, body);
            assert!(matches!(error.reason(), Reason::Lost { .. }), "{error:?}");
            assert!(error.to_string().contains("ended in the middle of sending it"), "{error}");
            assert_eq!(error.ran(), Ran::Yes);
            assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
            let more = procs::status("VmPeak") - before;
            assert!(more < 1 << 20, "room for {more} KiB was made for {claim} bytes");
        }
    }
    // More than the mebibyte that a pipe is widened to.
    check(start, || vec![7u8; 4 << 20]);
    check(start, || vec![7u64; 1 << 20]);
    check(start, || "x".repeat(4 << 20));
    check(start, || vec![Some(7u8); 4 << 20]);
}

fn a_report_that_claims_to_be_huge_is_lost_at_once(start: Start) {
    for claim in [(1 << 20) + 1, 4 << 30, u64::MAX] {
        let begin = Instant::now();
        let error = run_with_claim(start, claim, || -> u8 { panic!("{}", "long ".repeat(10_000)) });
        let expected = format!("its report claims to be {claim} bytes long");
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(matches!(error.reason(), Reason::Lost { .. }), "{error:?}");
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    }
}
