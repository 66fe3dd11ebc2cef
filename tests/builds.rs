//! What a trace shows in programs that are built in different ways.
//!
//! One small program is built by cargo, without a network, in the folder where this test was built.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

/// A way to build the program: the name of the finished file, and what cargo is told.
struct Build {
    name: &'static str,
    profile: &'static str,
    options: &'static [&'static str],
}

/// One at a time, as they share a folder.
static CARGO: Mutex<()> = Mutex::new(());

impl Build {
    /// Builds the program and runs it; gives the line that it printed about each of its calls, and its trace.
    fn run(&self) -> BTreeMap<String, (String, String)> {
        let output = Command::new(self.build()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}: {text}\n{}", self.name, String::from_utf8_lossy(&output.stderr));
        let line = |line: &str| {
            let (name, rest) = line.split_once(": ").unwrap();
            let (error, trace) = rest.rsplit_once(" | ").unwrap();
            (name.to_owned(), (error.to_owned(), trace.to_owned()))
        };
        text.lines().map(line).collect()
    }

    fn build(&self) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        // The folder of cargo itself, where a part of it is ready.
        let Some(folder) = Path::new(env!("CARGO_TARGET_TMPDIR")).parent() else { panic!("no target folder") };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let _one = CARGO.lock();
        let built = Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--offline",
                "--locked",
                "--package",
                "consumer-traced",
                "--profile",
                self.profile,
            ])
            .args(self.options)
            .arg("--target-dir")
            .arg(folder)
            .current_dir(root)
            .status();
        assert!(built.unwrap().success(), "{}", self.name);
        let place = if self.profile == "dev" { "debug" } else { self.profile };
        let named = Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.name);
        fs::create_dir_all(&named).unwrap();
        let program = named.join("consumer-traced");
        // By another process: whoever this one forks meanwhile would have the copy open, and then it cannot be run.
        let copied = Command::new("cp").arg(folder.join(place).join("consumer-traced")).arg(&program).status();
        assert!(copied.unwrap().success(), "{}", self.name);
        program
    }
}

/// The calls whose place is told in their line, and the innermost function of each.
const PLACES: [(&str, &str); 11] = [
    ("spin", "consumer_traced::sieve"),
    ("lock", "consumer_traced::restock"),
    ("read", "consumer_traced::wait_for_byte"),
    ("nested", "consumer_traced::sieve"),
    ("sleep", "consumer_traced::nap"),
    ("allocate", "consumer_traced::hoard"),
    ("recurse", "consumer_traced::sieve"),
    ("second thread", "consumer_traced::wait_for"),
    ("abort", "consumer_traced::give_up"),
    ("overflow", "consumer_traced::descend"),
    ("memory", "consumer_traced::ask_for_too_much"),
];

type Told = BTreeMap<String, (String, String)>;

/// What is told whatever the build.
fn check_reasons(told: &Told) {
    for (name, expected) in [
        ("spin", "did not return within 1 s: it was in "),
        ("spin", "(running, "),
        ("lock", "(waiting for a lock"),
        ("read", "(in read(fd "),
        ("sleep", "(sleeping"),
        ("allocate", "(running, "),
        ("recurse", "(running, "),
        ("second thread", "another thread"),
        ("abort", "crashed: SIGABRT in "),
        ("overflow", "overflowed its stack ("),
        ("memory", "ran out of memory (its peak was "),
        ("panic", "panicked at tests/consumers/traced/src/main.rs:96:5: index out of bounds: the len is 3"),
        ("panic of an inner failure", "panicked at tests/consumers/traced/src/main.rs:"),
    ] {
        assert!(told[name].0.contains(expected), "{name}: {}", told[name].0);
    }
}

/// How a place is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    PathAndLine,
    Path,
    /// Line tables have the names of functions without their paths.
    NameAndLine,
    /// Neither names nor lines, but what a debugger finds.
    Offset,
}

use Place::{NameAndLine, Offset, Path as PathAlone, PathAndLine};

