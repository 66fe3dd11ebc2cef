use timeout_runtime::timeout;

#[timeout(2, memory = "256MiB", cpu = 1, async, each = 1, latest)]
fn later() {}


fn main() {}
