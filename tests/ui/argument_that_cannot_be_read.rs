use timeout_runtime::timeout;

#[timeout(2, grace = [1 2], panic = "continue")]
fn the_next_one_is_read() {}

#[timeout(2 3)]
fn no_comma() {}

fn main() {}
