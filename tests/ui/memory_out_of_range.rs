use timeout_runtime::timeout;

#[timeout(2, memory = 0)]
fn zero() {}

#[timeout(2, memory = "-1MiB")]
fn negative() {}

#[timeout(2, memory = -1)]
fn negative_number() {}

#[timeout(2, memory = 256)]
fn forgotten_unit() {}

#[timeout(2, memory = "1000TiB")]
fn too_large() {}

fn main() {}
