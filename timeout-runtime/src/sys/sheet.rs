//! Memory in which a child's threads write down where they are, shared with whoever asked.
//!
//! It is plain atomics: a child that has gone wrong, or a process that it left behind, may write anything at any time.
//! So nothing read from here is an index, a length or a process number before it has been checked.
//!
//! The children that a process forks share all its sheets. A worker of the fork server has one of its own, in a file that
//! nobody has but its server, itself and its host, and that no sibling is forked with: what it writes is its own affair.
//!
//! The kernel gives the pages when they are first written to: a host without late calls pays for none.

#![expect(unsafe_code, reason = "mmap(2) hands out raw memory")]

use std::{
    mem,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use nix::{
    Result,
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    libc,
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::fstat,
    },
    unistd::ftruncate,
};

use super::{
    fault::{self, Op},
    fd::above_stdio,
    futex,
    unwind::Frames,
};
use crate::report::Usage;

/// How many threads can answer one question.
pub(crate) const SLOTS: usize = 16;

/// Room for the answers to one question.
#[repr(C)]
pub(crate) struct Sheet {
    /// How many slots have been given out.
    reserved: AtomicU32,
    /// Changes with every answer: what the asking thread sleeps on.
    answered: AtomicU32,
    /// How often the question was passed on to a process further in.
    forwarded: AtomicU32,
    slots: [Slot; SLOTS],
}

/// One thread's answer.
#[repr(C)]
struct Slot {
    /// Written last: the question that this is the answer to.
    question: AtomicU32,
    process: AtomicI32,
    thread: AtomicI32,
    /// The slot of the thread that passed the question on.
    origin: AtomicU32,
    length: AtomicU32,
    /// What the process has used, as it travels; all 0 if that is not told.
    usage: [AtomicU64; 3],
    frames: [AtomicU64; Frames::MOST],
}

/// The thread that answers, and what it tells besides its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Witness {
    pub(crate) process: i32,
    pub(crate) thread: i32,
    pub(crate) usage: Option<Usage>,
}

/// An answer as it was found, nothing of it checked but its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) witness: Witness,
    pub(crate) origin: u32,
    pub(crate) frames: Frames,
}

/// Maps sheets that forked children share. They stay for the life of the process.
pub(crate) fn map(count: usize) -> Result<&'static [Sheet]> {
    let address = map_shared(count, libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1)?;
    // SAFETY: the mapping has room for `count` sheets, begins at a page, is never unmapped, and all zeroes are valid
    // atomics; it is only used through them, in whichever process.
    Ok(unsafe { slice::from_raw_parts(address.as_ptr(), count) })
}

