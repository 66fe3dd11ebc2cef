use timeout_runtime::timeout;

type Alias = Option<u32>;

#[timeout(2, flatten)]
fn no_result() -> Alias {
    Some(1)
}

#[timeout(2, flatten)]
fn no_place_for_a_failure() -> Result<u32, String> {
    Ok(1)
}

#[timeout(2, flatten)]
fn generic<E: serde::Serialize + serde::de::DeserializeOwned>(error: E) -> Result<u32, E> {
    Err(error)
}

fn main() {}
