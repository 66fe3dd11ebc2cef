//! The host's end of its fork server: started when first needed, replaced when it is gone, asked for one worker a call.
//!
//! The server keeps forked workers waiting in a socket, and whoever calls takes the next: calls never wait for each other.
//! The server is told of it only if that was the last one. Otherwise it sees it when the worker ends, and makes another
//! then: woken by the caller, it would take the core on which that is about to go on.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    poll::{PollFd, PollFlags, ppoll},
    sys::{signal::Signal, stat::Mode, time::TimeSpec},
    unistd::{Pid, getpid, getresgid, getresuid},
};

use super::{
    flights::{Flights, InFlight},
    kin,
};
use crate::{
    deadline::Deadline,
    sys::{environment, fdpass, futex::Gate, image, pidfd, pipe, process, shared::Pages, spawn},
    wire::{
        stage::{ServedStages, Stage},
        zygote::{Answer, LONGEST, MOST_PRELOADS, Request},
    },
};

/// The fork server of one process, if it has one.
#[derive(Default)]
pub(crate) struct Zygotes {
    /// One thread starts it, the others wait for that.
    gate: Gate,
    current: Mutex<Option<Arc<Zygote>>>,
    preloads: Mutex<Vec<u64>>,
}

/// One fork server.
pub(crate) struct Zygote {
    pid: Pid,
    pidfd: OwnedFd,
    control: InFlight,
    /// The reading end of a pipe whose other end the server has: the kernel kills it when this one is closed.
    _life: InFlight,
    stages: ServedStages,
    /// What it was started with.
    environment: Vec<CString>,
    rights: Rights,
    /// Whether it has ever given a worker.
    has_given: AtomicBool,
}

/// A worker that waits for its order.
pub(crate) struct Waiting {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) pipe: OwnedFd,
    pub(crate) line: OwnedFd,
    /// Where it answers when it is asked where it is.
    pub(crate) sheet: OwnedFd,
    pub(crate) slot: u32,
    /// Where the program's code begins in it.
    pub(crate) code: u64,
}

/// Why there is no worker.
pub(crate) enum NoWorker {
    Late,
    /// The server is gone, stopped or mad; another may do better.
    Gone,
    /// The server could not fork. Another may be able to: this one may have met a limit of its own.
    Refused(io::Error),
    Failed(io::Error),
}

/// What is the case when a worker has been taken.
struct Ready {
    worker_is_gone: bool,
    server_is_gone: bool,
    another_waits: bool,
}

/// A host that has given up rights must not have them used in its name: then its server is another.
#[derive(PartialEq, Eq)]
struct Rights {
    /// Real, effective and saved, as are the groups.
    users: [u32; 3],
    groups: [u32; 3],
    root: (u64, u64),
}

/// So many workers in a row may be dead when they are taken: more than wait for somebody who kills them all.
const MOST_DEAD: u32 = 100;

/// A server that does not answer for so long is looked at.
const DOUBT: Duration = Duration::from_millis(100);

impl Zygotes {
    /// Gives the server, started now if there is none; `None` when `deadline` is over first.
    pub(crate) fn get(&self, flights: &'static Flights, deadline: Deadline) -> io::Result<Option<Arc<Zygote>>> {
        let rights = Rights::current();
        if let Some(zygote) = self.current(&rights) {
            return Ok(Some(zygote));
        }
        let Some(_passage) = self.gate.enter(deadline.instant()) else { return Ok(None) };
        if let Some(zygote) = self.current(&rights) {
            return Ok(Some(zygote));
        }
        let preloads = self.preloads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let zygote = Arc::new(Zygote::start(flights, rights, preloads)?);
        *self.lock() = Some(Arc::clone(&zygote));
        Ok(Some(zygote))
    }

