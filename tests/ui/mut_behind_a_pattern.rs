use timeout_runtime::timeout;

#[timeout(2)]
fn pair((left, right): &mut (u32, u32)) {
    std::mem::swap(left, right);
}

#[timeout(2)]
fn copied(&mut value: &mut u32) -> u32 {
    value
}

fn main() {}
