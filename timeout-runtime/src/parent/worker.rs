//! One child: its pipe, its descriptor, its signals, and its status once it is gone.

use std::{
    cell::Cell,
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        signal::{self, Signal},
        time::TimeSpec,
    },
    unistd::Pid,
};

use super::{
    flights::{Flights, InFlight},
    kin,
    reaper::Corpse,
    zygote::{Waiting, Zygote},
};
use crate::{
    report::Usage,
    sys::{
        fdpass,
        pidfd::{self, Status, Whom},
    },
    wire::{
        frame::Token,
        stage::{Stage, StageCell},
        trace::Room,
        zygote,
    },
};

/// The process that runs one call.
pub(crate) struct Worker {
    process: Process,
    pipe: InFlight,
    token: Token,
    stage: Option<StageCell>,
    origin: Origin,
    end: Option<End>,
}

/// What the process that forked a child was like, and has for it.
pub(crate) struct Origin {
    /// How many threads it had besides ours.
    pub(crate) threads: usize,
    /// Where the child answers when it is asked where it is.
    pub(crate) room: Room,
}

/// A process by descriptor, or by number where the kernel or a filter forbids descriptors.
struct Process {
    pid: Pid,
    pidfd: Option<OwnedFd>,
    parent: Parent,
}

/// Whose child a worker is, and so who can wait for it.
enum Parent {
    Host,
    /// The fork server. It says on `line` how the worker ended, and keeps its corpse until `line` is hung up.
    ///
    /// Its memory is laid out in another way than the host's: the program's code begins at `code`.
    Zygote {
        line: OwnedFd,
        zygote: Arc<Zygote>,
        slot: u32,
        code: u64,
        /// Whether its group has been killed.
        is_killed: Cell<bool>,
    },
}

/// How long to wait for the fork server's word on a worker that is dead.
const OBITUARY_PATIENCE: Duration = Duration::from_millis(20);

/// How a child ended and what it had used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) status: Status,
    pub(crate) usage: Option<Usage>,
}

impl Worker {
    /// Takes over a child that has just been forked.
    pub(crate) fn new(pid: Pid, pipe: InFlight, token: Token, stage: Option<StageCell>, origin: Origin) -> Worker {
        // The number is not free before we reap, so the descriptor is of our child or, if somebody else has reaped it
        // already, there is none.
        let process = Process { pid, pidfd: pidfd::open(pid).ok(), parent: Parent::Host };
        Worker { process, pipe, token, stage, origin, end: None }
    }

    /// Takes over a child of the fork server that has got its order.
    pub(crate) fn of_zygote(waiting: Waiting, zygote: Arc<Zygote>, flights: &'static Flights, token: Token) -> Worker {
        let Waiting { pid, pidfd, pipe, line, sheet, slot, code } = waiting;
        // It is forked from one thread.
        let origin = Origin { threads: 0, room: Room::File(sheet) };
        let stage = zygote.stages().at(slot);
        let process = Process {
            pid,
            pidfd: Some(pidfd),
            parent: Parent::Zygote { line, zygote, slot, code, is_killed: Cell::new(false) },
        };
        Worker { process, pipe: flights.enter(pipe), token, stage, origin, end: None }
    }

    /// Where a worker of the fork server reads its order, and its descriptor.
    pub(crate) fn line(&self) -> Option<(BorrowedFd<'_>, BorrowedFd<'_>)> {
        match &self.process.parent {
            Parent::Host => None,
            Parent::Zygote { line, .. } => Some((line.as_fd(), self.pidfd()?)),
        }
    }

