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
fn a_server_is_no_child_of_its_host() {
    consumer_served::say("").unwrap();
    assert!(consumer_served::servers() > 0);
    assert!(!consumer_served::has_children());
}
