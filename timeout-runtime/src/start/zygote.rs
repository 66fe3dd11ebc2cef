//! The fork server: a process of this program that forks workers, and does nothing else.
//!
//! It is caught before `main`, has one thread, and runs no code of the program but its preloads. It never sees what a call
//! is: it hands the ends of a worker's pipe and socket to the host, and tells how the worker ended. A worker that is in
//! the host's hands has no way to talk to the server, and the server has no way to hear what a worker says.
//!
//! It ends with its host, and takes its workers along: whether the host closes its socket, runs another program or is
//! killed. Where the server itself is killed, its workers notice (see [`lifeline`](crate::sys::lifeline)).

use std::{
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, chdir, getpid},
};

use crate::{
    child::{panic, spare},
    sys::{
        fd, fdpass, image,
        inflow::Inflow,
        lifeline,
        pidfd::{self, Whom},
        pipe, process,
        sched::{self, Cores},
        sheet, signal,
    },
    wire::{
        stage::{ServedStages, StageCell},
        zygote::{Answer, LONGEST, Request, obituary},
    },
};

image::before_main!(serve_if_asked);

/// The least and the most spares that are kept ready. More than a few only take cores from those who work.
const SPARES: std::ops::RangeInclusive<u32> = 2..=8;

/// After so long without a caller that had to wait, one spare less will do.
const CALM: Duration = Duration::from_secs(1);

/// No more workers than that wait in the socket, whatever callers ask for.
const MOST_WAITING: u32 = 64;

/// Serves if the host that `argument` names has started this process for it; otherwise the program runs as usual.
///
/// The name alone makes no server: the standard input has to be a socket that the host itself has made. A program that has
/// more rights than whoever started it ends then.
fn serve_if_asked(argument: &str) {
    let Ok(host) = argument.parse().map(Pid::from_raw) else { return };
    if !fdpass::is_made_by(std::io::stdin().as_fd(), host) {
        return;
    }
    if process::has_foreign_rights() {
        process::exit_now(1);
    }
    let given = [0, 3, 4, 5].map(fd::inherited);
    let [Ok(control), Ok(host_pidfd), Ok(stages), Ok(life)] = given else { process::exit_now(1) };
    let pages = ServedStages::in_file(stages.as_fd());
    drop(stages);
    // Whatever happens in here, `main` never runs.
    let _ = catch_unwind(AssertUnwindSafe(|| serve(host, control, host_pidfd, life, pages)));
    process::exit_now(1)
}

fn serve(host: Pid, control: OwnedFd, host_pidfd: OwnedFd, life: OwnedFd, stages: ServedStages) {
    // Ctrl-C is the host's alone; a terminal that its session gets later is not ours (tty_jobctrl.c gives it to the leader, and
    // to who is forked from there). Without one, a session would be a group of tasks of its own for the scheduler, too
    // (autogroup, sched(7)), in which a late worker may wait for its core for as long as 60 ms.
    let _ = match process::has_terminal() {
        true => process::new_session(),
        false => process::new_group(),
    };
    lifeline::tie(life.as_fd(), getpid());
    let _ = chdir("/");
    // Ignored, it would take the statuses of the workers along.
    signal::set_default(libc::SIGCHLD);
    signal::set_mask(&SigSet::empty());
    let control = move_from_stdin(control);
    let mut server = Server {
        pid: getpid(),
        host,
        stages,
        control,
        host_pidfd,
        life,
        workers: Vec::new(),
        target: *SPARES.start(),
        hurried: Instant::now(),
    };
    // What is asked of us can wait for whoever asks: a caller that takes a worker, or is done with one, has to go on.
    sched::be_patient(true);
    if let Err(why) = server.begin() {
        server.answer(&Answer::Failed { why }, &[]);
        return;
    }
    server.run();
    server.end();
}

/// Number 0 is a standard stream's, and must not be ours when workers get theirs.
fn move_from_stdin(control: OwnedFd) -> OwnedFd {
    let Ok(moved) = control.try_clone() else { return control };
    if let Ok(nothing) = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
        for number in 0..3 {
            let _ = fd::put_at(Some(&nothing), number);
        }
    }
    // What has its number now is not ours to close.
    std::mem::forget(control);
    moved
}

struct Server {
    pid: Pid,
    host: Pid,
    control: OwnedFd,
    host_pidfd: OwnedFd,
    /// Kept, not used: the kernel kills us when its other end is closed.
    life: OwnedFd,
    stages: ServedStages,
    workers: Vec<Worker>,
    /// How many workers there should be in the socket that no caller has taken.
    target: u32,
    /// When a caller last had to wait.
    hurried: Instant,
}