    /// Where the program's code begins in a worker that is no copy of this process.
    pub(crate) fn foreign_code(&self) -> Option<u64> {
        match self.process.parent {
            Parent::Host => None,
            Parent::Zygote { code, .. } => Some(code),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.process.pid
    }

    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.process.pidfd.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    pub(crate) fn token(&self) -> Token {
        self.token
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How far the child has come; `None` where that is not known.
    pub(crate) fn stage(&self) -> Option<Stage> {
        self.stage.as_ref().map(StageCell::get)
    }

    /// Looks whether the child is gone, and reaps it if so. What is left of its group is killed first.
    pub(crate) fn end(&mut self) -> Option<End> {
        if self.end.is_none() && self.is_dead() {
            self.signal_group(Signal::SIGKILL);
            self.process.wait_for_obituary();
            self.reap();
        }
        self.end
    }

    /// Reaps the child if it is gone, its group having been killed.
    pub(crate) fn reap(&mut self) -> Option<End> {
        if self.end.is_none() {
            self.end = self.process.reap();
        }
        self.end
    }

    /// Whether the child is certainly alive.
    pub(crate) fn lives(&self) -> bool {
        self.end.is_none()
            && match self.process.parent {
                Parent::Host => pidfd::is_alive(self.process.whom()) == Ok(true),
                Parent::Zygote { .. } => !self.is_dead(),
            }
    }

    /// Closes the child's descriptor; from here on it goes by its number.
    pub(crate) fn give_up_descriptor(&mut self) {
        // A child of the fork server has nothing else to go by.
        if matches!(self.process.parent, Parent::Host) {
            self.process.pidfd = None;
        }
    }

    /// Whether the child is dead, reaped or not.
    fn is_dead(&self) -> bool {
        match &self.process.pidfd {
            Some(pidfd) => is_readable(pidfd, Duration::ZERO),
            None => matches!(pidfd::is_alive(self.process.whom()), Ok(false) | Err(Errno::ECHILD)),
        }
    }

    /// What the child has used, and those of its children that it has waited for, while it can still be looked at. The
    /// times are those of `/proc/<pid>/stat`, in hundredths of a second.
    pub(crate) fn usage_so_far(&self) -> Option<Usage> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.pid)).ok()?;
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid)).ok()?;
        // Counted from behind the name, which may contain anything: proc_pid_stat(5) has them as 14 to 17.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse().ok().map(|ticks: u64| Duration::from_millis(ticks * 10));
        let (user, system, others_user, others_system) = (ticks()?, ticks()?, ticks()?, ticks()?);
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = peak.split_whitespace().next()?.parse().ok()?;
        let own = Usage { user, system, peak_memory: kibibytes << 10 };
        Some(own.with(Usage { user: others_user, system: others_system, peak_memory: 0 }))
    }

    /// Whether the child is stopped or gone, so that no code of it runs.
    pub(crate) fn is_halted(&self) -> bool {
        self.end.is_some()
            || match self.process.parent {
                Parent::Host => !matches!(pidfd::is_halted(self.process.whom()), Ok(false)),
                Parent::Zygote { .. } => self.is_dead() || kin::is_stopped(self.process.pid),
            }
    }

    /// Sends a signal to the child alone, unless it is gone.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.end.is_none() {
            // It may be gone by now, or have changed its user; either way nothing more can be done to it.
            let _ = match self.pidfd() {
                Some(pidfd) => pidfd::signal(pidfd, signal),
                None => Err(Errno::ENOSYS),
            }
            .or_else(|_| self.process.signal_by_number(self.process.pid, signal));
        }
    }

    /// Sends a signal to every process that stayed in the child's group. To be called before the child is reaped: its
    /// corpse keeps the group's number from being given away. `false` if nobody could be reached.
    pub(crate) fn signal_group(&self, signal: Signal) -> bool {
        let group = Pid::from_raw(-self.process.pid.as_raw());
        let sent = match self.pidfd() {
            Some(pidfd) => pidfd::signal_group(pidfd, signal),
            None => Err(Errno::ENOSYS),
        }
        // By number only while the corpse keeps it from being given away.
        .or_else(|errno| if self.end.is_some() { Err(errno) } else { self.process.signal_by_number(group, signal) });
        if let (Ok(()), Signal::SIGKILL, Parent::Zygote { is_killed, .. }) = (sent, signal, &self.process.parent) {
            is_killed.set(true);
        }
        sent.is_ok()
    }

    /// Waits for the end of a child whose group has been killed, but not for long.
    pub(crate) fn wait_briefly(&mut self, patience: Duration) -> Option<End> {
        if self.reap().is_none() {
            match &self.process.pidfd {
                Some(pidfd) if is_readable(pidfd, patience) => self.process.wait_for_obituary(),
                Some(_) => {}
                None => std::thread::sleep(patience),
            }
        }
        self.reap()
    }

    /// What is left to be buried; `None` if the child has been reaped.
    ///
    /// The fork server buries its own, as soon as its line is hung up.
    pub(crate) fn into_corpse(self) -> Option<Corpse> {
        match (self.end, &self.process.parent) {
            (Some(_), _) | (_, Parent::Zygote { .. }) => None,
            (None, Parent::Host) => Some(self.process.into_corpse(self.stage)),
        }
    }
}

impl Drop for Process {
    /// From here on the worker's end is the fork server's affair alone. It is not woken for one that is dead or about to be:
    /// the kernel tells it of that.
    fn drop(&mut self) {
        if let Parent::Zygote { line, zygote, slot, is_killed, .. } = &self.parent {
            // First, as with the line hung up the slot may soon be another's.
            if !is_killed.get() {
                zygote.drop_worker(*slot);
            }
            fdpass::hang_up(line.as_fd());
        }
    }
}

