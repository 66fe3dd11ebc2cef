//! What both benchmarks measure with: the bare fork, memory that is really there, and times.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::wait::waitpid,
    unistd::{ForkResult, fork, pipe2, read, write},
};

pub(crate) const MIB: usize = 1 << 20;

/// The least that a call through a fork can be.
pub(crate) fn bare_fork() {
    let (ours, child) = forked(|theirs| {
        let _ = write(theirs, &7u64.to_le_bytes());
    });
    poll(&mut [PollFd::new(ours.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).expect("poll");
    let mut bytes = [0; 8];
    assert_eq!(read(&ours, &mut bytes), Ok(8));
    waitpid(child, None).expect("waitpid");
}

/// Forks a child that does something with the writing end of a pipe, and ends.
pub(crate) fn forked(child: impl FnOnce(&OwnedFd)) -> (OwnedFd, nix::unistd::Pid) {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).expect("pipe2");
    // SAFETY: the child uses system calls and memory that it has, takes no lock, and ends.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => (ours, child),
        ForkResult::Child => {
            child(&theirs);
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Memory in small pages, every one written to.
pub(crate) struct Touched {
    start: usize,
    size: usize,
}

impl Touched {
    pub(crate) fn new(size: usize) -> Touched {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED, "mmap");
        // SAFETY: the range is the mapping.
        unsafe { libc::madvise(start, size, libc::MADV_NOHUGEPAGE) };
        let touched = Touched { start: start as usize, size };
        (0..size / 4096).for_each(|page| touched.write(page));
        touched
    }

    /// Writes to one page.
    pub(crate) fn write(&self, page: usize) {
        let place = (self.start + page * 4096 % self.size) as *mut u8;
        // SAFETY: within the mapping, which nothing else uses.
        unsafe { place.write_volatile(1) };
    }
}

impl Drop for Touched {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` and nothing else points into it.
        unsafe { libc::munmap(self.start as *mut libc::c_void, self.size) };
    }
}

#[derive(Default)]
pub(crate) struct Times(pub(crate) Vec<Duration>);

impl Times {
    pub(crate) fn measure(&mut self, work: impl FnOnce()) {
        let begin = Instant::now();
        work();
        self.0.push(begin.elapsed());
    }

    /// A quantile, in microseconds; not a number where nothing was measured.
    pub(crate) fn at(&self, quantile: f64) -> f64 {
        let mut times = self.0.clone();
        times.sort();
        let index = (times.len().saturating_sub(1) as f64 * quantile).round() as usize;
        times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }

    pub(crate) fn row(&self, name: &str, bare: &Times) {
        let ratio = self.at(0.5) / bare.at(0.5);
        println!("| {name} | {:.0} | {:.0} | {ratio:.2} |", self.at(0.5), self.at(0.99));
    }
}
