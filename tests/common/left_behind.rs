//! Runs a whole test file once more, in a process of its own, and sees that no process of it is left.
//!
//! For files whose tests are plain functions, as a user writes them, and run beside each other: only of all of them
//! together can it be said that nothing is left.

use std::{
    env,
    fs::{self, File},
    io::{Read, Seek},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The variable that every process of that run has in its environment.
const TAG: &str = "TIMEOUT_SUITE_WHOLE_FILE";

/// How long the last of them may take to vanish.
const VANISH: Duration = Duration::from_secs(2);

/// The running processes with `tag` in their environment. Dead ones have none.
fn tagged(tag: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_tagged = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == tag.as_bytes())
    };
    pids.filter(is_tagged).collect()
}

fn are_gone(tag: &str) -> bool {
    let begin = Instant::now();
    while !tagged(tag).is_empty() {
        if begin.elapsed() > VANISH {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn a_run_of_all_these_tests_leaves_no_process() {
    let value = std::process::id().to_string();
    let tag = format!("{TAG}={value}");
    // To a file: what is left could keep a pipe open.
    let path = env::temp_dir().join(format!("timeout-suite-whole-file-{value}"));
    let mut output = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    fs::remove_file(path).unwrap();
    let mut all = Command::new(env::current_exe().unwrap());
    all.args(["--skip", "left_behind"]).env(TAG, &value).stdin(Stdio::null());
    all.stdout(output.try_clone().unwrap()).stderr(output.try_clone().unwrap());
    let status = all.status().unwrap();
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    assert!(status.success() && !text.contains(" 0 passed"), "{text}");
    assert!(are_gone(&tag), "left running: {:?}", tagged(&tag));
}

#[test]
fn what_is_left_is_seen() {
    let value = format!("control of {}", std::process::id());
    let mut stray = Command::new("sleep").arg("60").env(TAG, &value).spawn().unwrap();
    let is_seen = !are_gone(&format!("{TAG}={value}"));
    stray.kill().unwrap();
    stray.wait().unwrap();
    assert!(is_seen);
    assert!(are_gone(&format!("{TAG}={value}")));
}
