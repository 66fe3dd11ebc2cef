use timeout_runtime::timeout;

#[timeout(2, flatten)]
fn nothing() {}

#[timeout(2, flatten)]
fn number() -> u32 {
    1
}

#[timeout(2, flatten)]
fn never() -> ! {
    loop {}
}

#[timeout(2, flatten)]
fn pair() -> (u32, Result<u32, String>) {
    (1, Ok(2))
}

#[timeout(2, error = text)]
fn option() -> Option<u32> {
    None
}

#[timeout(2, error = text, flatten)]
fn unit() {}

fn main() {}
