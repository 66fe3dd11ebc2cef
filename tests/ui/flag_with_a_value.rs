use timeout_runtime::timeout;

#[timeout(2, flatten = true)]
fn value() -> Result<u32, std::io::Error> {
    Ok(1)
}

fn main() {}
