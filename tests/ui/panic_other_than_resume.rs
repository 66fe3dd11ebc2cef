use timeout_runtime::timeout;

#[timeout(2, panic = "abort")]
fn other_text() {}

#[timeout(2, panic = resume)]
fn no_text() {}

fn main() {}
