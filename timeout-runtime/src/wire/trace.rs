//! One question to the threads of a child, "where are you?", and what is made of the answers.
//!
//! A child can go wrong in any way: whatever it wrote is either an answer to this very question that hangs together, or
//! it is left out.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use nix::unistd::Pid;

use crate::{
    report::Usage,
    sys::{
        sampler::{self, Question, Then},
        sheet::{self, Mapped, SLOTS, Sheet},
    },
};

/// Where a child answers.
pub(crate) enum Room {
    /// In the memory that the process that forked it had for all.
    Shared(&'static Sheets),
    /// In a file of its own.
    File(OwnedFd),
}

impl Room {
    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Room::Shared(_) => None,
            Room::File(file) => Some(file.as_fd()),
        }
    }

    /// Asks some threads of a child; `None` when there is no room for answers.
    pub(crate) fn ask(&self, process: Pid, threads: impl IntoIterator<Item = Pid>, then: Then) -> Option<Asked<'_>> {
        match self {
            Room::Shared(sheets) => sheets.ask(process, threads, then),
            // All who ask it want the same, so that one number will do.
            Room::File(file) => Some(Asked::new(
                Place::Own(Mapped::of(file.as_fd()).ok()?),
                Question::to_worker(process.as_raw().cast_unsigned(), then),
                process,
                threads,
            )),
        }
    }
}

/// The sheets of one process, for the questions to its children.
pub(crate) struct Sheets {
    sheets: &'static [Sheet],
    /// Not in shared memory, so that no child can take one.
    taken: [AtomicBool; COUNT],
    questions: AtomicU32,
}

/// How many calls may be asking at the same time; the rest goes without an answer.
const COUNT: usize = 64;

impl Sheets {
    /// Sheets for this process; none if the kernel gives no memory.
    pub(crate) fn new() -> Sheets {
        let taken = [const { AtomicBool::new(false) }; COUNT];
        Sheets { sheets: sheet::map(COUNT).unwrap_or(&[]), taken, questions: AtomicU32::new(0) }
    }

    /// The memory itself, for a child to answer into.
    pub(crate) fn memory(&self) -> &'static [Sheet] {
        self.sheets
    }

    /// Asks some threads of a child; `None` when every sheet is in use.
    pub(crate) fn ask(&self, process: Pid, threads: impl IntoIterator<Item = Pid>, then: Then) -> Option<Asked<'_>> {
        // The lowest free one, so that few are ever touched.
        let number = (0..self.sheets.len()).find(|number| !self.taken[*number].swap(true, Ordering::Acquire))?;
        let question = Question::new(number, self.questions.fetch_add(1, Ordering::Relaxed), then);
        Some(Asked::new(Place::OneOf(self, number), question, process, threads))
    }
}

/// A question that is being answered. The sheet is free again when it is dropped.
pub(crate) struct Asked<'a> {
    place: Place<'a>,
    question: Question,
    threads: Vec<Pid>,
}

/// The sheet of one question.
enum Place<'a> {
    /// Taken until dropped.
    OneOf(&'a Sheets, usize),
    Own(Mapped),
}

impl Place<'_> {
    fn sheet(&self) -> &Sheet {
        match self {
            Place::OneOf(sheets, number) => &sheets.sheets[*number],
            Place::Own(mapped) => mapped.sheet(),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Place::OneOf(sheets, number) = self {
            sheets.taken[*number].store(false, Ordering::Release);
        }
    }
}

/// Where one thread of the child was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub(crate) thread: Pid,
    /// Its own frames last; before them those of the calls that it was waiting for, the innermost first.
    pub(crate) stacks: Vec<Stack>,
    /// What its process said that it had used.
    pub(crate) usage: Option<Usage>,
}

/// The frames of one thread, in one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stack {
    /// As that process sees itself, and not to be trusted.
    pub(crate) process: Pid,
    pub(crate) frames: Vec<u64>,
}

impl<'a> Asked<'a> {
    fn new(place: Place<'a>, question: Question, process: Pid, threads: impl IntoIterator<Item = Pid>) -> Asked<'a> {
        place.sheet().clear();
        let is_asked = |thread: &Pid| sampler::ask(process, *thread, question).is_ok();
        let threads = threads.into_iter().take(SLOTS).filter(is_asked).collect();
        Asked { place, question, threads }
    }

    fn sheet(&self) -> &Sheet {
        self.place.sheet()
    }

    /// Sleeps until another answer is there, or for `patience`; `true` once nothing more is to come.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let state = self.sheet().state();
        if self.is_answered() {
            return true;
        }
        self.sheet().wait(state, patience);
        self.is_answered()
    }

    /// Whether nothing more is to come.
    pub(crate) fn is_answered(&self) -> bool {
        self.sheet().answers(self.question.number) >= (self.threads.len() + self.sheet().announced()).min(SLOTS)
    }

    /// The threads that have not answered.
    pub(crate) fn silent(&self) -> Vec<Pid> {
        let answered: BTreeSet<Pid> = self.sightings().into_iter().map(|sighting| sighting.thread).collect();
        self.threads.iter().copied().filter(|thread| !answered.contains(thread)).collect()
    }