impl Process {
    fn whom(&self) -> Whom<'_> {
        match &self.pidfd {
            Some(pidfd) => Whom::Descriptor(pidfd.as_fd()),
            None => Whom::Number(self.pid),
        }
    }

    fn into_corpse(mut self, stage: Option<StageCell>) -> Corpse {
        Corpse { pid: self.pid, pidfd: self.pidfd.take(), stage }
    }

    /// Waits a little for the fork server to say how a dead worker ended.
    fn wait_for_obituary(&self) {
        if let Parent::Zygote { line, .. } = &self.parent {
            is_readable(line, OBITUARY_PATIENCE);
        }
    }

    /// Reads how a worker of the fork server ended. `None` while it lives, or while the server has not said it and may
    /// still do so.
    fn end_by_obituary(&self, line: &OwnedFd, zygote: &Zygote) -> Option<End> {
        let mut bytes = [0; zygote::OBITUARY + 1];
        let told = fdpass::receive(line.as_fd(), &mut bytes, false);
        if let Ok((length @ 1.., _)) = told
            && let Some((status, usage)) = zygote::read_obituary(&bytes[..length])
        {
            return Some(End { status, usage: Some(usage) });
        }
        let pidfd = self.pidfd.as_ref().filter(|pidfd| is_readable(pidfd, Duration::ZERO))?;
        // A process closes what it has open before it is seen to be gone.
        let server_ends = || zygote.is_gone() || matches!(told, Ok((0, _)) | Err(Errno::ECONNRESET));
        if !server_ends() && matches!(told, Err(Errno::EAGAIN)) && !zygote.is_stopped() {
            return None;
        }
        // The corpse may still lie there; or whoever took it has left the status to the descriptor.
        let code = kin::code_of_corpse(self.pid).filter(|_| pidfd::keeps_number(pidfd.as_fd()));
        let status = match code.map(pidfd::of_code) {
            Some(status) => status,
            None => pidfd::exit_info(pidfd.as_fd()).unwrap_or(Status::Unknown),
        };
        Some(match status {
            // What else a server's end leaves of a worker.
            Status::Signaled(libc::SIGKILL) | Status::Unknown if server_ends() => {
                End { status: Status::Orphaned, usage: None }
            }
            status => End { status, usage: None },
        })
    }

    /// Reaps the process if it is gone. `None` while it lives.
    fn reap(&self) -> Option<End> {
        if let Parent::Zygote { line, zygote, .. } = &self.parent {
            return self.end_by_obituary(line, zygote);
        }
        let reaped = pidfd::reap(self.whom()).or_else(|errno| match errno {
            // The kernel gives out pidfds, but does not let us wait for one (before 5.4, or by a filter).
            Errno::EINVAL | Errno::EPERM | Errno::ENOSYS => pidfd::reap(Whom::Number(self.pid)),
            errno => Err(errno),
        });
        match reaped {
            Ok(end) => end.map(|(status, usage)| End { status, usage: Some(usage) }),
            // The host ignores SIGCHLD, or one of its threads waits for any child.
            Err(_) => Some(self.end_seen_by_others()),
        }
    }

    fn end_seen_by_others(&self) -> End {
        let status = self.pidfd.as_ref().and_then(|pidfd| pidfd::exit_info(pidfd.as_fd()).ok());
        End { status: status.unwrap_or(Status::Unknown), usage: None }
    }

    /// Signals by number, if the number still belongs to a child of ours that has not been reaped.
    fn signal_by_number(&self, target: Pid, signal: Signal) -> nix::Result<()> {
        // Succeeds for a living child and for a corpse: both keep the number from being given away.
        match (&self.parent, &self.pidfd) {
            (Parent::Host, _) => drop(pidfd::is_alive(Whom::Number(self.pid))?),
            // The fork server does not reap it before the line is hung up; but another may, when the server is gone.
            (Parent::Zygote { .. }, Some(pidfd)) if pidfd::keeps_number(pidfd.as_fd()) => {}
            (Parent::Zygote { .. }, _) => return Err(Errno::ESRCH),
        }
        signal::kill(target, signal)
    }
}

fn is_readable(pidfd: &OwnedFd, patience: Duration) -> bool {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    ppoll(&mut polled, Some(TimeSpec::from(patience)), None).is_ok_and(|ready| ready > 0)
}
