//! The fork server works in each kind of program that cargo builds, however it is linked, and wherever a test runs.
//!
//! One small package is built by cargo, without a network, in the folder where this test was built. What differs between
//! its builds are the options of its own crates, so that all of them share their dependencies.

mod common;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use common::{SOON, procs, raw};

/// What cargo has built: the kind of target and its name, and where it lies.
type Built = BTreeMap<(String, String), PathBuf>;

/// Has cargo do `arguments`, one process at a time, and keeps what it has built under `name`: another build of the same
/// target takes the same place.
fn build(name: &str, arguments: &[&str]) -> Built {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // The folder of cargo itself, where a part of it is ready.
    let Some(folder) = scratch.parent() else { panic!("no target folder") };
    let gate = File::create(scratch.join("served-builds.lock")).unwrap();
    gate.lock().unwrap();
    let (command, options) = arguments.split_first().unwrap();
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([command, "--offline", "--locked", "--package", "consumer-served", "--message-format", "json"])
        .arg("--target-dir")
        .arg(folder)
        .args(options)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{name}: {}\n{text}", String::from_utf8_lossy(&output.stderr));
    let kept = scratch.join(name);
    fs::create_dir_all(&kept).unwrap();
    let artifacts = text.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        let library = || message["filenames"][0].as_str().filter(|name| name.ends_with(".so"));
        let program = PathBuf::from(message["executable"].as_str().or_else(library)?);
        let target = &message["target"];
        let kind = if message["profile"]["test"] == true { "test" } else { target["kind"][0].as_str()? };
        let place = kept.join(format!("{kind}-{}", target["name"].as_str()?));
        let _ = fs::remove_file(&place);
        raw::copy_program(&program, &place);
        Some(((kind.to_owned(), target["name"].as_str()?.to_owned()), place))
    });
    artifacts.collect()
}

impl Program<'_> {
    /// Runs it to its end; gives what it has printed. Nothing that it has started may keep that open, or run on.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let tag = format!("TIMEOUT_SUITE_BUILD={}.{}", std::process::id(), self.0.display());
        let (name, value) = tag.split_once('=').unwrap();
        let begin = Instant::now();
        let mut program = Command::new(self.0);
        let output = program.args(arguments).env(name, value).stdin(Stdio::null()).output().unwrap();
        let told = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{} {arguments:?}: {told}", self.0.display());
        // Far below what a body that was left behind would take.
        assert!(begin.elapsed() < 4 * SOON, "{:?}", begin.elapsed());
        procs::assert_none_tagged_within(&tag, SOON);
        told
    }
}

/// One of the programs that were built.
struct Program<'a>(&'a Path);

fn program<'a>(built: &'a Built, kind: &str, name: &str) -> Program<'a> {
    Program(built.get(&(kind.to_owned(), name.to_owned())).unwrap_or_else(|| panic!("no {kind} {name}: {built:?}")))
}

/// Whether a program's file says that it may be loaded anywhere, and that another one loads it.
fn is_movable_and_dynamic(program: &Program<'_>) -> (bool, bool) {
    let bytes = fs::read(program.0).unwrap();
    let number = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    // elf(5): the type is at 16; where the program headers begin, at 32; their size and number, at 54 and 56.
    let begin = usize::try_from(u64::from_le_bytes(bytes[32..40].try_into().unwrap())).unwrap();
    let headers = (0..number(56)).map(|index| begin + index * number(54));
    const ET_DYN: usize = 3;
    const PT_INTERP: usize = 3;
    (number(16) == ET_DYN, headers.map(number).any(|kind| kind == PT_INTERP))
}

#[test]
fn every_kind_of_target_is_served() {
    let built = build("served-all", &["build", "--all-targets"]);
    for (kind, name) in
        [("bin", "consumer-served"), ("example", "shown"), ("test", "plain"), ("test", "consumer_served")]
    {
        let told = program(&built, kind, name).run(&[]);
        let expected = match kind {
            "bin" => PRINTED,
            _ if name == "consumer_served" => "1 passed",
            _ => "served\n",
        };
        assert!(told.contains(expected), "{kind} {name}: {told}");
    }
    let told = program(&built, "test", "harnessed").run(&[]);
    assert!(told.contains("3 passed"), "{told}");
    // Another process of this program has no such library: nothing of it can be run there.
    let library = raw::Library::open(program(&built, "example", "plugin").0);
    assert_eq!(library.call_with_flag(c"try_everything"), 0b111);
}

#[test]
fn a_process_for_each_test_is_served() {
    // As cargo-nextest does it: tests are listed, and each is run alone, by its name.
    let built = build("served-each", &["test", "--no-run"]);
    for (target, count) in [("harnessed", 3), ("consumer_served", 1)] {
        let harnessed = program(&built, "test", target);
        let list = harnessed.run(&["--list", "--format", "terse"]);
        let names: Vec<_> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
        assert_eq!(names.len(), count, "{list}");
        assert_eq!(harnessed.run(&["--list", "--format", "terse", "--ignored"]).trim(), "");
        for name in names {
            let told = harnessed.run(&[name, "--exact", "--nocapture"]);
            assert!(told.contains("1 passed"), "{told}");
        }
    }
    // A test without a harness does not know what it is asked, and does what it always does.
    assert!(program(&built, "test", "plain").run(&["--exact", "--nocapture"]).contains("served"));
}

/// What the binary prints, and its workers.
const PRINTED: &str = "before, inside, between, inside again, served";

/// Links the program in a way of its own, and runs it.
fn check_linked(name: &str, options: &[&str], expected: (bool, bool)) {
    let command = [&["rustc", "--bin", "consumer-served", "--"], options].concat();
    let built = build(name, &command);
    let program = program(&built, "bin", "consumer-served");
    assert_eq!(is_movable_and_dynamic(&program), expected, "it was linked in another way");
    assert_eq!(program.run(&[]).trim(), PRINTED);
    assert_eq!(program.run(&["idle"]).trim(), idle());
}

/// One thread, the standard streams and whatever this process passes on, and no server.
fn idle() -> String {
    let numbers = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().file_name());
    let numbers = numbers.map(|number| number.to_str().unwrap().parse().unwrap());
    format!("[1, {}, 0]", 3 + numbers.filter(|number| *number > 2 && raw::is_passed_on(*number)).count())
}

#[test]
fn a_program_that_makes_no_call_has_nothing_more() {
    let built = build("served-idle", &["build", "--bins"]);
    let program = program(&built, "bin", "consumer-served");
    assert_eq!(program.run(&["idle"]).trim(), idle());
    // The control: what one has that does is seen.
    assert_ne!(program.run(&["used"]).trim(), idle());
}

#[test]
fn a_dynamic_program_at_a_fixed_address_is_served() {
    check_linked("served-fixed", &["-C", "relocation-model=static"], (false, true));
}

// The C library of other targets is not this one.
#[cfg(target_env = "gnu")]
#[test]
fn a_static_program_is_served() {
    check_linked("served-static-pie", &["-C", "target-feature=+crt-static"], (true, false));
    let fixed = ["-C", "target-feature=+crt-static", "-C", "relocation-model=static"];
    check_linked("served-static", &fixed, (false, false));
}
