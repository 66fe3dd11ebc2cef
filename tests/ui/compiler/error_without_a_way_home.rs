use timeout_runtime::timeout;

#[derive(Debug)]
struct Own;

struct Plain;

#[timeout(2)]
fn own() -> Result<u32, Own> {
    Ok(1)
}

#[timeout(2)]
fn of_another_crate() -> Result<u32, std::num::ParseIntError> {
    Ok(1)
}

#[timeout(2, flatten)]
fn of_a_failed_call() -> Result<u32, timeout_runtime::TimedOut> {
    Ok(1)
}

#[timeout(2)]
fn generic<E>(error: E) -> Result<u32, E> {
    Err(error)
}

#[timeout(2)]
fn inside() -> Vec<Result<u32, Own>> {
    vec![Err(Own)]
}

#[timeout(2)]
fn value_without_serde() -> Result<Plain, std::io::Error> {
    Ok(Plain)
}

fn main() {}
