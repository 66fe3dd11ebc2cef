use timeout_runtime::timeout;

#[timeout(10_000_000_000)]
fn seconds() {}

#[timeout(110_000d)]
fn days() {}

#[timeout(2, grace = "5000000h")]
fn grace() {}

fn main() {}
