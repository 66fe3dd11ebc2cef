//! What `#[timeout]` refuses, and in which words: one file in `ui/` for each rule, named after it.
//!
//! After a change of wording run with `TRYBUILD=overwrite` and read the difference.

use std::process::Command;

#[test]
fn each_rule_has_its_message() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

/// Messages that the compiler words, around a text of ours: they are compared with those of one version.
#[test]
fn the_compiler_marks_the_right_place() {
    const VERSION: &str = "rustc 1.95.";
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("a compiler");
    let version = String::from_utf8_lossy(&version.stdout);
    if version.starts_with(VERSION) {
        trybuild::TestCases::new().compile_fail("tests/ui/compiler/*.rs");
    } else {
        println!("NOT COMPARED: the messages are those of {VERSION}, and this is {version}");
    }
}
