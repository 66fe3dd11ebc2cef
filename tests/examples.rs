//! The examples do what they say, and the README shows what they print.

use std::{fs, path::Path, process::Command};

/// What one that takes arguments is given.
const ARGUMENTS: [(&str, &[&str]); 1] = [("command", &["5", "echo", "done"])];

/// Those whose lines stand in the README.
const SHOWN: [&str; 3] = ["stuck", "crash", "memory"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs an example to its end; gives what it printed.
fn run(name: &str) -> String {
    // Cargo puts them beside the tests, and has built them before it runs any of these.
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(program.exists(), "{name} is not built: run `cargo build --examples`");
    let arguments = ARGUMENTS.iter().find(|(with, _)| *with == name).map_or(&[][..], |(_, arguments)| arguments);
    let output = Command::new(program).args(arguments).current_dir(root()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{text}\n{told}", output.status);
    text
}

/// A line without its measured numbers; where in the source it was stays.
fn without_numbers(line: &str) -> String {
    let word = |word: &str| match word.trim_start_matches('(').starts_with(|first: char| first.is_ascii_digit()) {
        true if !word.contains("0x") => "#".to_owned(),
        _ => word.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_runs_to_its_end_and_prints_something() {
    let names = fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let names: Vec<_> = names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(!run(&name).is_empty(), "{name} prints nothing");
    }
}

#[test]
fn the_readme_shows_what_is_printed() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme.split("## What you see when it fails").nth(1).unwrap();
    let shown: Vec<_> = section.split("```").nth(1).unwrap().lines().skip(1).map(without_numbers).collect();
    assert!(shown.len() > 3, "{shown:?}");
    let printed: Vec<_> =
        SHOWN.iter().flat_map(|name| run(name).lines().map(without_numbers).collect::<Vec<_>>()).collect();
    for line in shown {
        assert!(printed.iter().any(|printed| printed.ends_with(&line)), "{line}\nis not among\n{}", printed.join("\n"));
    }
}

#[test]
fn they_are_short() {
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!((20..=80).contains(&lines), "{} has {lines} lines", path.display());
    }
}
