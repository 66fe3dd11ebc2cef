use timeout_runtime::timeout;

#[timeout(limit)]
fn text(limit: &str) {
    drop(limit);
}

#[timeout(2, grace = None::<u32>)]
fn option() {}

fn main() {}