    /// Lets go of a server. It ends when the last call that it serves is over.
    pub(crate) fn forget(&self, zygote: &Arc<Zygote>) {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, zygote)) {
            *current = None;
        }
    }

    /// Has a function run in the server before it forks; `false` if a server has been started already, or there are too
    /// many.
    pub(crate) fn preload(&self, number: u64) -> bool {
        let current = self.lock();
        let mut preloads = self.preloads.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in_time = current.is_none() && preloads.len() < MOST_PRELOADS;
        if is_in_time {
            preloads.push(number);
        }
        is_in_time
    }

    fn current(&self, rights: &Rights) -> Option<Arc<Zygote>> {
        self.lock().as_ref().filter(|zygote| zygote.rights == *rights).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Zygote>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Zygote {
    fn start(flights: &'static Flights, rights: Rights, preloads: Vec<u64>) -> io::Result<Zygote> {
        if process::has_foreign_rights() {
            return Err(io::Error::other("a set-user-ID program has no fork server; use `start = fork`"));
        }
        if rights.differ_in_effect() {
            return Err(io::Error::other(
                "a process whose user or group in effect is not its own has no fork server, as that would be a \
                 set-user-ID program; use `start = fork`",
            ));
        }
        if !image::is_caught() {
            return Err(io::Error::other("the constructor of the fork server is not in this program"));
        }
        let (control, theirs) = fdpass::messages().map_err(|errno| failed("socketpair", errno))?;
        let page = Pages::file().map_err(|errno| failed("memfd_create", errno))?;
        let (life, tied) = pipe::pipe().map_err(|errno| failed("pipe", errno))?;
        let own_pidfd = pidfd::open(getpid()).map_err(|errno| failed("pidfd_open", errno))?;
        let nothing = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| failed("/dev/null", errno))?;
        let environment = environment::entries();
        let name = format!("{}{}", image::SERVER, getpid());
        let name = CString::new(name).map_err(io::Error::other)?;
        let given = [&theirs, &nothing, &nothing, &own_pidfd, &page, &tied].map(AsFd::as_fd);
        let spawned = spawn::detached(c"/proc/self/exe", &name, &environment, given)
            .map_err(|errno| failed("the fork server (/proc/self/exe)", errno))?;
        let zygote = Zygote {
            pid: spawned.pid,
            pidfd: spawned.pidfd,
            // A forked child must not keep them.
            control: flights.enter(control),
            _life: flights.enter(life),
            stages: ServedStages::in_file(page.as_fd()),
            environment,
            rights,
            has_given: AtomicBool::new(false),
        };
        // If it is gone already, that is noticed when it is asked for a worker.
        zygote.tell(&Request::Begin { preloads });
        Ok(zygote)
    }

    /// Takes the next worker.
    pub(crate) fn take(&self, deadline: Deadline) -> Result<Waiting, NoWorker> {
        let (mut has_asked, mut has_waited) = (false, false);
        let mut dead = 0;
        loop {
            if deadline.is_over(Instant::now()) {
                return Err(NoWorker::Late);
            }
            match self.receive()? {
                Some(worker) => {
                    self.has_given.store(true, Ordering::Relaxed);
                    if let Some(stage) = self.stages.at(worker.slot) {
                        stage.set(Stage::Setup);
                    }
                    // One that somebody has killed while it waited is no use, and neither is one that is about to be, as
                    // its server is gone.
                    let ready = self.look(&worker);
                    match (ready.worker_is_gone, ready.server_is_gone) {
                        (_, true) => return Err(NoWorker::Gone),
                        (true, false) if dead == MOST_DEAD => {
                            let why = "the workers of the fork server end before they have anything to do";
                            return Err(NoWorker::Refused(io::Error::other(why)));
                        }
                        (true, false) => {
                            dead += 1;
                            self.drop_worker(worker.slot);
                            fdpass::hang_up(worker.line.as_fd());
                            continue;
                        }
                        (false, false) => {}
                    }
                    if !ready.another_waits {
                        self.tell(&Request::Taken { one_waits: false });
                    }
                    return Ok(worker);
                }
                None => {
                    // The first workers come without being asked for, but if they cannot be had, we want to know.
                    if !has_asked && (has_waited || self.has_given()) {
                        self.tell(&Request::Taken { one_waits: true });
                        has_asked = true;
                    }
                    let patience = deadline.left().map_or(DOUBT, |left| left.min(DOUBT));
                    has_waited = !is_readable(&self.control, Some(patience));
                    if has_waited && self.is_stopped() {
                        let _ = pidfd::signal(self.pidfd.as_fd(), Signal::SIGKILL);
                        return Err(NoWorker::Gone);
                    }
                }
            }
        }
    }

    /// Waits until there is something to take. A failed server is told of by the next call as well.
    pub(crate) fn wait_until_ready(&self, deadline: Deadline) -> Result<(), NoWorker> {
        loop {
            match fdpass::peek(self.control.as_fd()) {
                Ok(b'W') => return Ok(()),
                Ok(_) => drop(self.receive()?),
                Err(Errno::EAGAIN) if deadline.is_over(Instant::now()) => return Err(NoWorker::Late),
                Err(Errno::EAGAIN) => drop(is_readable(&self.control, deadline.left())),
                Err(_) => return Err(NoWorker::Gone),
            }
        }
    }

    /// Receives a worker if one is there.
    fn receive(&self) -> Result<Option<Waiting>, NoWorker> {
        let mut bytes = [0; LONGEST];
        let (length, fds) = match fdpass::receive(self.control.as_fd(), &mut bytes, false) {
            Ok((0, _)) => return Err(NoWorker::Gone),
            Ok(received) => received,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::ECONNRESET | Errno::EPIPE) => return Err(NoWorker::Gone),
            Err(errno) => return Err(NoWorker::Failed(failed("recvmsg", errno))),
        };
        match (Answer::parse(&bytes[..length]), <[OwnedFd; 4]>::try_from(fds)) {
            (Some(Answer::Worker { pid, slot, code }), Ok([pidfd, pipe, line, sheet])) => {
                Ok(Some(Waiting { pid, pidfd, pipe, line, sheet, slot, code }))
            }
            // The kernel drops the descriptors of a message that this process has no room for.
            (Some(Answer::Worker { slot, .. }), Err(_)) => {
                self.drop_worker(slot);
                Err(NoWorker::Failed(failed("recvmsg", Errno::EMFILE)))
            }
            (Some(Answer::Refused { errno }), _) => {
                Err(NoWorker::Refused(failed("fork in the fork server", Errno::from_raw(errno))))
            }
            (Some(Answer::Failed { why }), _) => Err(NoWorker::Failed(io::Error::other(why))),
            (None, _) => Err(NoWorker::Gone),
        }
    }

    /// Has the server kill a worker that may be alive.
    pub(crate) fn drop_worker(&self, slot: u32) {
        self.tell(&Request::Dropped { slot });
    }

    /// What does not fit now is lost. That takes more requests than callers make before the server has heard one.
    fn tell(&self, request: &Request) {
        let _ = fdpass::send(self.control.as_fd(), &request.to_bytes(), &[]);
    }

    pub(crate) fn stages(&self) -> &ServedStages {
        &self.stages
    }

    /// The environment as it is now, if it is not what the server was started with.
    pub(crate) fn changed_environment(&self) -> Option<Vec<Vec<u8>>> {
        environment::differs_from(&self.environment)
            .then(|| environment::entries().into_iter().map(CString::into_bytes).collect())
    }

    pub(crate) fn has_given(&self) -> bool {
        self.has_given.load(Ordering::Relaxed)
    }

    fn look(&self, worker: &Waiting) -> Ready {
        let fds = [worker.pidfd.as_fd(), self.pidfd.as_fd(), self.control.as_fd()];
        let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let _ = ppoll(&mut polled, Some(TimeSpec::from(Duration::ZERO)), None);
        let [worker_is_gone, server_is_gone, another_waits] = polled.map(|polled| polled.any().unwrap_or(false));
        Ready { worker_is_gone, server_is_gone, another_waits }
    }

    pub(crate) fn is_gone(&self) -> bool {
        is_readable(&self.pidfd, Some(Duration::ZERO))
    }

    pub(crate) fn is_stopped(&self) -> bool {
        kin::is_stopped(self.pid) && pidfd::keeps_number(self.pidfd.as_fd())
    }
}

