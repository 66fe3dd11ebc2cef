use timeout_runtime::timeout;

struct Plain;

#[timeout(2)]
fn plain() -> Plain {
    Plain
}

#[timeout(2)]
fn inside() -> Vec<Option<Plain>> {
    Vec::new()
}

#[timeout(2)]
fn generic<T: Clone>(value: &T) -> T {
    value.clone()
}

fn main() {}
