use timeout_runtime::timeout;

#[timeout(2)]
const fn answer() -> u32 {
    42
}

fn main() {}
