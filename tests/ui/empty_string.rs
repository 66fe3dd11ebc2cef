use timeout_runtime::timeout;

#[timeout("")]
fn empty() {}

#[timeout(2, grace = " ")]
fn blank() {}

fn main() {}
