use timeout_runtime::timeout;

use std::path::Path;

#[timeout(2)]
fn text(text: &str) -> &str {
    text
}

#[timeout(2)]
fn inside(bytes: &[u8]) -> Option<(&[u8], usize)> {
    Some((bytes, bytes.len()))
}

#[timeout(2)]
fn path<'a>(path: &'a Path) -> Result<&'a Path, String> {
    Ok(path)
}

#[timeout(2)]
fn any<T>(value: &T) -> &T {
    value
}

fn main() {}
