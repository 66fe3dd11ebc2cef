use timeout_runtime::timeout;

#[timeout(2, error = "text")]
fn a_string() -> Result<u32, String> {
    Ok(1)
}

#[timeout(2, error = io::Error)]
fn a_type() -> Result<u32, String> {
    Ok(1)
}

#[timeout(2, error)]
fn no_value() -> Result<u32, String> {
    Ok(1)
}

fn main() {}
