//! The attribute through a renamed dependency, in the 2021 edition, in a crate that forbids `unsafe`.
#![forbid(unsafe_code)]
#![deny(warnings)]

use deadline::{timeout, TimedOut};

/// A crate of its own that passes the attribute on under its own roof.
pub mod reexport {
    pub use deadline as hidden;
}

#[timeout(60, crate = deadline)]
pub fn by_name(text: &str) -> usize {
    text.len()
}

#[timeout(60, crate = ::deadline)]
pub fn by_absolute_path(list: &mut Vec<u8>) -> usize {
    list.push(1);
    list.len()
}

#[timeout(60, crate = crate::reexport::hidden)]
pub fn through_a_reexport(n: u64) -> Result<u64, String> {
    n.checked_mul(2).ok_or_else(|| "too much".to_owned())
}

#[timeout(60, crate = deadline)]
pub fn io(path: &str) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

#[timeout(60, flatten, crate = crate::reexport::hidden)]
pub fn flat(path: &str) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

#[deadline::timeout(60, crate = deadline)]
pub fn never() -> ! {
    panic!("on purpose")
}

/// The error under its usual name.
pub fn fails() -> Result<(), TimedOut> {
    #[timeout(60, crate = deadline)]
    fn inner() {
        panic!("on purpose")
    }
    inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_to_the_runtime() {
        assert_eq!(by_name("abc").unwrap(), 3);
        let mut list = vec![];
        assert_eq!(by_absolute_path(&mut list).unwrap(), 1);
        assert_eq!(list, [1]);
        assert_eq!(through_a_reexport(2).unwrap(), Ok(4));
        assert_eq!(io("/no/such/file").unwrap().unwrap_err().raw_os_error(), Some(2));
        assert_eq!(flat("/no/such/file").unwrap_err().raw_os_error(), Some(2));
        assert!(never().unwrap_err().is_panic());
        assert!(fails().unwrap_err().is_panic());
    }

    #[timeout(60, crate = deadline)]
    #[test]
    fn a_test_below() {}

    #[test]
    #[timeout(60, crate = deadline)]
    fn a_test_above() {}
}
