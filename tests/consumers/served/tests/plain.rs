//! The same calls in a test without a harness, which knows nothing of what it is told.

fn main() {
    consumer_served::check();
    println!("served");
}
