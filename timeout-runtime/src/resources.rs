//! What a call may use besides time, as plain data: memory, CPU time, and everything else that the kernel bounds.
//!
//! The child sets these bounds on itself (`child/limits.rs`); what is here says what they are, and whether one of them is
//! what ended a child.

use std::time::Duration;

use nix::{
    libc::{SIGKILL, SIGXCPU},
    sys::resource::Resource as Kernels,
};
use serde::{Deserialize, Serialize};

use crate::{
    report::Usage,
    sys::{crash::Crash, rlimit},
};

/// Something besides time that a body can use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// Memory: an allocation failed that could not be done without. See [`Call::memory`](crate::Call::memory).
    Memory,
    /// CPU time. See [`Call::cpu`](crate::Call::cpu).
    Cpu,
}

/// A resource that Linux bounds for each process, as in getrlimit(2).
///
/// [`Call::rlimit`](crate::Call::rlimit) sets it in the child. What happens beyond the bound is the kernel's affair and
/// told there: mostly a system call fails, and sometimes a signal comes, which is a [`Crashed`](crate::Reason::Crashed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rlimit {
    /// Bytes of address space in all: what the child has from its caller, files, and what is only reserved included
    /// (`RLIMIT_AS`). For a bound on what the body takes on top use [`Call::memory`](crate::Call::memory).
    AddressSpace,
    /// Seconds of CPU time (`RLIMIT_CPU`). For parts of a second use [`Call::cpu`](crate::Call::cpu).
    CpuTime,
    /// Bytes of private writable memory in all (`RLIMIT_DATA`).
    Data,
    /// Bytes that a file may grow to; beyond it comes `SIGXFSZ` (`RLIMIT_FSIZE`).
    FileSize,
    /// Bytes that may be locked into memory (`RLIMIT_MEMLOCK`).
    LockedMemory,
    /// Bytes in the POSIX message queues of the user (`RLIMIT_MSGQUEUE`).
    MessageQueues,
    /// 20 minus the lowest nice value that may be taken (`RLIMIT_NICE`).
    Nice,
    /// One more than the highest descriptor that may be opened (`RLIMIT_NOFILE`).
    OpenFiles,
    /// Signals that may be queued for the user (`RLIMIT_SIGPENDING`).
    PendingSignals,
    /// Processes and threads of the user, those of the host included; it does not bind the superuser (`RLIMIT_NPROC`).
    Processes,
    /// The highest real-time priority that may be taken (`RLIMIT_RTPRIO`).
    RealtimePriority,
    /// Microseconds that a real-time thread may run without a blocking call (`RLIMIT_RTTIME`).
    RealtimeTime,
    /// Bytes that the stack may grow to, where it is that of a main thread, and the default for new threads
    /// (`RLIMIT_STACK`).
    Stack,
}

impl Rlimit {
    const ALL: [(Rlimit, Kernels, &str); 13] = [
        (Rlimit::AddressSpace, Kernels::RLIMIT_AS, "setrlimit(RLIMIT_AS)"),
        (Rlimit::CpuTime, Kernels::RLIMIT_CPU, "setrlimit(RLIMIT_CPU)"),
        (Rlimit::Data, Kernels::RLIMIT_DATA, "setrlimit(RLIMIT_DATA)"),
        (Rlimit::FileSize, Kernels::RLIMIT_FSIZE, "setrlimit(RLIMIT_FSIZE)"),
        (Rlimit::LockedMemory, Kernels::RLIMIT_MEMLOCK, "setrlimit(RLIMIT_MEMLOCK)"),
        (Rlimit::MessageQueues, Kernels::RLIMIT_MSGQUEUE, "setrlimit(RLIMIT_MSGQUEUE)"),
        (Rlimit::Nice, Kernels::RLIMIT_NICE, "setrlimit(RLIMIT_NICE)"),
        (Rlimit::OpenFiles, Kernels::RLIMIT_NOFILE, "setrlimit(RLIMIT_NOFILE)"),
        (Rlimit::PendingSignals, Kernels::RLIMIT_SIGPENDING, "setrlimit(RLIMIT_SIGPENDING)"),
        (Rlimit::Processes, Kernels::RLIMIT_NPROC, "setrlimit(RLIMIT_NPROC)"),
        (Rlimit::RealtimePriority, Kernels::RLIMIT_RTPRIO, "setrlimit(RLIMIT_RTPRIO)"),
        (Rlimit::RealtimeTime, Kernels::RLIMIT_RTTIME, "setrlimit(RLIMIT_RTTIME)"),
        (Rlimit::Stack, Kernels::RLIMIT_STACK, "setrlimit(RLIMIT_STACK)"),
    ];
}

