use timeout_runtime::timeout;

#[timeout(2, memory = 256mb)]
fn small_letters() {}

#[timeout(2, memory = "256M")]
fn without_bytes() {}

#[timeout(2, memory = "3 pages")]
fn no_unit_of_ours() {}

fn main() {}
