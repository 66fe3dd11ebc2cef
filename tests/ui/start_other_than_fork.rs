use timeout_runtime::timeout;

#[timeout(2, start = spawn)]
fn other_word() {}

#[timeout(2, start = auto)]
fn chosen_for_me() {}

#[timeout(2, start = "fork")]
fn text() {}

fn main() {}
