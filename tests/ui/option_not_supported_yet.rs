use timeout_runtime::timeout;

#[timeout(2, async, each = 1, latest)]
fn later() {}


fn main() {}
