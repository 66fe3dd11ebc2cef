use timeout_runtime::timeout;

struct Plain;

impl Plain {
    #[timeout(2)]
    fn method(&mut self) {}
}

#[timeout(2)]
fn argument(_plain: &mut Plain) {}

#[timeout(2)]
fn generic(_out: &mut impl Clone) {}

fn main() {}
