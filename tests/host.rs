//! The host is not touched: its signals, its children, its threads and its sockets are as if no call had been made, and
//! whatever it does with them, calls go on working.

mod common;

use std::{
    fs,
    os::{
        fd::AsRawFd,
        unix::{fs::OpenOptionsExt, process::ExitStatusExt},
    },
    path::PathBuf,
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{LONG, Mark, SOON, Start, endings, oracle::Snapshot, procs, raw, scenario, shapes};
use nix::{
    errno::Errno,
    libc,
    sys::{
        signal::{SigSet, Signal, kill, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpgrp, getpid, read, setsid, write},
};
use timeout_runtime::Reason;
use tokio::runtime::Builder;

common::scenarios_everywhere![
    a_host_that_ignores_sigchld_is_told_the_truth,
    a_host_that_wants_no_zombies_is_told_the_truth,
    a_host_thread_that_waits_for_any_child_does_no_harm,
    the_hosts_own_children_keep_their_statuses,
    a_signal_to_the_child_is_not_seen_by_the_host,
    a_signal_to_the_childs_group_is_not_seen_by_tokio_in_the_host,
    handlers_of_the_host_are_not_in_the_child,
    the_body_has_the_signal_mask_of_its_caller,
    interrupted_calls_go_on,
    a_body_has_a_group_of_its_own_and_is_out_of_reach_of_the_hosts_terminal,
    so_it_is_when_the_terminal_was_there_first,
    a_host_that_forks_itself_calls_on_in_both,
    a_host_that_forks_while_others_call_calls_on,
    calls_work_from_many_short_threads,
    calls_work_among_many_parked_threads,
    calls_work_in_a_destructor,
    calls_work_in_a_destructor_that_runs_by_a_panic,
];

// A worker of the fork server is nobody's copy and not the host's child.
common::scenarios_by_fork![
    a_signal_from_the_first_moment_is_not_seen_by_the_host,
    ignored_signals_stay_ignored_in_the_child,
    a_socket_dropped_in_the_child_lives_on_in_the_host,
];

fn a_host_that_ignores_sigchld_is_told_the_truth(start: Start) {
    raw::ignore(libc::SIGCHLD);
    for _ in 0..20 {
        endings::check_sample_without_statuses(start);
    }
    raw::set_disposition(libc::SIGCHLD, libc::SIG_DFL, 0);
}

fn a_host_that_wants_no_zombies_is_told_the_truth(start: Start) {
    raw::set_disposition(libc::SIGCHLD, libc::SIG_DFL, libc::SA_NOCLDWAIT);
    for _ in 0..20 {
        endings::check_sample_without_statuses(start);
    }
    raw::set_disposition(libc::SIGCHLD, libc::SIG_DFL, 0);
}

fn a_host_thread_that_waits_for_any_child_does_no_harm(start: Start) {
    let stop = AtomicBool::new(false);
    let taken = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => thread::yield_now(),
                    Ok(_) => drop(taken.fetch_add(1, Ordering::Relaxed)),
                    Err(errno) => panic!("{errno}"),
                }
            }
        });
        for round in 0..40 {
            let call = start.call(LONG);
            assert_eq!(start.run(&call, round, |round: i32| round).unwrap(), round);
            assert!(start.run(&call, (), |()| -> u8 { panic!("told") }).unwrap_err().is_panic());
            let exit = start.run(&call, (), |()| -> u8 { process::exit(3) }).unwrap_err();
            assert!(matches!(exit.reason(), Reason::Exited { code: 3, .. }), "{exit:?}");
            let late = start.run(&start.call(Duration::from_millis(3)), (), |()| raw::pause()).unwrap_err();
            assert!(late.is_late(), "{late:?}");
            // Here only the status tells: it is right, or said to be unknown, as it may be to none but a parent.
            let silent = start.run(&call, (), |()| -> u8 { raw::exit_now(4) }).unwrap_err();
            let is_true = match silent.reason() {
                Reason::Lost { .. } => start == Start::Fork,
                reason => matches!(reason, Reason::Exited { code: 4, .. }),
            };
            assert!(is_true, "{silent:?}");
        }
        shapes::check_late(start);
        stop.store(true, Ordering::Relaxed);
    });
    let taken = taken.into_inner();
    println!("{taken} corpses of 200 were taken by the other thread");
    match start {
        Start::Fork => assert!(taken > 0, "this proves nothing"),
        Start::Forkserver => assert_eq!(taken, 0, "a worker was a child of the host"),
    }
}

