//! The same calls in tests, beside each other.

#[test]
fn calls_are_served() {
    consumer_served::check();
}

#[test]
fn calls_are_served_beside_others() {
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(consumer_served::check);
        }
    });
}

#[test]
fn a_test_that_makes_no_call_has_no_child() {
    assert_eq!(std::fs::read_to_string("/proc/thread-self/children").unwrap(), "");
}
