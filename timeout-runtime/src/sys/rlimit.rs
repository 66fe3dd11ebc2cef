//! The bounds that the kernel keeps for a process, which are only ever lowered here.

use std::{mem, time::Duration};

use nix::{
    Result,
    errno::Errno,
    fcntl::{OFlag, open},
    sys::{
        resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
        signal::{SigEvent, SigevNotify, Signal},
        stat::Mode,
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
    unistd::{self, SysconfVar, sysconf},
};

use super::fault::{self, Op};

/// Lowers the soft and the hard limit of this process, and of what it starts from now on, to at most these values.
pub(crate) fn lower(resource: Resource, soft: u64, hard: u64) -> Result<()> {
    fault::check(Op::SetLimit)?;
    let (soft_before, hard_before) = getrlimit(resource)?;
    let hard = hard.min(hard_before);
    setrlimit(resource, soft.min(soft_before).min(hard), hard)
}

/// The soft and the hard limit of this process, where there is one.
pub(crate) fn both(resource: Resource) -> (Option<u64>, Option<u64>) {
    let (soft, hard) = getrlimit(resource).unwrap_or((RLIM_INFINITY, RLIM_INFINITY));
    let finite = |limit| (limit != RLIM_INFINITY).then_some(limit);
    (finite(soft), finite(hard))
}

/// Has `SIGXCPU` sent to this process when all its threads together have used `limit` of CPU time since it was forked.
///
/// The kernel looks at each of its clock ticks, some hundred times a second. The timer stays until the process ends or
/// becomes another program.
pub(crate) fn signal_after_cpu_time(limit: Duration) -> Result<()> {
    fault::check(Op::CpuTimer)?;
    let event = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGXCPU, si_value: 0 });
    let mut timer = Timer::new(ClockId::CLOCK_PROCESS_CPUTIME_ID, event)?;
    timer.set(Expiration::OneShot(limit.into()), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
    // Dropped, it would never fire.
    mem::forget(timer);
    Ok(())
}

/// How much address space this process has mapped, in bytes, as `RLIMIT_AS` counts it.
pub(crate) fn address_space() -> Result<u64> {
    fault::check(Op::Statm)?;
    let statm = open("/proc/self/statm", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut text = [0; 128];
    let length = unistd::read(&statm, &mut text)?;
    // The first number is the total, in pages: proc_pid_statm(5).
    let first = str::from_utf8(&text[..length]).ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
    let pages: u64 = first.ok_or(Errno::EINVAL)?;
    let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| u64::try_from(size).ok()).ok_or(Errno::EINVAL)?;
    Ok(pages.saturating_mul(page))
}