/// A worker, from its fork until it is reaped and nobody asks for it any more.
struct Worker {
    pid: Pid,
    pidfd: OwnedFd,
    /// Ours of the two ends at its side: its host hears its end here, and we hear that the host has let go.
    line: OwnedFd,
    /// The other side, kept so that its host's copy is not the last: the kernel looks for lost sockets whenever one is freed
    /// while others travel, and the caller would wait for that.
    host_end: OwnedFd,
    slot: u32,
    /// Where a caller that takes it says so.
    stage: Option<StageCell>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It lives, and its host holds the other end.
    Held,
    /// It is dead, and its corpse keeps its number for the host, which may still signal its group.
    Dead,
    /// The host has let go of it; it has been killed and is reaped as soon as that has taken effect.
    Dropped,
}

/// What is worth a look.
struct Ready {
    control: bool,
    host_is_gone: bool,
    /// For each worker: whether it is dead, or, if that is known, whether its host has let go of it.
    workers: Vec<bool>,
}

impl Server {
    /// Hears the first message and runs what it names; says what went wrong with it otherwise.
    fn begin(&mut self) -> Result<(), String> {
        let mut bytes = [0; LONGEST];
        // The host may be gone before it has said a word.
        self.wait().ok_or("it could not wait for its host")?;
        let read = fdpass::receive(self.control.as_fd(), &mut bytes, false).map_err(|errno| errno.to_string())?;
        let Some(Request::Begin { preloads }) = Request::parse(&bytes[..read.0]) else {
            return Err("the fork server did not understand its host".into());
        };
        for number in preloads {
            let preload = image::thunk_at(number).ok_or("the fork server does not know a preload")?;
            catch_unwind(AssertUnwindSafe(|| preload(Inflow::default())))
                .map_err(|payload| format!("a preload panicked: {}", panic::text(&*payload)))?;
        }
        // A preload may have set some; every worker starts without, and this once is cheaper than in each.
        let mask = signal::block_all();
        signal::reset_handlers();
        signal::set_mask(&mask);
        spare::prepare_server();
        match process::thread_count() {
            1 => Ok(()),
            more => Err(format!("a preload has left {} threads in the fork server, which may have none", more - 1)),
        }
    }

    fn run(&mut self) {
        loop {
            for _ in self.waiting()..self.target {
                if !self.hatch() {
                    break;
                }
            }
            let Some(ready) = self.wait() else { return };
            if ready.host_is_gone || (ready.control && !self.hear()) {
                return;
            }
            for (worker, _) in self.workers.iter_mut().zip(ready.workers).filter(|(_, is_ready)| *is_ready) {
                worker.look_after();
            }
            self.workers.retain(|worker| !worker.is_reaped());
            self.calm_down();
        }
    }

