use timeout_runtime::timeout;

#[timeout(2, grace = 1, panic = "resume", grace = 2)]
fn twice() {}

fn main() {}
