use timeout_runtime::timeout;

#[timeout(2)]
fn wrong_type() -> u32 {
    "text"
}

#[timeout(2)]
fn moved(text: String) -> String {
    drop(text);
    text
}

#[timeout(2)]
fn unknown_type() -> Unknown {
    todo!()
}

fn main() {}
