#![deny(unused)]

use timeout_runtime::timeout;

#[timeout(2)]
fn nobody_calls_this() {}

#[timeout(2)]
fn nobody_reads_these(by_value: u8, list: &mut Vec<u8>) {
    let local = 1;
}

pub fn nobody_looks_at_the_result() {
    drop(nobody_reads_these(1, &mut vec![]));
    #[timeout(2)]
    fn called() {}
    called();
}

fn main() {}
