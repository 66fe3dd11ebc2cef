use timeout_runtime::timeout;

#[timeout("30")]
fn alone() {}

#[timeout("1m 30")]
fn at_the_end() {}

fn main() {}
