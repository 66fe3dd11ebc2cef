//! t
use std::io;
use timeout_runtime::timeout;
#[timeout(5)]
fn f() -> io::Result<u32> { Err(io::Error::from_raw_os_error(2)) }
#[timeout(5, flatten)]
fn g() -> io::Result<u32> { loop {} }
#[timeout(5, flatten)]
fn h(n: &mut u32) -> anyhow::Result<u32> { *n += 1; use anyhow::Context; std::fs::read("/nonexistent").context("ctx")?; Ok(1) }
#[test]
fn t() {
    println!("{:?}", f());
    println!("{:?}", g());
    let mut n = 1;
    println!("{:?}", h(&mut n));
    println!("{}", n);
}