/// What can become neither smaller nor larger, so that none of it is ever missing under a mapping.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// Makes a sheet that can be given to a process of another program.
pub(crate) fn file() -> Result<OwnedFd> {
    let file = memfd_create(c"timeout-runtime", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    // Some kilobytes fit.
    ftruncate(&file, size_of::<Sheet>() as libc::off_t)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    above_stdio(file)
}

/// Maps what [`file`] made, for the life of the process.
pub(crate) fn map_for_good(file: BorrowedFd<'_>) -> Result<&'static [Sheet]> {
    let mapped = Mapped::of(file)?;
    let address = mem::ManuallyDrop::new(mapped).0;
    // SAFETY: as for `Mapped::sheet`, and what is not dropped is never unmapped.
    Ok(unsafe { slice::from_raw_parts(address.as_ptr(), 1) })
}

/// A sheet in a file, mapped until dropped.
pub(crate) struct Mapped(NonNull<Sheet>);

impl Mapped {
    /// Maps what [`file`] made, and nothing else.
    pub(crate) fn of(file: BorrowedFd<'_>) -> Result<Mapped> {
        let seals = SealFlag::from_bits_retain(fcntl(file, FcntlArg::F_GET_SEALS)?);
        let is_whole = fstat(file)?.st_size == size_of::<Sheet>() as libc::off_t;
        if !seals.contains(SEALS) || !is_whole {
            return Err(Errno::EINVAL);
        }
        map_shared(1, 0, file.as_raw_fd()).map(Mapped)
    }

    pub(crate) fn sheet(&self) -> &Sheet {
        // SAFETY: the mapping has room for a sheet, begins at a page and lives as long as `self`; all zeroes are valid
        // atomics, and it is only used through them, in whichever process.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it is what `of` has mapped, and whoever borrowed the sheet borrowed `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Sheet>()) };
    }
}

fn map_shared(count: usize, flags: libc::c_int, fd: i32) -> Result<NonNull<Sheet>> {
    fault::check(Op::Mmap)?;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | flags);
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let address = unsafe { libc::mmap(ptr::null_mut(), count * size_of::<Sheet>(), protection, flags, fd, 0) };
    if address == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    NonNull::new(address.cast()).ok_or(Errno::ENOMEM)
}

impl Sheet {
    /// Makes it ready for the next question.
    pub(crate) fn clear(&self) {
        for slot in &self.slots {
            slot.question.store(0, Ordering::Relaxed);
        }
        self.forwarded.store(0, Ordering::Relaxed);
        self.reserved.store(0, Ordering::Release);
    }

    /// Takes a slot. Async-signal-safe.
    pub(crate) fn reserve(&self) -> Option<usize> {
        let slot = self.reserved.fetch_add(1, Ordering::Relaxed) as usize;
        (slot < SLOTS).then_some(slot)
    }

    /// Notes that one more answer is to come, or that it is not. Async-signal-safe.
    pub(crate) fn expect_one_more(&self) {
        self.forwarded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn expect_one_less(&self) {
        self.forwarded.fetch_sub(1, Ordering::Relaxed);
    }

    /// Says that one that was announced does not come, and wakes whoever waits for it. Async-signal-safe.
    pub(crate) fn withdraw(&self) {
        self.expect_one_less();
        self.answered.fetch_add(1, Ordering::Release);
        futex::wake_shared(&self.answered);
    }

    /// Writes an answer into a slot and wakes whoever asked. Async-signal-safe.
    pub(crate) fn answer(&self, slot: usize, question: u32, witness: Witness, origin: u32, frames: &[u64]) {
        if let Some(slot) = self.slots.get(slot) {
            for (to, from) in slot.frames.iter().zip(frames) {
                to.store(*from, Ordering::Relaxed);
            }
            slot.process.store(witness.process, Ordering::Relaxed);
            slot.thread.store(witness.thread, Ordering::Relaxed);
            slot.tell(witness.usage.unwrap_or_default());
            slot.origin.store(origin, Ordering::Relaxed);
            slot.length.store(u32::try_from(frames.len()).unwrap_or(0), Ordering::Relaxed);
            slot.question.store(question, Ordering::Release);
        }
        self.answered.fetch_add(1, Ordering::Release);
        futex::wake_shared(&self.answered);
    }

    /// How many answers were announced beyond those asked for; at most as many as there are slots.
    pub(crate) fn announced(&self) -> usize {
        (self.forwarded.load(Ordering::Acquire) as usize).min(SLOTS)
    }

    /// How many slots hold an answer to `question`. Async-signal-safe.
    pub(crate) fn answers(&self, question: u32) -> usize {
        self.slots.iter().filter(|slot| slot.question.load(Ordering::Acquire) == question).count()
    }

    /// What changes with every answer; to be read before the answers are counted, and slept on after.
    pub(crate) fn state(&self) -> u32 {
        self.answered.load(Ordering::Acquire)
    }

    /// Sleeps until the state has changed, or for `patience`; may wake early.
    pub(crate) fn wait(&self, state: u32, patience: Duration) {
        futex::wait_shared(&self.answered, state, patience);
    }

    /// Copies the answer to `question` out of a slot. Async-signal-safe.
    pub(crate) fn read(&self, slot: usize, question: u32) -> Option<Answer> {
        let slot = self.slots.get(slot)?;
        if slot.question.load(Ordering::Acquire) != question {
            return None;
        }
        let length = (slot.length.load(Ordering::Relaxed) as usize).min(Frames::MOST);
        let (process, thread) = (slot.process.load(Ordering::Relaxed), slot.thread.load(Ordering::Relaxed));
        Some(Answer {
            witness: Witness { process, thread, usage: slot.told() },
            origin: slot.origin.load(Ordering::Relaxed),
            frames: slot.frames[..length].iter().map(|frame| frame.load(Ordering::Relaxed)).collect(),
        })
    }

    /// Writes the same word everywhere, as a child does that has lost its mind.
    #[cfg(test)]
    pub(crate) fn scribble(&self, word: u32) {
        for place in [&self.reserved, &self.answered, &self.forwarded] {
            place.store(word, Ordering::Relaxed);
        }
        for slot in &self.slots {
            for place in [&slot.question, &slot.origin, &slot.length] {
                place.store(word, Ordering::Relaxed);
            }
            slot.process.store(word.cast_signed(), Ordering::Relaxed);
            slot.thread.store(word.cast_signed(), Ordering::Relaxed);
            slot.usage.iter().for_each(|number| number.store(u64::from(word) << 32, Ordering::Relaxed));
            slot.frames.iter().for_each(|frame| frame.store(u64::from(word) << 32, Ordering::Relaxed));
        }
    }
}

impl Slot {
    fn tell(&self, usage: Usage) {
        for (to, from) in self.usage.iter().zip(usage.to_numbers()) {
            to.store(from, Ordering::Relaxed);
        }
    }

    fn told(&self) -> Option<Usage> {
        let numbers = self.usage.each_ref().map(|number| number.load(Ordering::Relaxed));
        (numbers != [0; 3]).then(|| Usage::from_numbers(numbers))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::shared::Pages;

    #[test]
    fn a_sheet_in_a_file_is_the_same_for_all_who_have_it() {
        let file = file().unwrap();
        let (ours, theirs) = (Mapped::of(file.as_fd()).unwrap(), map_for_good(file.as_fd()).unwrap());
        let witness = Witness { process: 7, thread: 8, usage: None };
        theirs[0].answer(3, 77, witness, 9, &[1, 2]);
        let expected = Answer { witness, origin: 9, frames: [1, 2].into_iter().collect() };
        assert_eq!(ours.sheet().read(3, 77), Some(expected));
        drop(ours);
        assert_eq!(Mapped::of(file.as_fd()).unwrap().sheet().answers(77), 1);
    }

    #[test]
    fn nobody_can_take_the_memory_of_a_sheet_away() {
        let file = file().unwrap();
        for size in [0, 1, 1 << 20] {
            assert_eq!(ftruncate(&file, size), Err(Errno::EPERM));
        }
        // The control: what can be made smaller is not mapped at all, whatever its size.
        let other = Pages::file().unwrap();
        ftruncate(&other, size_of::<Sheet>() as libc::off_t).unwrap();
        assert_eq!(Mapped::of(other.as_fd()).err(), Some(Errno::EINVAL));
    }
}
