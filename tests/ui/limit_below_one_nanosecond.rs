use timeout_runtime::timeout;

#[timeout(0.5ns)]
fn with_a_unit() {}

#[timeout(1e-10)]
fn seconds() {}

fn main() {}
