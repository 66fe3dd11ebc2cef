use timeout_runtime::timeout;

#[derive(Debug)]
struct Own;

type Alias = Option<u32>;

#[timeout(2, error = text)]
fn not_made_from_text() -> Result<u32, Own> {
    Ok(1)
}

#[timeout(2, error = text)]
fn no_result() -> Alias {
    Some(1)
}

fn main() {}
