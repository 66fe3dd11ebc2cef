use timeout_runtime::timeout;

#[timeout(true)]
fn boolean() {}

#[timeout('5')]
fn character() {}

#[timeout(b"5s")]
fn bytes() {}

fn main() {}
