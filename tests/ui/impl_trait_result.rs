use timeout_runtime::timeout;

#[timeout(2)]
fn numbers() -> impl Iterator<Item = u32> {
    0..3
}

#[timeout(2)]
fn named() -> Option<impl Clone> {
    Some(1)
}

fn main() {}
