use timeout_runtime::timeout;

#[timeout(2, start = forkserver)]
fn object(report: &dyn std::fmt::Debug) {}

#[timeout(2, start = forkserver)]
fn boxed(report: Box<dyn Fn()>, pointer: *const u8) {}

#[timeout(2, start = forkserver)]
fn closure(then: impl Fn(u8) -> u8, function: fn()) {}

// With the other method all of it goes.
#[timeout(2, start = fork)]
fn by_fork(report: &dyn std::fmt::Debug, then: impl Fn(u8) -> u8, function: fn()) {}

fn main() {}
