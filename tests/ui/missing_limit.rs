use timeout_runtime::timeout;

#[timeout]
fn bare() {}

#[timeout()]
fn empty() {}

#[timeout(grace = 1)]
fn only_options() {}

#[timeout(async)]
fn only_a_flag() {}

fn main() {}