fn the_hosts_own_children_keep_their_statuses(start: Start) {
    let mine: Vec<_> = (0..20).map(|code| raw::fork(|| raw::exit_now(code))).collect();
    let killed = raw::fork(|| kill(getpid(), Signal::SIGKILL).unwrap());
    let mut shell = Command::new("sh").args(["-c", "exit 5"]).spawn().unwrap();
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    for _ in 0..5 {
        endings::check_sample(start);
    }
    for (code, pid) in mine.into_iter().enumerate() {
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, code as i32)));
    }
    assert_eq!(waitpid(killed, None), Ok(WaitStatus::Signaled(killed, Signal::SIGKILL, false)));
    assert_eq!(shell.wait().unwrap().code(), Some(5));
    assert!(sleeper.try_wait().unwrap().is_none(), "a child of the host was ended");
    sleeper.kill().unwrap();
    assert_eq!(sleeper.wait().unwrap().signal(), Some(9));
}

/// A host with signal-hook's flags and self-pipes for SIGTERM and SIGINT.
struct Hooks {
    flags: Vec<Arc<AtomicBool>>,
    pipes: Vec<std::os::unix::net::UnixStream>,
    ids: Vec<signal_hook::SigId>,
}

impl Hooks {
    fn install() -> Hooks {
        let mut hooks = Hooks { flags: vec![], pipes: vec![], ids: vec![] };
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let flag = Arc::new(AtomicBool::new(false));
            let (read, write) = std::os::unix::net::UnixStream::pair().unwrap();
            read.set_nonblocking(true).unwrap();
            hooks.ids.push(signal_hook::flag::register(signal, flag.clone()).unwrap());
            hooks.ids.push(signal_hook::low_level::pipe::register(signal, write).unwrap());
            hooks.flags.push(flag);
            hooks.pipes.push(read);
        }
        hooks
    }

    /// How many signals the host has seen.
    fn seen(&self) -> usize {
        let flags = self.flags.iter().filter(|flag| flag.load(Ordering::SeqCst)).count();
        let bytes = self.pipes.iter().map(|mut pipe| std::io::Read::read(&mut pipe, &mut [0; 64]).unwrap_or(0));
        flags + bytes.sum::<usize>()
    }

    fn remove(self) {
        self.ids.into_iter().for_each(|id| assert!(signal_hook::low_level::unregister(id)));
        // signal-hook leaves its own handler installed.
        for signal in [libc::SIGTERM, libc::SIGINT] {
            raw::set_disposition(signal, libc::SIG_DFL, 0);
        }
    }
}

fn a_signal_to_the_child_is_not_seen_by_the_host(start: Start) {
    let hooks = Hooks::install();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        for _ in 0..20 {
            let result = start.run(&start.call(LONG), signal as i32, |signal| {
                kill(getpid(), Signal::try_from(signal).unwrap()).unwrap();
                raw::pause()
            });
            let error = result.unwrap_err();
            // It has the default effect, and not that of the host's handler.
            assert!(
                matches!(error.reason(), Reason::Crashed { signal: told, .. } if *told == signal as i32),
                "{error:?}"
            );
        }
    }
    let brief = start.call(Duration::from_millis(20)).grace(LONG);
    let late = start.run(&brief, (), |()| raw::pause()).unwrap_err();
    assert!(late.is_late() && late.elapsed() < LONG, "{late:?}");
    assert_eq!(hooks.seen(), 0, "the host saw a signal that was its child's");
    // The control: the host does see its own.
    nix::sys::signal::raise(Signal::SIGTERM).unwrap();
    assert!(hooks.seen() >= 2);
    hooks.remove();
}

