//! What `/proc` tells of a process and of those below it. By number: who asks sees to it that the number is still theirs.

use std::fs;

use nix::unistd::Pid;

use crate::sys::procfs::{Directory, File};

/// The children of a process.
pub(crate) struct Children {
    /// Those of every thread, oldest first, living and dead. Empty without `/proc`.
    pub(crate) list: Vec<Pid>,
    /// How many threads' lists could be read.
    pub(crate) threads: usize,
}

/// Reads the children of a process.
pub(crate) fn children(pid: Pid) -> Children {
    let mut children = Children { list: Vec::new(), threads: 0 };
    for text in lists(pid) {
        children.list.extend(text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw));
        children.threads += 1;
    }
    children
}

/// The last few of each thread's children, the youngest first: where there are thousands, it takes long to read them all.
pub(crate) fn youngest(pid: Pid, few: usize) -> Vec<Pid> {
    let mut youngest = Vec::new();
    for text in lists(pid) {
        let words = text.split_whitespace().rev().take(few);
        youngest.extend(words.filter_map(|pid| pid.parse().ok()).map(Pid::from_raw));
    }
    youngest
}

/// The children of each thread of a process, as the kernel writes them.
fn lists(pid: Pid) -> impl Iterator<Item = String> {
    let threads = Directory::of_threads(pid).map(|directory| directory.numbers(usize::MAX)).unwrap_or_default();
    // One descriptor at a time, as the host may have no more.
    threads
        .into_iter()
        .filter_map(move |thread| File::of_thread(pid, thread, "children").and_then(|file| file.list()).ok())
}

/// The numbers of the processes below one, living and dead, of the levels that nested calls may have.
pub(crate) fn descendants(pid: Pid) -> Vec<Pid> {
    let mut found = children(pid).list;
    let mut seen = 0;
    while seen < found.len().min(16) {
        found.extend(children(found[seen]).list);
        seen += 1;
    }
    found
}

/// Whether the main thread of a process sleeps, as one that waits for a lock does.
pub(crate) fn is_asleep(pid: Pid) -> bool {
    state_of(pid) == Some('S')
}

/// How many threads a process has.
pub(crate) fn threads_of(pid: Pid) -> Option<usize> {
    stat_field(pid, 17)?.parse().ok()
}

/// Whether a process is stopped.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    matches!(state_of(pid), Some('T' | 't'))
}

/// Whether a process is dead, reaped or not.
pub(crate) fn is_dead(pid: Pid) -> bool {
    state_of(pid).is_none_or(|state| state == 'Z' || state == 'X')
}

/// The status of a corpse, as wait(2) gives it, where this process may see it.
pub(crate) fn code_of_corpse(pid: Pid) -> Option<i32> {
    if state_of(pid)? == 'Z' { stat_field(pid, 49)?.parse().ok() } else { None }
}

fn state_of(pid: Pid) -> Option<char> {
    stat_field(pid, 0)?.chars().next()
}

/// The parent of a process.
pub(crate) fn parent_of(pid: Pid) -> Option<Pid> {
    stat_field(pid, 1)?.parse().ok().map(Pid::from_raw)
}

/// The process group of a process.
pub(crate) fn group(pid: Pid) -> Option<Pid> {
    stat_field(pid, 2)?.parse().ok().map(Pid::from_raw)
}

/// A field of `/proc/<pid>/stat`, counted from behind the name, which may contain anything.
fn stat_field(pid: Pid, index: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(index).map(str::to_owned)
}
