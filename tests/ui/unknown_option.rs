use timeout_runtime::timeout;

#[timeout(2, grase = 1)]
fn mistyped() {}

#[timeout(2, retries = 3)]
fn not_ours() {}

#[timeout(2, verbose)]
fn flag() {}

fn main() {}
