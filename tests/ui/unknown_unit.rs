use timeout_runtime::timeout;

#[timeout(5sec)]
fn another_name() {}

#[timeout(250mss)]
fn mistyped() {}

#[timeout("2 weeks")]
fn no_unit_of_ours() {}

fn main() {}
