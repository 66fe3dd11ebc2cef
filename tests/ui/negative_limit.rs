use timeout_runtime::timeout;

#[timeout(-1)]
fn seconds() {}

#[timeout(-1.5s)]
fn with_a_unit() {}

#[timeout("-5s")]
fn text() {}

fn main() {}
