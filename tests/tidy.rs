//! What a reader may rely on in every file: one sentence at the top, `unsafe` in one folder, each dependency in one place.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push((entry.clone(), fs::read_to_string(&entry).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

fn runtime() -> Vec<(PathBuf, String)> {
    sources("timeout-runtime/src")
}

fn is_in(path: &Path, part: &str) -> bool {
    path.to_str().unwrap().contains(part)
}

/// The lines of code, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"))
}

/// The files of `sources` outside `place` in whose code `word` stands.
fn elsewhere(sources: &[(PathBuf, String)], word: &str, place: &str) -> Vec<PathBuf> {
    let outside = sources.iter().filter(|(path, _)| !is_in(path, place));
    outside.filter(|(_, text)| code(text).any(|line| line.contains(word))).map(|(path, _)| path.clone()).collect()
}

#[test]
fn every_file_opens_with_a_sentence() {
    for (path, text) in runtime().into_iter().chain(sources("timeout-macro/src")).chain(sources("examples")) {
        assert!(text.starts_with("//! "), "{}", path.display());
    }
}

#[test]
fn unsafe_code_is_in_one_folder() {
    let none: Vec<PathBuf> = Vec::new();
    for word in ["unsafe {", "(unsafe_code"] {
        assert_eq!(elsewhere(&runtime(), word, "src/sys/"), none);
        assert_eq!(elsewhere(&sources("timeout-macro/src"), word, "no such place"), none);
        // The search does find what it is for.
        assert!(!elsewhere(&runtime(), word, "no such place").is_empty());
    }
}

#[test]
fn caller_and_child_do_not_know_each_other() {
    let side = |name: &str| runtime().into_iter().filter(|(path, _)| is_in(path, name)).collect::<Vec<_>>();
    for (path, text) in side("src/child/") {
        assert!(!code(&text).any(|line| line.contains("parent::")), "{}", path.display());
    }
    for (path, text) in side("src/parent/") {
        assert!(!code(&text).any(|line| line.contains("child::")), "{}", path.display());
    }
}

#[test]
fn a_dependency_lives_in_one_place() {
    let none: Vec<PathBuf> = Vec::new();
    for (name, place) in [
        ("bincode::", "wire/codec"),
        ("castaway::", "wire/"),
        ("backtrace::resolve", "report/symbols"),
        ("timeout_macro::", "src/lib.rs"),
        ("tracing::", "src/events.rs"),
    ] {
        assert_eq!(elsewhere(&runtime(), name, place), none, "{name}");
        assert!(!elsewhere(&runtime(), name, "no such place").is_empty(), "{name} is not used at all");
    }
    assert_eq!(elsewhere(&sources("timeout-macro/src"), "proc_macro::", "src/lib.rs"), none);
}

#[test]
fn every_dependency_is_named_with_the_chosen_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chosen = fs::read_to_string(root.join("deny.toml")).unwrap();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names = section.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    let names: Vec<&str> = names.filter(|name| !name.starts_with('#') && !name.starts_with("timeout-")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(chosen.split_whitespace().any(|word| word == name), "{name} is not named in deny.toml");
    }
}

/// Runs cargo on the runtime alone, so that no other package of the workspace chooses its features.
fn cargo(command: &str, arguments: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([command, "--offline", "-p", "timeout-runtime"]).args(arguments);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !told.contains("warning"), "{told}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_a_feature_brings_is_not_there_without_it() {
    let dependencies = |features: &str| cargo("tree", &["-e", "normal", "--prefix", "none", "--features", features]);
    let has_tracing = |tree: &str| tree.lines().any(|line| line.starts_with("tracing"));
    assert!(!has_tracing(&dependencies("")));
    assert!(has_tracing(&dependencies("tracing")));
}

#[test]
fn the_runtime_compiles_with_each_set_of_features() {
    // A folder of its own: the one of this test may be locked by whoever runs it.
    let target = ["--target-dir", concat!(env!("CARGO_TARGET_TMPDIR"), "/features")];
    for features in ["", "tracing"] {
        cargo("check", &[&["--features", features], &target[..]].concat());
    }
}