/// How much more CPU time a child may use that was signalled at [`Rlimit::CpuTime`].
const AFTER_SIGNAL: Duration = Duration::from_secs(1);

/// Everything that bounds one call besides time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Bounds {
    /// Bytes of private memory that may be mapped on top of what was mapped when the body began.
    pub(crate) memory: Option<u64>,
    /// CPU time of the child, from its first moment.
    pub(crate) cpu: Option<Duration>,
    /// CPU time after which the kernel kills it without a word.
    kill: Option<Duration>,
    /// In the order of [`Rlimit::ALL`].
    rlimits: [Option<u64>; Rlimit::ALL.len()],
}

impl Bounds {
    /// Bounds `resource` to `value`, or to what it was bounded to before, if that is less.
    pub(crate) fn lower(&mut self, resource: Rlimit, value: u64) {
        for ((known, ..), bound) in Rlimit::ALL.into_iter().zip(&mut self.rlimits) {
            if known == resource {
                *bound = Some(bound.map_or(value, |before| before.min(value)));
            }
        }
    }

    /// The soft and hard bounds set by [`Bounds::lower`], with the name of the step that sets each.
    pub(crate) fn rlimits(&self) -> impl Iterator<Item = (Kernels, u64, u64, &'static str)> {
        Rlimit::ALL.iter().zip(&self.rlimits).filter_map(|(&(_, resource, step), bound)| {
            // At the hard bound on CPU time comes SIGKILL, which leaves no time to say why.
            let after = if resource == Kernels::RLIMIT_CPU { AFTER_SIGNAL.as_secs() } else { 0 };
            Some((resource, (*bound)?, (*bound)?.saturating_add(after), step))
        })
    }

    /// What may not be used at all, so that the body need not begin.
    pub(crate) fn exhausted_at_once(&self) -> Option<Resource> {
        match (self.memory, self.cpu) {
            (Some(0), _) => Some(Resource::Memory),
            (_, Some(Duration::ZERO)) => Some(Resource::Cpu),
            _ => None,
        }
    }

    /// Whether the child bounds its CPU time itself.
    pub(crate) fn has_cpu(&self) -> bool {
        self.cpu.is_some() || self.seconds_of_cpu().is_some()
    }

    /// After how many seconds of CPU time the kernel kills a child that is deaf to the signal at [`Bounds::cpu`], and each
    /// process that it has started.
    ///
    /// For this the kernel counts ticks, which is some percent off; the margin keeps it from being early.
    pub(crate) fn backstop(&self) -> Option<u64> {
        let seconds = self.cpu.map(|cpu| cpu.saturating_add(cpu / 4))?;
        Some(seconds.as_secs().saturating_add(u64::from(seconds.subsec_nanos() > 0) + 1))
    }

    /// The same, with the CPU time that it comes to together with what the host itself may use.
    pub(crate) fn with_cpu_in_effect(self) -> Bounds {
        let seconds = |limit: Option<u64>| limit.map(Duration::from_secs);
        let (soft, hard) = rlimit::both(Kernels::RLIMIT_CPU);
        let cpu = [self.cpu, self.seconds_of_cpu(), seconds(soft)].into_iter().flatten().min();
        let after = self.seconds_of_cpu().map(|limit| limit.saturating_add(AFTER_SIGNAL));
        let kill = [seconds(self.backstop()), after, seconds(hard)].into_iter().flatten().min();
        Bounds { cpu, kill, ..self }
    }

    fn seconds_of_cpu(&self) -> Option<Duration> {
        let mut rlimits = self.rlimits();
        rlimits.find(|(resource, ..)| *resource == Kernels::RLIMIT_CPU).map(|(_, soft, ..)| Duration::from_secs(soft))
    }