fn a_signal_from_the_first_moment_is_not_seen_by_the_host(start: Start) {
    let hooks = Hooks::install();
    let stop = AtomicBool::new(false);
    let (mut struck, mut missed) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for child in procs::children() {
                    let _ = kill(child, Signal::SIGTERM);
                }
            }
        });
        for _ in 0..300 {
            match start.call(LONG).run(|| thread::sleep(Duration::from_micros(300))) {
                Ok(()) => missed += 1,
                Err(error) => {
                    assert!(matches!(error.reason(), Reason::Crashed { signal: libc::SIGTERM, .. }), "{error:?}");
                    struck += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{struck} children were struck, {missed} were not");
    assert!(struck > 0, "this proves nothing");
    assert_eq!(hooks.seen(), 0, "the host saw a signal that was its child's");
    hooks.remove();
}

/// Makes calls whose groups are sent a signal, from inside and from here, in a host that has a stream of that signal.
async fn signal_groups_beside_a_stream(start: Start, sent: Signal) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut stream = signal(SignalKind::from_raw(sent as i32)).unwrap();
    let mut fences = signal(SignalKind::user_defined1()).unwrap();
    let running = Mark::new();
    for from_inside in [true, false].repeat(10) {
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                let group = Pid::from_raw(running.hear() as i32);
                if !from_inside {
                    killpg(group, sent).unwrap();
                }
            });
            let arguments = (running.again(), from_inside.then_some(sent as i32));
            start.run(&start.call(LONG), arguments, |(running, from_inside): (Mark, Option<i32>)| {
                running.tell(process::id().into());
                if let Some(signal) = from_inside {
                    killpg(getpgrp(), Signal::try_from(signal).unwrap()).unwrap();
                }
                raw::pause()
            })
        });
        // It has the default effect, and not that of tokio's handler.
        let error = result.unwrap_err();
        assert!(matches!(error.reason(), Reason::Crashed { signal, .. } if *signal == sent as i32), "{error:?}");
    }
    let brief = start.call(Duration::from_millis(20)).grace(LONG);
    let late = start.run(&brief, (), |()| raw::pause()).unwrap_err();
    assert!(late.is_late() && late.elapsed() < LONG, "{late:?}");
    // What was sent before a signal of our own has arrived when that has.
    kill(getpid(), Signal::SIGUSR1).unwrap();
    assert_eq!(tokio::time::timeout(LONG, fences.recv()).await, Ok(Some(())));
    let seen = tokio::time::timeout(Duration::ZERO, stream.recv()).await;
    assert!(seen.is_err(), "the host saw a signal that was its child's");
    // The control: the host does see its own.
    kill(getpid(), sent).unwrap();
    assert_eq!(tokio::time::timeout(LONG, stream.recv()).await, Ok(Some(())));
}

fn a_signal_to_the_childs_group_is_not_seen_by_tokio_in_the_host(start: Start) {
    beside_tokio(|| {
        for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let runtime = builder.worker_threads(2).enable_all().build().unwrap();
            for signal in [Signal::SIGTERM, Signal::SIGINT] {
                runtime.block_on(signal_groups_beside_a_stream(start, signal));
            }
        }
        // tokio leaves its own handlers installed.
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1] {
            raw::set_disposition(signal, libc::SIG_DFL, 0);
        }
    });
}

/// Runs `body` in a process of its own under the oracle, which begins there when tokio has made its socket for signals:
/// tokio keeps that for ever, from the first runtime on.
fn beside_tokio(body: impl FnOnce()) {
    let child = raw::fork(|| {
        drop(Builder::new_current_thread().enable_all().build());
        scenario::method().prepare();
        let before = Snapshot::take();
        body();
        before.assert_unchanged();
    });
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
}

