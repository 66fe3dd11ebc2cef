//! Makes the calls of the library, or none, as it is told.
#![forbid(unsafe_code)]

fn main() {
    match std::env::args().nth(1).as_deref() {
        // Nothing of the runtime is used: it must not be noticed.
        Some("idle") => println!("{:?}", consumer_served::belongings()),
        Some("used") => {
            consumer_served::check();
            println!("{:?}", consumer_served::belongings());
        }
        _ => {
            std::env::set_current_dir("/").unwrap();
            // Half a line each: whoever prints next must not overtake.
            print!("before, ");
            consumer_served::say("inside, ").unwrap();
            print!("between, ");
            consumer_served::say("inside again, ").unwrap();
            consumer_served::check();
            println!("served");
        }
    }
}
