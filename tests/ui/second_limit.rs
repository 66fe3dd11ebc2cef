use timeout_runtime::timeout;

#[timeout(2, 3)]
fn twice() {}

#[timeout(2, grace(1))]
fn option_as_a_call() {}

fn main() {}
