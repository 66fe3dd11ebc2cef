use timeout_runtime::timeout;

#[timeout(grace = 1, 2)]
fn behind() {}

fn main() {}
