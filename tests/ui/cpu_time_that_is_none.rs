use timeout_runtime::timeout;

#[timeout(2, cpu = 0)]
fn zero() {}

#[timeout(2, cpu = -0.5)]
fn negative() {}

#[timeout(2, cpu = 5sec)]
fn unknown_unit() {}

#[timeout(2, cpu = "400d 400d 400y")]
fn unknown_unit_in_a_text() {}

#[timeout(2, cpu = 1000000d)]
fn too_long() {}

#[timeout(2, cpu = "5MiB")]
fn no_time() {}

fn main() {}
