//! Makes calls by the fork server that end in every way, and checks each from where its caller stands.
#![forbid(unsafe_code)]

use std::{
    fs,
    os::unix::process::parent_id,
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use timeout_runtime::{Ran, Reason, timeout};

/// What the program has done so far. A worker has seen none of it.
static STEPS: AtomicU32 = AtomicU32::new(0);

#[timeout(50, start = forkserver)]
fn look(text: &str, numbers: Vec<u64>, log: &mut Vec<String>) -> (u32, u32, u64) {
    log.push(format!("{text}!"));
    (STEPS.load(Ordering::Relaxed), parent_id(), numbers.iter().sum())
}

#[timeout(50, start = forkserver)]
fn generic<T: ToString + timeout_runtime::Portable>(value: T) -> String {
    value.to_string()
}

#[inline(never)]
fn index(list: &[u32]) -> u32 {
    list[std::hint::black_box(7)]
}

#[timeout(50, start = forkserver)]
fn panics() -> u32 {
    index(&[1, 2])
}

#[timeout(50, start = forkserver)]
fn aborts() {
    process::abort()
}

#[timeout(50, start = forkserver)]
fn exits(code: i32) {
    process::exit(code)
}

#[timeout(0.1, start = forkserver)]
fn never_ends() -> u32 {
    loop {
        std::thread::park();
    }
}

#[timeout(0.1, start = forkserver)]
fn spins() -> u32 {
    loop {
        std::hint::spin_loop();
    }
}

#[timeout(50)]
fn forked() -> u32 {
    parent_id()
}

/// Prints in a worker.
#[timeout(50, start = forkserver)]
pub fn say(text: &str) {
    print!("{text}");
}

/// Makes all the calls; panics if one is not told as it is.
pub fn check() {
    STEPS.store(1, Ordering::Relaxed);
    let mut log = vec!["begun".to_owned()];
    let (steps, parent, sum) = look("seen", vec![1 << 40, 2], &mut log).unwrap();
    assert_eq!((steps, sum), (0, (1 << 40) + 2));
    assert_ne!(parent, process::id(), "the worker was forked by its caller");
    assert_eq!(log, ["begun", "seen!"]);
    assert_eq!(forked().unwrap(), process::id());
    assert_eq!(generic(7u8).unwrap(), "7");
    assert_eq!(generic(String::from("text")).unwrap(), "text");

    let panicked = panics().unwrap_err();
    assert!(panicked.is_panic() && panicked.to_string().contains("src/lib.rs:"), "{panicked}");
    let trace = panicked.backtrace().unwrap().to_string();
    assert!(trace.contains("consumer_served::index"), "{trace}");
    assert!(aborts().unwrap_err().is_crash());
    assert!(matches!(exits(3).unwrap_err().reason(), Reason::Exited { code: 3, .. }));
    let begin = Instant::now();
    let late = never_ends().unwrap_err();
    assert!(late.is_late() && late.ran() != Ran::No, "{late}");
    assert!((Duration::from_millis(100)..Duration::from_secs(5)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    // This much is told wherever no stack can be had, too.
    assert!(late.to_string().contains("waiting"), "{late}");
    let late = spins().unwrap_err();
    assert!(late.to_string().contains("running, "), "{late}");
}

/// What this process has, which a program that makes no call would not have more of: threads, descriptors, fork servers.
pub fn belongings() -> [usize; 3] {
    let count = |folder: &str| fs::read_dir(folder).unwrap().count();
    // The listing itself has a descriptor.
    [count("/proc/self/task"), count("/proc/self/fd") - 1, servers()]
}

/// How many processes say that they are this one's fork server.
pub fn servers() -> usize {
    let name = format!("timeout-runtime: fork server of {}\0", process::id());
    let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with(name.as_bytes())).count()
}

/// Whether this process has any child.
pub fn has_children() -> bool {
    !fs::read_to_string("/proc/thread-self/children").unwrap().is_empty()
}

#[cfg(test)]
mod tests {
    #[test]
    fn calls_are_served_in_a_unit_test() {
        super::check();
    }
}
