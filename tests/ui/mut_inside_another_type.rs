use timeout_runtime::timeout;

use std::pin::Pin;

struct Machine;

impl Machine {
    #[timeout(2)]
    fn step(self: Pin<&mut Self>) {}
}

#[timeout(2)]
fn optional(count: Option<&mut u32>) {
    drop(count);
}

#[timeout(2)]
fn pair(pair: (u8, &mut [u8])) {
    drop(pair);
}

#[timeout(2)]
fn behind_another(list: &mut Vec<&mut u32>) {
    list.clear();
}

#[timeout(2)]
fn items<'a>(items: impl Iterator<Item = &'a mut u32>) {
    items.for_each(|item| *item = 0);
}

#[timeout(2)]
fn generic_items<'a, I: Iterator<Item = &'a mut u32>>(items: I) {
    items.for_each(|item| *item = 0);
}

#[timeout(2)]
fn only_a_signature(change: impl Fn(&mut u32), pointer: fn(&mut u32)) {
    change(&mut 0);
    pointer(&mut 0);
}

fn main() {}
