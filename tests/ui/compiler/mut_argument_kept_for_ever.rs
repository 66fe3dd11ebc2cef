use timeout_runtime::timeout;

#[timeout(2)]
fn keep(list: &mut Vec<u8>) {
    let _for_ever: &'static mut Vec<u8> = list;
}

fn main() {}
