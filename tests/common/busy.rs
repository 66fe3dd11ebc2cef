//! Load on every core while a scenario runs.

use std::time::{Duration, Instant};

use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};

use super::{procs, raw};

/// Keeps the machine busy until dropped.
pub(crate) struct Busy(Vec<Pid>);

/// Keeps two processes spinning on every core. They are processes, as threads would belong to the host under test.
pub(crate) fn busy() -> Busy {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let spinners: Vec<_> = (0..2 * cores).map(|_| raw::fork(spin)).collect();
    procs::exempt(&spinners);
    Busy(spinners)
}

fn spin() {
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        std::hint::spin_loop();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for &spinner in &self.0 {
            kill(spinner, Signal::SIGKILL).unwrap();
            waitpid(spinner, None).unwrap();
        }
    }
}
