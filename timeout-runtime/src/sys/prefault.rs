//! What a child's handler needs of the program's files, mapped in the child from outside and ahead.
//!
//! A forked process has copies of its host's pages, but those of files, such as code and the tables for walks, are mapped
//! when they are first touched: some at once, in some microseconds. A handler that walks the stack touches more than a
//! dozen such places, which takes it longer than the walk. To read a place from outside maps it just as well, and
//! that can be done while everybody waits anyway.

#![expect(unsafe_code, reason = "the address of a C function is taken")]

use std::{io::IoSliceMut, ops::Range};

use nix::{
    errno::Errno,
    libc,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::{image, process, sampler, unwind};

unsafe extern "C" {
    /// The unwinder asks it whether it has been made ready.
    fn pthread_once();
}

/// Addresses in this process, and in every copy of it, one for each piece that the kernel maps at once.
pub(crate) struct Places(Vec<usize>);

/// The kernel maps so much around a place, if that is in memory (`fault_around_bytes`).
const PIECE: usize = 64 << 10;

/// What is larger is not mapped whole.
const SMALL: usize = 512 << 10;

/// Of a program with more than this, the rest is left to the handler.
const MOST: usize = 128;

impl Places {
    /// Finds them, given where `files` lie: in small ones, which the unwinder's and the linker's are, in the program's
    /// tables, and the functions of larger files.
    pub(crate) fn find(files: impl Iterator<Item = Range<usize>>) -> Places {
        let functions = [
            sampler::on_question as *const (),
            unwind::interrupted as *const (),
            process::usage as *const (),
            Errno::last_raw as *const (),
            libc::__errno_location as *const (),
            libc::getpid as *const (),
            libc::getppid as *const (),
            libc::gettid as *const (),
            libc::getrusage as *const (),
            libc::memcpy as *const (),
            libc::memset as *const (),
            pthread_once as *const (),
            libc::raise as *const (),
            libc::syscall as *const (),
        ];
        let mut places = functions.map(|function| function as usize).to_vec();
        // The unwinder's come first, whatever else is loaded.
        let (first, rest): (Vec<_>, Vec<_>) =
            files.filter(|range| range.len() <= SMALL).partition(|range| range.contains(&unwind::code()));
        let ranges = first.into_iter().chain(image::tables()).chain(rest);
        places.extend(ranges.flat_map(pieces));
        places.truncate(MOST);
        Places(places)
    }

    /// Maps them in a copy of this process. It waits for whoever changes what that process has mapped, so nobody in there
    /// should be able to.
    ///
    /// Where it is forbidden, the handler takes longer.
    pub(crate) fn map_in(&self, process: Pid) {
        let (mut bytes, mut left) = ([0u8; MOST], &self.0[..]);
        while !left.is_empty() {
            let remote: Vec<_> = left.iter().map(|place| RemoteIoVec { base: *place, len: 1 }).collect();
            let mapped = match process_vm_readv(process, &mut [IoSliceMut::new(&mut bytes)], &remote) {
                Ok(mapped) => mapped,
                Err(Errno::EFAULT) => 0,
                Err(_) => return,
            };
            // The next one is the kernel's own, or the process has unmapped it.
            left = left.get(mapped + 1..).unwrap_or_default();
        }
    }
}

/// A place in each piece of a range.
fn pieces(range: Range<usize>) -> impl Iterator<Item = usize> {
    let others = (range.start / PIECE + 1..).map(|piece| piece * PIECE).take_while(move |place| *place < range.end);
    [range.start].into_iter().chain(others)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt};

    use nix::{
        sys::{
            signal::{Signal, kill},
            wait::waitpid,
        },
        unistd::{SysconfVar, pause, sysconf},
    };

    use super::*;
    use crate::report::Modules;

    /// How many places a process has mapped, as proc_pid_pagemap(5) tells.
    fn mapped(places: &Places, process: Pid) -> usize {
        const PRESENT: u64 = 1 << 63;
        let page = sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap() as usize;
        let map = File::open(format!("/proc/{process}/pagemap")).unwrap();
        let is_mapped = |place: &&usize| {
            let mut entry = [0; 8];
            map.read_exact_at(&mut entry, (**place / page * 8) as u64).unwrap();
            u64::from_ne_bytes(entry) & PRESENT != 0
        };
        places.0.iter().filter(is_mapped).count()
    }

    #[test]
    fn a_copy_has_the_places_mapped_that_it_had_not() {
        let mut places = Places::find(Modules::of_this_process().read_only());
        // One that nobody has is passed over.
        places.0.insert(0, 8);
        let child = process::fork(|| {
            loop {
                pause();
            }
        });
        let child = child.unwrap();
        let before = mapped(&places, child);
        places.map_in(child);
        let after = mapped(&places, child);
        kill(child, Signal::SIGKILL).unwrap();
        waitpid(child, None).unwrap();
        assert!(before < after / 2, "{before} of {} were mapped before", places.0.len());
        assert_eq!(after, places.0.len() - 1);
        // It is gone: that does no harm.
        places.map_in(child);
    }
}
