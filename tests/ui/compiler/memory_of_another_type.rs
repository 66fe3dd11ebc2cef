use timeout_runtime::timeout;

const MEMORY: usize = 256 << 20;

#[timeout(2, memory = MEMORY)]
fn number_of_another_type() {}

fn main() {}
