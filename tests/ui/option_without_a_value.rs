use timeout_runtime::timeout;

#[timeout(2, grace)]
fn grace() {}

#[timeout(2, panic =, start, memory, cpu =, crate)]
fn others() {}

fn main() {}