    /// What was used up when `crash` ended the child, if it was that. For bounds [in effect](Bounds::with_cpu_in_effect).
    pub(crate) fn exhausted_by(&self, crash: &Crash, usage: Option<Usage>) -> Option<Resource> {
        // The kernel counts ticks for its bounds; on a machine without time to spare these were seen to be 22 % ahead.
        let is_used = |bound: Option<Duration>| match (bound, usage) {
            (Some(bound), Some(usage)) => usage.cpu() >= bound.mul_f64(0.6),
            _ => false,
        };
        let is_used_up = match crash.signal {
            _ if crash.alloc_failure => return Some(Resource::Memory),
            _ if crash.cpu_time_is_up => true,
            // The child could not say who sent it: the kernel, at the soft and at the hard bound, or somebody else.
            SIGXCPU => is_used(self.cpu),
            SIGKILL => is_used(self.kill),
            _ => false,
        };
        is_used_up.then_some(Resource::Cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(signal: i32) -> Crash {
        Crash { signal, ..Crash::default() }
    }

    fn used(millis: u64) -> Option<Usage> {
        Some(Usage { user: Duration::from_millis(millis), ..Usage::default() })
    }

    #[test]
    fn a_bound_is_only_ever_lowered() {
        let mut bounds = Bounds::default();
        for value in [9, 7, 8] {
            bounds.lower(Rlimit::OpenFiles, value);
        }
        bounds.lower(Rlimit::CpuTime, 1);
        let set: Vec<_> = bounds.rlimits().map(|(_, soft, hard, step)| (soft, hard, step)).collect();
        assert_eq!(set, [(1, 2, "setrlimit(RLIMIT_CPU)"), (7, 7, "setrlimit(RLIMIT_NOFILE)")]);
    }

    #[test]
    fn what_the_child_says_is_believed() {
        let bounds = Bounds::default();
        let (full, up) = (Crash { alloc_failure: true, ..crash(6) }, Crash { cpu_time_is_up: true, ..crash(SIGXCPU) });
        assert_eq!(bounds.exhausted_by(&full, None), Some(Resource::Memory));
        assert_eq!(bounds.exhausted_by(&up, None), Some(Resource::Cpu));
    }

    #[test]
    fn without_a_word_cpu_time_is_used_up_only_if_it_was_used() {
        let bounds = Bounds { cpu: Some(Duration::from_secs(1)), ..Bounds::default() }.with_cpu_in_effect();
        for (signal, bound) in [(SIGXCPU, 1000), (SIGKILL, 3000)] {
            assert_eq!(bounds.exhausted_by(&crash(signal), used(bound)), Some(Resource::Cpu));
            assert_eq!(bounds.exhausted_by(&crash(signal), used(bound / 2)), None);
            assert_eq!(bounds.exhausted_by(&crash(signal), None), None);
            assert_eq!(Bounds::default().exhausted_by(&crash(signal), used(bound)), None);
        }
        assert_eq!(bounds.exhausted_by(&crash(nix::libc::SIGSEGV), used(5000)), None);
    }

    #[test]
    fn the_least_of_all_bounds_on_cpu_time_is_in_effect() {
        let mut bounds = Bounds { cpu: Some(Duration::from_secs(5)), ..Bounds::default() };
        let in_effect = |bounds: Bounds| {
            let Bounds { cpu, kill, .. } = bounds.with_cpu_in_effect();
            [cpu, kill].map(|time| time.map(|time| time.as_secs()))
        };
        assert_eq!(in_effect(bounds), [Some(5), Some(8)]);
        bounds.lower(Rlimit::CpuTime, 3);
        assert_eq!(in_effect(bounds), [Some(3), Some(4)]);
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        let longest = Some(Duration::MAX - Duration::from_nanos(1));
        let mut bounds = Bounds { cpu: longest, ..Bounds::default() };
        bounds.lower(Rlimit::CpuTime, u64::MAX);
        assert!(bounds.backstop() >= Some(u64::MAX - 1));
        assert_eq!(bounds.with_cpu_in_effect().exhausted_by(&crash(SIGKILL), used(1)), None);
    }
}
