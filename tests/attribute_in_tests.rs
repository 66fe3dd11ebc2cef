//! `#[timeout]` with test attributes in both orders: what passes passes, and what fails says why in the body's words.

use std::{
    env,
    process::{Command, Output},
    thread,
    time::Duration,
};

use timeout_runtime::timeout;

mod passing {
    use super::*;

    #[test]
    #[timeout(60)]
    fn test_above() {}

    #[timeout(60)]
    #[test]
    fn test_below() {}

    #[test]
    #[timeout(60)]
    fn test_above_with_result() -> Result<(), String> {
        Ok(())
    }

    #[timeout(60)]
    #[test]
    fn test_below_with_result() -> Result<(), String> {
        Ok(())
    }

    #[test]
    #[should_panic(expected = "the words of the body")]
    #[timeout(60)]
    fn should_panic_with_test_above() {
        panic!("the words of the body");
    }

    #[timeout(60)]
    #[should_panic(expected = "the words of the body")]
    #[test]
    fn should_panic_with_test_below() {
        panic!("the words of the body");
    }

    #[test]
    #[timeout(60)]
    #[should_panic(expected = "the words of the body")]
    fn should_panic_around() {
        panic!("the words of the body");
    }

    #[test]
    #[should_panic(expected = "the words of the body")]
    #[timeout(60, panic = "resume")]
    fn should_panic_resumed() {
        panic!("the words of the body");
    }

    #[timeout(100ms)]
    #[test]
    #[should_panic(expected = "did not return within")]
    fn should_panic_late() {
        thread::sleep(Duration::from_secs(600));
    }

    #[tokio::test]
    #[timeout(60)]
    async fn tokio_above() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[timeout(60)]
    #[tokio::test]
    async fn tokio_below() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[timeout(60)]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tokio_with_threads() -> Result<(), String> {
        tokio::spawn(async {}).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    #[should_panic(expected = "the words of the body")]
    #[timeout(60)]
    async fn tokio_should_panic_above() {
        tokio::task::yield_now().await;
        panic!("the words of the body");
    }

    #[timeout(60)]
    #[tokio::test]
    #[should_panic(expected = "the words of the body")]
    async fn tokio_should_panic_below() {
        tokio::task::yield_now().await;
        panic!("the words of the body");
    }
}

/// Tests that fail when they are asked to, one by one, by the test below.
mod failing {
    use super::*;

    #[test]
    #[timeout(60)]
    fn panics_with_test_above() {
        panic_if_asked();
    }

    #[timeout(60)]
    #[test]
    fn panics_with_test_below() {
        panic_if_asked();
    }

    #[test]
    #[timeout(60)]
    fn error_with_test_above() -> Result<(), String> {
        if is_asked_to_fail() { Err("the words of the body".to_owned()) } else { Ok(()) }
    }

    #[timeout(60)]
    #[test]
    fn error_with_test_below() -> Result<(), String> {
        if is_asked_to_fail() { Err("the words of the body".to_owned()) } else { Ok(()) }
    }

    #[test]
    #[timeout(60, flatten)]
    fn panics_flattened_with_test_above() -> Result<(), Box<dyn std::error::Error>> {
        panic_if_asked();
        Ok(())
    }

    #[timeout(60, flatten)]
    #[test]
    fn error_flattened_with_test_below() -> std::io::Result<()> {
        if is_asked_to_fail() { Err(std::io::Error::other("the words of the body")) } else { Ok(()) }
    }

    #[tokio::test]
    #[timeout(60)]
    async fn panics_with_tokio_above() {
        panic_if_asked();
    }

    #[timeout(60)]
    #[tokio::test]
    async fn panics_with_tokio_below() {
        panic_if_asked();
    }

    #[test]
    #[timeout(2)]
    fn late_with_test_above() {
        if is_asked_to_fail() {
            thread::sleep(Duration::from_secs(600));
        }
    }

    #[timeout(2)]
    #[tokio::test]
    async fn late_with_tokio_below() {
        // Never gives the executor a chance.
        if is_asked_to_fail() {
            thread::sleep(Duration::from_secs(600));
        }
    }
}

/// Asks a test of this file to fail.
const FAIL: &str = "TIMEOUT_TEST_FAIL";

fn is_asked_to_fail() -> bool {
    env::var_os(FAIL).is_some()
}

/// Where the tests panic that panic.
const PLACE: (&str, u32) = (file!(), line!() + 4);

fn panic_if_asked() {
    if is_asked_to_fail() {
        panic!("the words of the body");
    }
}

/// Runs one test of this file in a harness of its own, and asks it to fail.
fn run(test: &str) -> Output {
    let mut harness = Command::new(env::current_exe().expect("the path of this test"));
    harness.args(["--exact", &format!("failing::{test}")]).env(FAIL, "1").output().expect("this test can be started")
}

#[test]
fn a_failing_test_says_why() {
    for (test, words) in [
        ("panics_with_test_above", "the words of the body"),
        ("panics_with_test_below", "the words of the body"),
        ("error_with_test_above", "the words of the body"),
        ("error_with_test_below", "the words of the body"),
        ("panics_flattened_with_test_above", "the words of the body"),
        ("error_flattened_with_test_below", "the words of the body"),
        ("panics_with_tokio_above", "the words of the body"),
        ("panics_with_tokio_below", "the words of the body"),
        ("late_with_test_above", "did not return within"),
        ("late_with_tokio_below", "did not return within"),
    ] {
        let output = run(test);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("1 failed"), "{test}: {text}");
        assert!(text.contains(words), "{test}: {text}");
        let (file, line) = PLACE;
        let tells_place = text.contains(&format!(" at {file}:{line}:"));
        assert_eq!(tells_place, test.starts_with("panics_"), "{test}: {text}");
    }
}

common::whole_file::leaves_no_process!();

mod common;
