use timeout_runtime::timeout;

#[timeout(2)]
async fn fetch() -> u32 {
    42
}

fn main() {}
