//! Scheduling around a deadline, so that neither a spinning nor a dying child makes its caller late.
//!
//! A woken thread preempts a running one only if its own deadline in the scheduler comes first; with the default slice
//! of some milliseconds a child that spins on the same core holds the caller back for 1–4 ms. A slice of 0.1 ms takes
//! that to some 0.2 ms (SCHED_OTHER custom slices: Linux 6.12; without effect before).
//!
//! But a short slice is soon used up, and then whoever waits for the core goes first, at the next tick or when a slice is
//! set. So a thread has a short one only while it sleeps.

#![expect(unsafe_code, reason = "sched_setattr(2) has no wrapper at all")]

use std::{
    fs,
    mem::size_of,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{
    libc,
    sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity},
    sys::prctl,
    unistd::Pid,
};

/// Has a thread woken at once. Its own slack of timers comes back when this is dropped.
pub(crate) struct Alarm {
    slice: Option<Attributes>,
    slack: Option<libc::c_ulong>,
}

/// A slice that comes before those of others, in nanoseconds.
const SHORT: u64 = 100_000;

/// `struct sched_attr` of linux/sched/types.h, first version.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

impl Alarm {
    /// For the calling thread. Where it has another policy, its sleep is what it was.
    pub(crate) fn set() -> Alarm {
        // 50 µs by default (prctl(2)), which is a good part of what a call is late by.
        let slack = prctl::get_timerslack().ok().and_then(|slack| libc::c_ulong::try_from(slack).ok());
        let _ = prctl::set_timerslack(1);
        Alarm { slice: fair(Pid::from_raw(0)), slack }
    }

    /// Sleeps in `wait`, with a short slice to wake by.
    pub(crate) fn during<T>(&self, wait: impl FnOnce() -> T) -> T {
        let Some(before) = &self.slice else { return wait() };
        let is_short = set(Pid::from_raw(0), &Attributes { runtime: SHORT, ..*before });
        let result = wait();
        if is_short {
            set(Pid::from_raw(0), before);
        }
        result
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(slack) = self.slack {
            let _ = prctl::set_timerslack(slack);
        }
    }
}

/// Has a thread of a child that sleeps get a core as soon as it is woken, for what little it will have left to do then.
pub(crate) fn hurry(thread: Pid) {
    if let Some(attributes) = fair(thread) {
        set(thread, &Attributes { runtime: SHORT, ..attributes });
    }
}

/// The attributes of a thread that has a slice; 0 is the calling one.
fn fair(thread: Pid) -> Option<Attributes> {
    attributes(thread, libc::SCHED_OTHER)
}

/// The attributes of a thread that has this policy.
fn attributes(thread: Pid, policy: libc::c_int) -> Option<Attributes> {
    let mut found =
        Attributes { size: 0, policy: 0, flags: 0, nice: 0, priority: 0, runtime: 0, deadline: 0, period: 0 };
    let size = size_of::<Attributes>();
    // SAFETY: `found` has the `size` bytes that the kernel is told it may write.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, thread.as_raw(), &raw mut found, size, 0) };
    (result == 0 && found.policy == policy.cast_unsigned()).then_some(found)
}

/// Has a process that is about to die do so on another core than the calling thread's. It gives its memory back in one
/// go, and the scheduler would let it go first: some 0.2 ms for a small one, tens of milliseconds for a large one.
///
/// Where there is only one core, or it is forbidden, nothing changes.
pub(crate) fn keep_off_this_core(pid: Pid) {
    let Ok(here) = sched_getcpu() else { return };
    let _ = sched_getaffinity(pid).and_then(|mut cores| {
        cores.unset(here)?;
        sched_setaffinity(pid, &cores)
    });
}

/// Has a process that sleeps wake up on the calling thread's core. For a thread that wakes it and then sleeps itself: to
/// wake another core takes longer than a short body runs. The process takes its [`Cores`] back itself.
///
/// `false` where it is forbidden.
pub(crate) fn call_here(pid: Pid) -> bool {
    let mut here = CpuSet::new();
    sched_getcpu().and_then(|core| here.set(core)).and_then(|()| sched_setaffinity(pid, &here)).is_ok()
}

/// The cores that this thread may run on.
pub(crate) struct Cores(Option<CpuSet>);

impl Cores {
    pub(crate) fn of_this_thread() -> Cores {
        Cores(sched_getaffinity(Pid::from_raw(0)).ok())
    }

    /// Lets this thread run on them again, whatever others have done meanwhile.
    pub(crate) fn take_back(&self) {
        if let Some(cores) = &self.0 {
            let _ = sched_setaffinity(Pid::from_raw(0), cores);
        }
    }
}

/// How many threads of the whole machine want to run for each of its cores, at this moment; at least one.
pub(crate) fn crowd() -> u32 {
    // proc_loadavg(5): three averages, and then those that run, of all that there are.
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let running = text.split_whitespace().nth(3).and_then(|field| field.split_once('/')?.0.parse().ok());
    running.map_or(1, |running: u32| running.div_ceil(cores())).max(1)
}

/// How many cores the machine has; at least one.
pub(crate) fn cores() -> u32 {
    /// As they were counted first, which takes as long as all else here: the C library reads a file for it.
    static COUNTED: AtomicU32 = AtomicU32::new(0);
    match COUNTED.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: gives a number.
            let cores = u32::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1).max(1);
            COUNTED.store(cores, Ordering::Relaxed);
            cores
        }
        cores => cores,
    }
}

/// Has this process wait for its turn instead of interrupting whoever wakes it (`SCHED_BATCH`, sched(7)); or not any more.
/// A process with another policy than these two keeps it.
pub(crate) fn be_patient(patient: bool) {
    let (from, to) = match patient {
        true => (libc::SCHED_OTHER, libc::SCHED_BATCH),
        false => (libc::SCHED_BATCH, libc::SCHED_OTHER),
    };
    let this = Pid::from_raw(0);
    if let Some(attributes) = attributes(this, from) {
        set(this, &Attributes { policy: to.cast_unsigned(), ..attributes });
    }
}

fn set(thread: Pid, attributes: &Attributes) -> bool {
    // SAFETY: the structure says its own size and is only read.
    unsafe { libc::syscall(libc::SYS_sched_setattr, thread.as_raw(), std::ptr::from_ref(attributes), 0) == 0 }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicBool,
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn patience_is_a_policy_that_comes_and_goes() {
        let this = Pid::from_raw(0);
        let before = fair(this).expect("an ordinary thread");
        be_patient(true);
        assert!(attributes(this, libc::SCHED_BATCH).is_some());
        be_patient(false);
        let after = fair(this).expect("an ordinary thread again");
        assert_eq!((after.nice, after.runtime), (before.nice, before.runtime));
    }

    #[test]
    fn a_crowd_is_seen() {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 * cores() {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let begin = Instant::now();
            let mut is_seen = false;
            while !is_seen && begin.elapsed() < Duration::from_secs(10) {
                is_seen = crowd() >= 2;
            }
            is_over.store(true, Ordering::Relaxed);
            assert!(is_seen);
        });
    }
}
