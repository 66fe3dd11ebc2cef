use timeout_runtime::timeout;

#[timeout(0)]
fn seconds() {}

#[timeout(0.0ms)]
fn with_a_unit() {}

#[timeout("0m 0s")]
fn text() {}

#[timeout(2, grace = 0)]
fn grace() {}

fn main() {}
