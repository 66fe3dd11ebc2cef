//! Every way a body can fail is a value in the caller, and each is told apart.
//!
//! `cargo run --example crash`
#![expect(unsafe_code, reason = "a null pointer is followed on purpose")]

use std::{ffi::CStr, hint::black_box, process, ptr, thread, time::Duration};

use timeout_runtime::{Reason, TimedOut, timeout};

#[timeout(2)]
fn follow_null() -> usize {
    // SAFETY: none, and that is the point: C code that is handed a null pointer does the same.
    unsafe { CStr::from_ptr(black_box(ptr::null())) }.count_bytes()
}

#[timeout(2)]
fn overflow_the_stack() -> u64 {
    fn deeper(depth: u64) -> u64 {
        if black_box(depth) == u64::MAX { 0 } else { 1 + black_box(deeper(depth + 1)) }
    }
    deeper(0)
}

#[timeout(2)]
fn panic() -> u32 {
    let stock: [u32; 3] = [1, 2, 3];
    stock[black_box(7)]
}

#[timeout(2)]
fn exit() {
    process::exit(3)
}

#[timeout(2)]
fn abort() {
    process::abort()
}

#[timeout(0.2)]
fn hang() {
    thread::sleep(Duration::MAX);
}

#[timeout(2)]
fn succeed() -> u32 {
    42
}

/// What a program would decide by.
fn kind(error: &TimedOut) -> String {
    match error.reason() {
        Reason::Late { .. } => "late".into(),
        Reason::Panicked { .. } => "panic".into(),
        Reason::Crashed { stack_overflow: true, .. } => "stack overflow".into(),
        Reason::Crashed { signal, address: Some(address), .. } => format!("signal {signal} at address {address}"),
        Reason::Crashed { signal, .. } => format!("signal {signal}"),
        Reason::Exited { code, .. } => format!("exit with code {code}"),
        other => format!("{other:?}"),
    }
}

fn main() {
    let failures = [
        (follow_null().map(drop), "signal 11 at address 0"),
        (overflow_the_stack().map(drop), "stack overflow"),
        (panic().map(drop), "panic"),
        (exit(), "exit with code 3"),
        (abort(), "signal 6"),
        (hang(), "late"),
    ];
    for (result, expected) in failures {
        let error = result.expect_err("none of these can return");
        println!("{:24}{error}", kind(&error));
        assert_eq!(kind(&error), expected);
    }
    println!("{:24}{:?}, as if nothing had happened", "and a good body gives", succeed());
}
