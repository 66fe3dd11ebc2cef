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
    unistd,
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

/// How much private writable memory this process has mapped, in bytes, as `RLIMIT_DATA` counts it (Linux 4.7). The stack
/// of the main thread is not in it.
pub(crate) fn private_memory() -> Result<u64> {
    fault::check(Op::Status)?;
    let status = open("/proc/self/status", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    // What is asked for stands before the lists that may be long.
    let mut text = [0; 4096];
    let length = unistd::read(&status, &mut text)?;
    let text = str::from_utf8(&text[..length]).map_err(|_| Errno::EINVAL)?;
    let value = text.lines().find_map(|line| line.strip_prefix("VmData:")).ok_or(Errno::EINVAL)?;
    let kibibytes: u64 = value.split_whitespace().next().and_then(|number| number.parse().ok()).ok_or(Errno::EINVAL)?;
    kibibytes.checked_mul(1024).ok_or(Errno::EINVAL)
}
