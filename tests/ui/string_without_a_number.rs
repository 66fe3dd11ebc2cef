use timeout_runtime::timeout;

#[timeout("soon")]
fn word() {}

#[timeout("1m, 30s")]
fn comma() {}

fn main() {}