    /// Sleeps until something happens; `None` if even that is not possible.
    fn wait(&self) -> Option<Ready> {
        let mut polled = Vec::with_capacity(2 + 2 * self.workers.len());
        polled.push(PollFd::new(self.control.as_fd(), PollFlags::POLLIN));
        polled.push(PollFd::new(self.host_pidfd.as_fd(), PollFlags::POLLIN));
        for worker in &self.workers {
            polled.push(match worker.phase {
                Phase::Held | Phase::Dropped => PollFd::new(worker.pidfd.as_fd(), PollFlags::POLLIN),
                // A corpse that is kept would wake us for ever.
                Phase::Dead => PollFd::new(worker.line.as_fd(), PollFlags::empty()),
            });
        }
        loop {
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
        let is = |polled: &PollFd<'_>| polled.any().unwrap_or(true);
        Some(Ready {
            control: is(&polled[0]),
            host_is_gone: is(&polled[1]),
            workers: polled[2..].iter().map(is).collect(),
        })
    }

    /// How many workers are in the socket that no caller has taken. One that cannot tell counts as such until it ends.
    fn waiting(&self) -> u32 {
        let waits =
            |worker: &&Worker| worker.phase == Phase::Held && worker.stage.as_ref().is_none_or(StageCell::is_on_offer);
        u32::try_from(self.workers.iter().filter(waits).count()).unwrap_or(u32::MAX)
    }

    /// Hears all that the host has said; `false` if the host has hung up, or talks nonsense.
    fn hear(&mut self) -> bool {
        let mut bytes = [0; LONGEST];
        loop {
            match fdpass::receive(self.control.as_fd(), &mut bytes, false) {
                Err(Errno::EAGAIN) => return true,
                Ok((length @ 1.., _)) => match Request::parse(&bytes[..length]) {
                    Some(Request::Taken { one_waits: true }) => self.hurry(),
                    // It has woken us, which is all that it is for.
                    Some(Request::Taken { one_waits: false }) => {}
                    Some(Request::Dropped { slot }) => {
                        self.workers.iter_mut().filter(|worker| worker.slot == slot).for_each(Worker::drop_it);
                    }
                    Some(Request::Begin { .. }) | None => return false,
                },
                _ => return false,
            }
        }
    }

    /// A caller waits for a worker: it gets one, and there will be more from now on.
    fn hurry(&mut self) {
        self.target = (self.target + 1).min(*SPARES.end());
        self.hurried = Instant::now();
        if self.waiting() < MOST_WAITING && !self.hatch() {
            let errno = Errno::last_raw();
            self.answer(&Answer::Refused { errno }, &[]);
        }
    }

    /// Has one spare less, if no caller had to wait for some time.
    fn calm_down(&mut self) {
        let now = Instant::now();
        if self.target > *SPARES.start() && now.duration_since(self.hurried) > CALM {
            self.target -= 1;
            self.hurried = now;
        }
    }

    /// Forks one worker and hands it to the host; `false` if that was not possible now.
    fn hatch(&mut self) -> bool {
        match self.fork_one() {
            Ok(()) => true,
            Err(errno) => {
                errno.set();
                false
            }
        }
    }

    fn fork_one(&mut self) -> nix::Result<()> {
        let (read, write) = pipe::pipe()?;
        let (host_end, line) = fdpass::stream()?;
        // Closed here before the next is forked, so that no sibling can write into it.
        let sheet = sheet::file()?;
        let kept = line.try_clone().map_err(|_| Errno::EMFILE)?;
        let slot = self.free_slot();
        self.stages.at(slot).inspect(StageCell::offer);
        let stage = self.stages.at(slot);
        let mask = signal::block_all();
        let mut theirs = Some((write, line, stage, Cores::of_this_thread()));
        let forked = process::fork(|| {
            let Some((pipe, line, stage, cores)) = theirs.take() else { process::exit_now(0) };
            self.fds().chain([&read, &host_end, &kept].map(fd::number)).for_each(process::close);
            let sheets = sheet::map_for_good(sheet.as_fd()).unwrap_or(&[]);
            process::close(fd::number(&sheet));
            // Whether another body has begun is not for this one to say.
            if self.stages.keep_only(slot).is_err() {
                process::exit_now(0);
            }
            spare::run(spare::Spare { server: self.pid, host: self.host, cores, pipe, line, stage, sheets })
        });
        signal::set_mask(&mask);
        drop(theirs);
        let pid = forked?;
        let pidfd = pidfd::open(pid)?;
        let fds = [&pidfd, &read, &host_end, &sheet].map(fd::number);
        let is_sent = self.answer(&Answer::Worker { pid, slot, code: image::code_start() }, &fds);
        let phase = if is_sent { Phase::Held } else { Phase::Dropped };
        let stage = self.stages.at(slot);
        let worker = Worker { pid, pidfd, line: kept, host_end, slot, stage, phase };
        if !is_sent {
            worker.kill();
        }
        self.workers.push(worker);
        if is_sent { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    /// The descriptors that a worker must not keep.
    fn fds(&self) -> impl Iterator<Item = i32> {
        let own = [&self.control, &self.host_pidfd, &self.life].map(fd::number);
        let workers = self.workers.iter().flat_map(Worker::fds);
        own.into_iter().chain(workers)
    }

    fn free_slot(&self) -> u32 {
        (0..).find(|slot| self.workers.iter().all(|worker| worker.slot != *slot)).unwrap_or(u32::MAX)
    }

    fn answer(&self, answer: &Answer, fds: &[i32]) -> bool {
        fdpass::send(self.control.as_fd(), &answer.to_bytes(), fds).is_ok()
    }

    fn end(&mut self) {
        self.workers.iter().for_each(Worker::kill);
    }
}

impl Worker {
    fn fds(&self) -> [i32; 3] {
        [&self.pidfd, &self.line, &self.host_end].map(fd::number)
    }

    /// Goes on to the next phase.
    fn look_after(&mut self) {
        let is_dropped = is_hung_up(&self.line);
        if self.phase == Phase::Held {
            if !is_dropped {
                self.report();
            }
            self.phase = Phase::Dead;
        }
        if self.phase == Phase::Dead && is_dropped {
            self.drop_it();
        }
    }

    /// Has it reaped as soon as it is dead, which is soon.
    fn drop_it(&mut self) {
        self.kill();
        self.phase = Phase::Dropped;
    }

    /// Kills it with its group. It has not been reaped, so that both numbers are its own.
    fn kill(&self) {
        let _ = pidfd::signal(self.pidfd.as_fd(), Signal::SIGKILL);
        let _ = kill(Pid::from_raw(-self.pid.as_raw()), Signal::SIGKILL);
    }

    /// Tells the host how it ended.
    fn report(&self) {
        if let Ok(Some((status, usage))) = pidfd::look_at(Whom::Descriptor(self.pidfd.as_fd())) {
            let _ = fdpass::send(self.line.as_fd(), &obituary(status, usage), &[]);
        }
    }

    /// Reaps it if nobody needs its number any more; tells whether it is gone.
    fn is_reaped(&self) -> bool {
        self.phase == Phase::Dropped && !matches!(pidfd::reap(Whom::Descriptor(self.pidfd.as_fd())), Ok(None))
    }
}

/// Whether the other side of a worker's line has let go. A copy of that side is ours, so that it has to say so.
fn is_hung_up(line: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(line.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_err() || polled[0].any().unwrap_or(true)
}
