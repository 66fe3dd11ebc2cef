use timeout_runtime::timeout;

#[timeout(2)]
pub struct Structure;

#[timeout(2)]
impl Structure {
    fn method(&self) {}
}

#[timeout(2)]
trait Solver {}

#[timeout(2)]
const LIMIT: u32 = 2;

fn main() {}
