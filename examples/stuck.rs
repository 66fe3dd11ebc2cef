//! Three ways to hang, and where each one hung.
//!
//! `cargo run --example stuck`

use std::{
    hint,
    io::{self, Read},
    sync::Mutex,
};

use timeout_runtime::{Reason, TimedOut, timeout};

/// Never comes to an end.
#[inline(never)] // a function merged into its caller has a name only with debug information
fn count_for_ever() -> u64 {
    let mut count = 0u64;
    loop {
        count = hint::black_box(count + 1);
    }
}

#[timeout(0.3)]
fn spin() -> u64 {
    count_for_ever()
}

static STOCK: Mutex<u32> = Mutex::new(0);

/// Takes a lock that its caller holds.
#[inline(never)]
fn restock() -> u32 {
    *STOCK.lock().unwrap()
}

#[timeout(0.3)]
fn lock() -> u32 {
    let _stock = STOCK.lock();
    restock()
}

/// Waits for a byte that nobody writes.
#[inline(never)]
fn wait_for_byte(from: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    from.read_exact(&mut byte).map(|()| byte[0])
}

#[timeout(0.3)]
fn read() -> bool {
    let (mut reader, _writer) = io::pipe().unwrap();
    wait_for_byte(&mut reader).is_ok()
}

fn main() {
    let failures: [(Result<(), TimedOut>, &str); 3] =
        [(spin().map(drop), "count_for_ever"), (lock().map(drop), "restock"), (read().map(drop), "wait_for_byte")];
    for (result, function) in failures {
        let error = result.expect_err("none of these can return");
        println!("{error}\n");
        let Reason::Late { stuck_at, .. } = error.reason() else { panic!("{error}") };
        let named = stuck_at.frames().iter().filter_map(|frame| frame.function()).any(|name| name.ends_with(function));
        // A stripped program has no names.
        assert!(named || stuck_at.frames().iter().all(|frame| frame.function().is_none()), "{stuck_at}");
    }
    println!("all of the last one's calls:\n{}", read().map_err(|error| backtrace(&error)).unwrap_err());
}

fn backtrace(error: &TimedOut) -> String {
    match error.reason() {
        Reason::Late { stuck_at, .. } => stuck_at.to_string(),
        other => format!("{other:?}"),
    }
}