    /// What has been answered, in the order of the threads asked.
    pub(crate) fn sightings(&self) -> Vec<Sighting> {
        let answers: Vec<_> = (0..SLOTS).map(|slot| self.sheet().read(slot, self.question.number)).collect();
        let of = |thread: &Pid| {
            answers.iter().position(|answer| {
                answer.as_ref().is_some_and(|answer| {
                    answer.witness.thread == thread.as_raw()
                        && answer.origin == Question::DIRECT
                        && !answer.frames.as_slice().is_empty()
                })
            })
        };
        self.threads.iter().filter_map(|thread| Some(sighting(&answers, *thread, of(thread)?))).collect()
    }
}

/// Follows a question from the slot of the thread asked to the innermost process.
fn sighting(answers: &[Option<sheet::Answer>], thread: Pid, first: usize) -> Sighting {
    let mut stacks = Vec::new();
    let mut slot = Some(first);
    // No chain is longer than there are slots, whatever the origins say.
    while let Some(answer) = slot.and_then(|slot| answers[slot].as_ref()).filter(|_| stacks.len() < SLOTS) {
        stacks.insert(
            0,
            Stack { process: Pid::from_raw(answer.witness.process), frames: answer.frames.as_slice().to_vec() },
        );
        let origin = slot.and_then(|slot| u32::try_from(slot).ok());
        slot = answers.iter().position(|next| next.as_ref().is_some_and(|next| Some(next.origin) == origin));
    }
    Sighting { thread, stacks, usage: answers[first].as_ref().and_then(|answer| answer.witness.usage) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::sheet::Witness;

    const THREAD: Pid = Pid::from_raw(41);

    fn witness(process: i32) -> Witness {
        Witness { process, thread: THREAD.as_raw(), usage: None }
    }

    /// A question that was sent to nobody: no process has this number.
    fn asked(sheets: &Sheets) -> Asked<'_> {
        let mut asked = sheets.ask(Pid::from_raw(i32::MAX), [THREAD], Then::GoesOn).unwrap();
        assert!(asked.threads.is_empty());
        asked.threads.push(THREAD);
        asked
    }

    fn answer(asked: &Asked<'_>, origin: u32, frames: &[u64]) -> usize {
        let slot = asked.sheet().reserve().unwrap();
        asked.sheet().answer(slot, asked.question.number, witness(41 + slot as i32), origin, frames);
        slot
    }

    #[test]
    fn an_answer_ends_the_wait() {
        let sheets = Sheets::new();
        let asked = asked(&sheets);
        assert!(!asked.wait(Duration::from_millis(1)));
        answer(&asked, Question::DIRECT, &[1, 2]);
        assert!(asked.wait(Duration::from_secs(50)));
        assert_eq!(asked.sightings()[0].stacks[0].frames, [1, 2]);
        assert_eq!(asked.silent(), []);
    }

    #[test]
    fn an_answer_announced_is_waited_for_and_comes_first() {
        let sheets = Sheets::new();
        let asked = asked(&sheets);
        asked.sheet().expect_one_more();
        let slot = answer(&asked, Question::DIRECT, &[1]);
        assert!(!asked.wait(Duration::from_millis(1)));
        answer(&asked, slot as u32, &[2]);
        assert!(asked.wait(Duration::from_secs(50)));
        let frames: Vec<_> = asked.sightings()[0].stacks.iter().map(|stack| stack.frames[0]).collect();
        assert_eq!(frames, [2, 1]);
    }

    #[test]
    fn an_answer_to_an_earlier_question_is_left_out() {
        let sheets = Sheets::new();
        let earlier = asked(&sheets).question;
        let asked = asked(&sheets);
        assert_eq!(asked.question.sheet, earlier.sheet);
        asked.sheet().answer(0, earlier.number, witness(41), Question::DIRECT, &[1]);
        assert!(!asked.wait(Duration::from_millis(1)));
        assert_eq!(asked.sightings(), []);
        assert_eq!(asked.silent(), [THREAD]);
    }

    #[test]
    fn junk_neither_hangs_nor_passes_for_an_answer() {
        let sheets = Sheets::new();
        let asked = asked(&sheets);
        for word in [0, 1, asked.question.number, Question::DIRECT, u32::MAX, 0x8000_0000] {
            asked.sheet().scribble(word);
            asked.wait(Duration::from_millis(1));
            assert!(asked.sightings().len() <= 1);
            assert!(asked.sheet().reserve().is_none_or(|slot| slot < SLOTS));
        }
        // Answers whose origins go round in circles.
        asked.sheet().clear();
        for slot in [1, 0, 3, 2] {
            answer(&asked, slot, &[7]);
        }
        asked.sheet().answer(4, asked.question.number, witness(41), Question::DIRECT, &[9; 500]);
        asked.sheet().answer(5, asked.question.number, witness(41), 4, &[8]);
        asked.sheet().answer(6, asked.question.number, witness(41), 6, &[8]);
        let sightings = asked.sightings();
        assert_eq!(sightings[0].stacks.len(), 2);
        assert!(sightings[0].stacks.iter().all(|stack| stack.frames.len() <= 56));
    }

    #[test]
    fn a_sheet_is_free_again_when_nobody_asks_by_it() {
        let sheets = Sheets::new();
        let all: Vec<_> = std::iter::from_fn(|| sheets.ask(Pid::from_raw(i32::MAX), [], Then::GoesOn)).collect();
        assert_eq!(all.len(), COUNT);
        drop(all);
        assert!(sheets.ask(Pid::from_raw(i32::MAX), [], Then::GoesOn).is_some());
    }
}
