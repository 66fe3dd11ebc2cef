use timeout_runtime::timeout;

#[timeout(2, crate = "my::timeout")]
fn text() {}

#[timeout(2, crate = 5)]
fn number() {}

fn main() {}
