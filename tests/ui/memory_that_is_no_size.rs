use timeout_runtime::timeout;

#[timeout(2, memory = true)]
fn boolean() {}

#[timeout(2, memory = 1e9)]
fn exponent() {}

#[timeout(2, memory = "")]
fn empty() {}

#[timeout(2, memory = "much")]
fn word() {}

#[timeout(2, memory = "256")]
fn without_a_unit() {}

#[timeout(2, memory = 2 * 128MiB)]
fn unit_inside_an_expression() {}

#[timeout(2, memory = "1GiB 512MiB")]
fn sum() {}

fn main() {}