fn handlers_of_the_host_are_not_in_the_child(start: Start) {
    let caught = [libc::SIGHUP, libc::SIGTERM, libc::SIGUSR1, libc::SIGCHLD, libc::SIGALRM, 40];
    caught.into_iter().for_each(raw::interrupt_on);
    let inside = start.run(&start.call(LONG), caught, |caught| caught.map(raw::disposition)).unwrap();
    for (signal, disposition) in caught.into_iter().zip(inside) {
        assert!(disposition.starts_with("default"), "signal {signal}: {disposition}");
        assert!(!raw::disposition(signal).starts_with("default"), "signal {signal} lost its handler in the host");
        raw::set_disposition(signal, libc::SIG_DFL, 0);
    }
}

fn ignored_signals_stay_ignored_in_the_child(start: Start) {
    raw::ignore(libc::SIGUSR2);
    let inside = start.call(LONG).run(|| [libc::SIGUSR2, libc::SIGPIPE].map(raw::disposition)).unwrap();
    assert!(inside.iter().all(|disposition| disposition.starts_with("ignored")), "{inside:?}");
    raw::set_disposition(libc::SIGUSR2, libc::SIG_DFL, 0);
}

fn the_body_has_the_signal_mask_of_its_caller(start: Start) {
    fn names(mask: SigSet) -> Vec<i32> {
        mask.iter().map(|signal| signal as i32).collect()
    }
    let look = |()| names(SigSet::thread_get_mask().unwrap());
    assert_eq!(start.run(&start.call(LONG), (), look).unwrap(), [0i32; 0]);
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGUSR1);
    mask.add(Signal::SIGTERM);
    mask.thread_block().unwrap();
    assert_eq!(start.run(&start.call(LONG), (), look).unwrap(), names(mask));
    assert_eq!(SigSet::thread_get_mask().unwrap(), mask);
    mask.thread_unblock().unwrap();
}

fn interrupted_calls_go_on(start: Start) {
    raw::interrupt_on(libc::SIGALRM);
    raw::alarm_every(200);
    for _ in 0..10 {
        endings::check_sample(start);
    }
    raw::alarm_every(0);
    // Takes back an alarm that is on its way, for which the default would be death.
    raw::ignore(libc::SIGALRM);
    raw::set_disposition(libc::SIGALRM, libc::SIG_DFL, 0);
}

fn a_body_has_a_group_of_its_own_and_is_out_of_reach_of_the_hosts_terminal(start: Start) {
    let leads = |()| (getpgrp() == getpid(), fs::File::open("/dev/tty").is_ok());
    let child = raw::fork(|| {
        setsid().unwrap();
        // It comes when the terminal is given back.
        raw::ignore(libc::SIGHUP);
        start.prepare();
        let before = Snapshot::take();
        assert_eq!(start.run(&start.call(LONG), (), leads).unwrap(), (true, false), "without a terminal");
        let (keyboard, terminal) = raw::take_terminal();
        // That there is one is noticed soon. The control: a child that was forked before that has it in reach. A server that is
        // older than the terminal has not, nor have its workers.
        let begin = Instant::now();
        let mut was_in_reach = false;
        while start.run(&start.call(LONG), (), leads).unwrap() != (true, false) {
            was_in_reach = true;
            assert!(begin.elapsed() < SOON, "the host's terminal stays in reach");
        }
        assert_eq!(was_in_reach, start == Start::Fork);
        // A background process that reads from its terminal is stopped (SIGTTIN); so would be the body.
        let line = b"a line that is typed\n";
        write(&keyboard, line).unwrap();
        let path = fs::read_link(format!("/proc/self/fd/{}", terminal.as_raw_fd())).unwrap();
        let read = start.run(&start.call(LONG), path, |path: PathBuf| {
            let terminal = fs::File::options().read(true).custom_flags(libc::O_NOCTTY).open(path).unwrap();
            let mut text = vec![0; 64];
            let count = read(&terminal, &mut text);
            count.map(|count| text[..count].to_vec()).map_err(|errno| errno as i32)
        });
        assert_eq!(read.unwrap(), Ok(line.to_vec()));
        drop((keyboard, terminal));
        before.assert_unchanged();
    });
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
}

