//! The same calls in an example.

fn main() {
    consumer_served::check();
    println!("served");
}