impl Place {
    fn is_told(self, line: &str, path: &str) -> bool {
        let name = path.rsplit("::").next().unwrap();
        let has_line = line.contains(" at tests/consumers/traced/src/main.rs:");
        let starts = |place: &str| line.contains(&format!(" in {place}"));
        match self {
            PathAndLine => starts(&format!("{path} at tests/consumers/traced/src/main.rs:")),
            PathAlone => starts(path) && !has_line,
            NameAndLine => (starts(name) || starts(path)) && has_line,
            Offset => starts("consumer-traced+0x") && !line.contains(name),
        }
    }
}

/// How a build tells the places of its calls; all of them alike.
fn place_of(told: &Told) -> Place {
    let is_told = |place: &Place| PLACES.iter().all(|(name, function)| place.is_told(&told[*name].0, function));
    [PathAndLine, PathAlone, NameAndLine, Offset].into_iter().find(is_told).unwrap_or_else(|| panic!("{told:#?}"))
}

fn check(build: &Build, place: Place) -> Told {
    let told = build.run();
    check_reasons(&told);
    assert_eq!(place_of(&told), place, "{}: {told:#?}", build.name);
    if place != Offset {
        assert!(told["panic"].1.contains("index"), "{:?}", told["panic"]);
        assert!(told["lock"].0.contains("(waiting for a lock)"), "{:?}", told["lock"]);
        // What the other one does is in the trace.
        assert!(told["second thread"].1.contains("sieve"), "{:?}", told["second thread"]);
        // The body itself is always named, even where it was merged into what calls it.
        for name in ["spin", "lock", "read", "nested", "sleep", "allocate", "abort", "memory", "panic"] {
            assert!(told[name].1.contains(&format!("consumer_traced::{name}")), "{name}: {:?}", told[name]);
        }
    }
    for strange in ["timeout_runtime::call", "timeout_runtime::sys", "timeout-runtime/src", "::main", "ppoll"] {
        assert!(told.values().all(|(_, trace)| !trace.contains(strange) || place == Offset), "{strange}: {told:#?}");
    }
    told
}

fn assert_other_threads_panic_is_no_failure(told: &Told) {
    assert!(told["panic elsewhere"].0.ends_with(": the thread has panicked, and nobody minded"), "{told:#?}");
}

#[test]
fn a_debug_build_shows_functions_and_lines() {
    let told = check(&Build { name: "dev-build", profile: "dev", options: &[] }, PathAndLine);
    assert_other_threads_panic_is_no_failure(&told);
}

#[test]
fn a_release_build_shows_functions() {
    let told = check(&Build { name: "release-build", profile: "release", options: &[] }, PathAlone);
    assert_other_threads_panic_is_no_failure(&told);
}

#[test]
fn a_release_build_with_line_tables_shows_lines() {
    let options = &["--config", "profile.release.package.consumer-traced.debug=\"line-tables-only\""];
    check(&Build { name: "line-tables", profile: "release", options }, NameAndLine);
}

#[test]
fn a_stripped_build_shows_offsets() {
    let options = &["--config", "profile.release.package.consumer-traced.strip=true"];
    check(&Build { name: "stripped", profile: "release", options }, Offset);
}

#[test]
fn a_build_without_the_feature_shows_offsets() {
    check(&Build { name: "no-symbols", profile: "dev", options: &["--no-default-features"] }, Offset);
}

#[test]
fn a_build_that_aborts_on_panic_shows_the_same() {
    // Not a profile of its own: the macro and what it needs are built for the others already.
    let options = &[
        "--config",
        "profile.release.panic=\"abort\"",
        "--config",
        "profile.release.lto=\"fat\"",
        "--config",
        "profile.release.codegen-units=1",
    ];
    let told = check(&Build { name: "abort-lto", profile: "release", options }, PathAlone);
    // There a panic of any thread ends the process.
    let expected =
        "panicked at tests/consumers/traced/src/main.rs:96:5 on thread `elsewhere`: index out of bounds: the len is 1";
    assert!(told["panic elsewhere"].0.contains(expected), "{:?}", told["panic elsewhere"]);
    assert!(told["panic elsewhere"].1.contains("consumer_traced::index"), "{:?}", told["panic elsewhere"]);
}