fn so_it_is_when_the_terminal_was_there_first(start: Start) {
    let child = raw::fork(|| {
        setsid().unwrap();
        raw::ignore(libc::SIGHUP);
        let (keyboard, terminal) = raw::take_terminal();
        let reaches = |()| (getpgrp() == getpid(), fs::File::open("/dev/tty").is_ok());
        // The control: whoever is forked from here has it.
        scenario::alone(|| assert_eq!(reaches(()), (false, true)));
        assert_eq!(start.run(&start.call(LONG), (), reaches).unwrap(), (true, false));
        drop((keyboard, terminal));
    });
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
}

fn a_host_that_forks_itself_calls_on_in_both(start: Start) {
    assert_eq!(start.run(&start.call(LONG), (), |()| 1).unwrap(), 1);
    for _ in 0..5 {
        // With a corpse waiting to be reaped, and without.
        start.run(&start.call(Duration::from_millis(2)), (), |()| raw::pause()).unwrap_err();
        scenario::alone(|| {
            endings::check_sample(start);
            start.assert_taken();
            scenario::alone(|| assert_eq!(start.run(&start.call(LONG), (), |()| 3).unwrap(), 3));
        });
        endings::check_sample(start);
    }
}

fn a_host_that_forks_while_others_call_calls_on(start: Start) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(start.run(&start.call(LONG), (), |()| 5).unwrap(), 5);
                }
            });
        }
        let mut stuck = 0;
        for round in 0..150 {
            let told = Mark::new();
            let child = raw::fork(|| told.tell(start.run(&start.call(LONG), round, |round: u64| round).unwrap()));
            // A call that waits for a lock of a thread that is not there would wait for ever, whatever its limit.
            if told.is_told_within(SOON) {
                assert_eq!(told.hear(), round);
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            } else {
                stuck += 1;
                kill(child, Signal::SIGKILL).unwrap();
                waitpid(child, None).unwrap();
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(stuck, 0, "a call never returned");
    });
}

fn a_socket_dropped_in_the_child_lives_on_in_the_host(start: Start) {
    beside_tokio(|| {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(drop_sockets_in_children(start));
    });
}

async fn drop_sockets_in_children(start: Start) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for round in 0..10u8 {
        let (near, mut far) = tokio::net::UnixStream::pair().unwrap();
        let mut near = Some(near);
        // The child drops its copy, which the event loop of the host watches.
        start.call(LONG).run(|| drop(near.take())).unwrap();
        let mut near = near.unwrap();
        let reader = tokio::spawn(async move {
            let mut bytes = [0; 3];
            near.read_exact(&mut bytes).await.map(|_| bytes)
        });
        tokio::task::yield_now().await;
        far.write_all(&[round, 2, 3]).await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(20), reader).await;
        assert_eq!(read.expect("the socket never woke").unwrap().unwrap(), [round, 2, 3]);
    }
}

fn calls_work_from_many_short_threads(start: Start) {
    for number in 0..300 {
        let result = thread::spawn(move || start.run(&start.call(LONG), number, |number: i32| number).unwrap()).join();
        assert_eq!(result.unwrap(), number);
    }
}

fn calls_work_among_many_parked_threads(start: Start) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let parked: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        thread::park();
                    }
                })
            })
            .collect();
        endings::check_sample(start);
        stop.store(true, Ordering::Relaxed);
        parked.iter().for_each(|thread| thread.thread().unpark());
    });
}

struct CallsWhenDropped<'a>(Start, &'a mut Option<i32>);

impl Drop for CallsWhenDropped<'_> {
    fn drop(&mut self) {
        *self.1 = self.0.run(&self.0.call(LONG), (), |()| 6).ok();
    }
}

fn calls_work_in_a_destructor(start: Start) {
    let mut given = None;
    drop(CallsWhenDropped(start, &mut given));
    assert_eq!(given, Some(6));
}

fn calls_work_in_a_destructor_that_runs_by_a_panic(start: Start) {
    let mut given = None;
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _calls = CallsWhenDropped(start, &mut given);
        panic!("on purpose");
    }));
    assert!(caught.is_err());
    assert_eq!(given, Some(6));
}