impl Drop for Zygote {
    /// A process that the host forked on its own may have a copy of the descriptor: closing it would not be enough.
    fn drop(&mut self) {
        fdpass::hang_up(self.control.as_fd());
    }
}

impl Rights {
    fn current() -> Rights {
        let (users, groups) = (getresuid(), getresgid());
        let users = users.map_or([0; 3], |ids| [ids.real, ids.effective, ids.saved].map(|id| id.as_raw()));
        let groups = groups.map_or([0; 3], |ids| [ids.real, ids.effective, ids.saved].map(|id| id.as_raw()));
        let root = fs::metadata("/").map_or((0, 0), |root| (root.dev(), root.ino()));
        Rights { users, groups, root }
    }

    /// Whether the kernel would run a program of this process as one with foreign rights (`AT_SECURE`, getauxval(3)).
    fn differ_in_effect(&self) -> bool {
        [self.users, self.groups].iter().any(|[real, effective, _]| real != effective)
    }
}

fn is_readable(fd: &impl AsFd, patience: Option<Duration>) -> bool {
    let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    ppoll(&mut polled, patience.map(TimeSpec::from), None).is_ok_and(|ready| ready > 0)
}

fn failed(step: &str, errno: Errno) -> io::Error {
    let cause = io::Error::from(errno);
    io::Error::new(cause.kind(), format!("{step}: {cause}"))
}
