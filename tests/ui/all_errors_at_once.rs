use timeout_runtime::timeout;

#[timeout(0, grase = 1, panic = "abort", memory = "1GiB", grace = 5sec)]
const extern "C" fn everything(count: Option<&mut u32>, (left, _): &mut (u32, u32)) -> Option<&'static str> {
    None
}

fn main() {}
