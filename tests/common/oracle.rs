//! The oracle: everything about this process that a call must leave as it was, taken before and compared after.
//!
//! It is one table of names and values, so that what has changed is told by name. Each kind of entry has a scenario in
//! `oracle.rs` that changes it and is caught.

use std::{
    collections::BTreeMap,
    env, fs, thread,
    time::{Duration, Instant},
};

use super::raw;

/// How long dead children and the threads that reap them may stay.
const SETTLE: Duration = Duration::from_millis(200);

/// What this process looked like at a moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    pub(crate) fn take() -> Snapshot {
        // A process that has changed its user may not look at itself otherwise.
        raw::set_dumpable();
        let mut table = BTreeMap::new();
        descriptors(&mut table);
        threads(&mut table);
        children(&mut table);
        for signal in raw::signals() {
            table.insert(format!("handler of signal {signal}"), raw::disposition(signal));
        }
        let mask = nix::sys::signal::SigSet::thread_get_mask().unwrap();
        table.insert("blocked signals".into(), format!("{:?}", mask.iter().collect::<Vec<_>>()));
        table.insert("working directory".into(), format!("{:?}", env::current_dir().ok()));
        table.insert("scheduling of the thread".into(), raw::scheduling());
        for (name, value) in raw::attributes() {
            table.insert(name.into(), value);
        }
        Snapshot(table)
    }

    /// Waits until everything is as it was, but not for long; gives what is not.
    pub(crate) fn differences(&self) -> Vec<String> {
        let begin = Instant::now();
        let mut looks = 0;
        loop {
            let now = Snapshot::take();
            looks += 1;
            // Looks count as well as time: on a starved machine the reaper starves as this thread does.
            if now == *self || (begin.elapsed() > SETTLE && looks > 100) {
                return self.compare(&now);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn compare(&self, now: &Snapshot) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(now.0.keys()).collect();
        let nothing = String::from("nothing");
        names
            .into_iter()
            .map(|name| (name, self.0.get(name).unwrap_or(&nothing), now.0.get(name).unwrap_or(&nothing)))
            .filter(|(_, before, after)| before != after)
            .map(|(name, before, after)| format!("{name}: {before} before, {after} after"))
            .collect()
    }

    /// Fails if anything is not as it was.
    #[track_caller]
    pub(crate) fn assert_unchanged(&self) {
        let differences = self.differences();
        assert!(differences.is_empty(), "the oracle is red:\n  {}", differences.join("\n  "));
    }
}

fn descriptors(table: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        // The descriptor of this very listing.
        if !target.ends_with(format!("{}/fd", std::process::id())) {
            table.insert(format!("descriptor {}", entry.file_name().display()), target.display().to_string());
        }
    }
}

fn threads(table: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir("/proc/self/task").unwrap().flatten() {
        if let Ok(name) = fs::read_to_string(entry.path().join("comm")) {
            table.insert(format!("thread {}", entry.file_name().display()), name.trim_end().to_owned());
        }
    }
}

/// Children, living and dead. The kernel's own answer to "is there any?" stands beside the list.
fn children(table: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let list = fs::read_to_string(entry.path().join("children")).unwrap_or_default();
        for pid in list.split_whitespace() {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let name_and_state: Vec<_> = stat.split_whitespace().skip(1).take(2).collect();
            table.insert(format!("child {pid}"), name_and_state.join(" "));
        }
    }
    table.insert("any child".into(), raw::has_children().to_string());
}
