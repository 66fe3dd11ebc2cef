//! A run of all tests of a file, as one: when it is over, no process of it is left.
//!
//! For files whose tests are plain functions, as a user writes them, and run beside each other: only of all of them
//! together can it be said that nothing is left.

use std::{
    env,
    io::{Read, Seek},
    process::{Command, Stdio},
    time::Duration,
};

use super::scenario::{clear_away, unnamed_file, watch};

/// The variable that every process of that run has in its environment.
const TAG: &str = "TIMEOUT_SUITE_WHOLE_FILE";

/// How long all tests of a file may take.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Makes two tests of it: that nothing is left, and that what is left would be seen.
macro_rules! leaves_no_process {
    () => {
        mod whole_file {
            #[test]
            fn a_run_of_all_these_tests_leaves_no_process() {
                crate::common::whole_file::run();
            }

            #[test]
            fn what_is_left_is_seen() {
                crate::common::whole_file::leave_one();
            }
        }
    };
}

pub(crate) use leaves_no_process;

pub(crate) fn run() {
    let value = format!("{}.", std::process::id());
    let mut output = unnamed_file(&format!("whole-file-{value}"));
    let mut all = Command::new(env::current_exe().unwrap());
    all.args(["--skip", "whole_file"]).env(TAG, &value).stdin(Stdio::null());
    // To a file: what is left could keep a pipe open.
    all.stdout(output.try_clone().unwrap()).stderr(output.try_clone().unwrap());
    let verdict = watch(&mut all.spawn().unwrap(), WATCHDOG);
    let strays = clear_away(&format!("{TAG}={value}"));
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    assert!(verdict.is_ok() && !text.contains(" 0 passed"), "{verdict:?}\n{text}");
    assert_eq!(strays, "", "left running\n{text}");
}

pub(crate) fn leave_one() {
    let value = format!("control.{}.", std::process::id());
    let mut stray = Command::new("sleep").arg("60").env(TAG, &value).spawn().unwrap();
    let tag = format!("{TAG}={value}");
    assert_ne!(clear_away(&tag), "");
    stray.wait().unwrap();
    assert_eq!(clear_away(&tag), "");
}
