use timeout_runtime::timeout;

#[timeout(2)]
pub extern "C" fn callback(value: u32) -> u32 {
    value
}

fn main() {}
