use timeout_runtime::timeout;

#[timeout(limit = 2)]
fn limit() {}

#[timeout(grace = 1, secs = 2.5)]
fn secs() {}

fn main() {}
