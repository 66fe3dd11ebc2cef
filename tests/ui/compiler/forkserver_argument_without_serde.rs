use timeout_runtime::timeout;

struct Plain;

#[timeout(2, start = forkserver)]
fn by_value(first: u8, second: Plain) {}

#[timeout(2, start = forkserver)]
fn borrowed(plain: &Plain) {}

#[timeout(2, start = forkserver)]
fn generic<T>(value: T) {}

impl Plain {
    #[timeout(2, start = forkserver)]
    fn method(&self) {}
}

fn main() {}
