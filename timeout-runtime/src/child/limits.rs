//! Sets the bounds of a call on its child: the last thing before code of the user runs, so that our own setup is not held
//! against it.
//!
//! Each bound is at most what the host had. It cannot be loosened again by the body, unless that runs as the superuser.

use nix::{errno::Errno, sys::resource::Resource};

use crate::{
    resources::Bounds,
    sys::{alloc_failure, crash, rlimit},
};

/// A bound that could not be set: the step, and the kernel's answer.
pub(crate) type Refused = (&'static str, Errno);

/// Binds this process, and each that it will start, to `bounds`.
#[inline]
pub(crate) fn set(bounds: &Bounds) -> Result<(), Refused> {
    if bounds.has_cpu() {
        crash::report_used_up_cpu_time();
    }
    if let Some(cpu) = bounds.cpu {
        rlimit::signal_after_cpu_time(cpu).map_err(|errno| ("timer_create", errno))?;
    }
    // The timer is this process's alone, and its signal can be blocked. This binds descendants, too, and is a SIGKILL.
    if let Some(seconds) = bounds.backstop() {
        rlimit::lower(Resource::RLIMIT_CPU, seconds, seconds).map_err(|errno| ("setrlimit(RLIMIT_CPU)", errno))?;
    }
    if let Some(memory) = bounds.memory {
        // Not RLIMIT_AS: the address space holds what allocators have reserved for threads of the host, 64 MiB for each.
        // A child could fill that on top, as the kernel lets it when the address space is used up (mprotect(2) compares).
        let mapped = rlimit::private_memory().map_err(|errno| ("/proc/self/status", errno))?;
        let total = mapped.saturating_add(memory);
        rlimit::lower(Resource::RLIMIT_DATA, total, total).map_err(|errno| ("setrlimit(RLIMIT_DATA)", errno))?;
        alloc_failure::memory_is_bounded();
    }
    for (resource, soft, hard, step) in bounds.rlimits() {
        rlimit::lower(resource, soft, hard).map_err(|errno| (step, errno))?;
        if matches!(resource, Resource::RLIMIT_AS | Resource::RLIMIT_DATA) {
            alloc_failure::memory_is_bounded();
        }
    }
    Ok(())
}
