use timeout_runtime::timeout;

use std::{error, io};

#[timeout(2)]
fn io_error() -> Result<u32, io::Error> {
    Ok(1)
}

#[timeout(2)]
fn io_result() -> std::io::Result<u32> {
    Ok(1)
}

#[timeout(2)]
fn boxed() -> Result<u32, Box<dyn error::Error + Send + Sync>> {
    Ok(1)
}

#[timeout(2)]
fn of_another_name() -> Result<u32, std::num::ParseIntError> {
    Ok(1)
}

fn main() {}
