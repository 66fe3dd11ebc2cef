//! Fails in every way that leaves a trace, and prints one line for each.
#![forbid(unsafe_code)]

use std::{
    hint::black_box,
    io::{self, Read},
    sync::Mutex,
};

use timeout_runtime::{TimedOut, timeout};

#[inline(never)]
fn sieve() -> u64 {
    let mut count = 0u64;
    loop {
        count = black_box(count + 1);
    }
}

#[timeout(1)]
fn spin() -> u64 {
    sieve()
}

static STOCK: Mutex<u32> = Mutex::new(0);

#[inline(never)]
fn restock() -> u32 {
    *STOCK.lock().unwrap()
}

#[timeout(1)]
fn lock() -> u32 {
    let _stock = STOCK.lock();
    restock()
}

#[inline(never)]
fn wait_for_byte(from: &mut impl Read) -> bool {
    from.read_exact(&mut [0]).is_ok()
}

#[timeout(1)]
fn read() -> bool {
    let (mut reader, _writer) = io::pipe().unwrap();
    wait_for_byte(&mut reader)
}

#[timeout(50)]
fn outer() -> u64 {
    spin().unwrap()
}

#[timeout(1)]
fn nested() -> u64 {
    #[timeout(50)]
    fn inner() -> u64 {
        sieve()
    }
    inner().unwrap()
}

#[inline(never)]
fn give_up() {
    std::process::abort()
}

#[timeout(50)]
fn abort() {
    give_up()
}

#[inline(never)]
fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == u64::MAX { 0 } else { descend(depth + 1) + frame[7] }
}

#[timeout(50)]
fn overflow() -> u64 {
    descend(0)
}

#[inline(never)]
fn ask_for_too_much() -> usize {
    black_box(vec![1u8; 1 << 46]).len()
}

#[timeout(50)]
fn memory() -> usize {
    ask_for_too_much()
}

#[inline(never)]
fn index(list: &[u32]) -> u32 {
    list[black_box(7)]
}

#[timeout(50)]
fn panic() -> u32 {
    index(&[1, 2, 3])
}

#[timeout(50)]
fn panic_elsewhere() {
    let _ = std::thread::Builder::new().name("elsewhere".into()).spawn(|| index(&[4])).unwrap().join();
    panic!("the thread has panicked, and nobody minded")
}

#[inline(never)]
fn nap(seconds: u64) -> u64 {
    std::thread::sleep(std::time::Duration::from_secs(seconds));
    // Not to be merged into what calls it.
    black_box(seconds)
}

#[timeout(0.3)]
fn sleep() -> u64 {
    nap(60) + nap(61)
}

#[inline(never)]
fn hoard() -> usize {
    let mut length = 0;
    loop {
        length = black_box(vec![0u8; length % 4096 + 1]).len();
    }
}

#[timeout(0.3)]
fn allocate() -> usize {
    hoard()
}

#[inline(never)]
fn sink(depth: u32) -> u64 {
    let count = if depth == 0 { sieve() } else { sink(depth - 1) };
    // Not the last thing that it does: a call in its place would have no frame.
    black_box(count) + u64::from(depth)
}

#[timeout(0.3)]
fn recurse() -> u64 {
    sink(5000)
}

#[inline(never)]
fn wait_for(thread: std::thread::JoinHandle<u64>) -> u64 {
    thread.join().unwrap()
}

#[timeout(0.3)]
fn second_thread() -> u64 {
    wait_for(std::thread::spawn(sieve))
}

fn tell(name: &str, result: Result<(), TimedOut>) {
    let error = result.expect_err("none of these can return");
    let backtrace = error.backtrace().map(|backtrace| backtrace.to_string().replace('\n', " ")).unwrap_or_default();
    println!("{name}: {error} | {backtrace}");
}

fn main() {
    tell("spin", spin().map(drop));
    tell("lock", lock().map(drop));
    tell("read", read().map(drop));
    tell("nested", nested().map(drop));
    tell("sleep", sleep().map(drop));
    tell("allocate", allocate().map(drop));
    tell("recurse", recurse().map(drop));
    tell("second thread", second_thread().map(drop));
    tell("abort", abort());
    tell("overflow", overflow().map(drop));
    tell("memory", memory().map(drop));
    tell("panic", panic().map(drop));
    tell("panic elsewhere", panic_elsewhere());
    tell("panic of an inner failure", outer().map(drop));
}
