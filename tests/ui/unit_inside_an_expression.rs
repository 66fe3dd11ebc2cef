use timeout_runtime::timeout;

const FACTOR: u32 = 2;

#[timeout(250ms * FACTOR)]
fn product() {}

fn main() {}
