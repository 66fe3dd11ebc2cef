//! Names for addresses, and the only place that knows where they come from.
//!
//! With the feature `symbols` that is the program's own debug information, as far as there is any: function, file and
//! line; names alone in a plain release build; nothing in a stripped one. The first look parses it, which takes some
//! hundred milliseconds in a large program.

/// What stands at an address. Where functions were merged into each other, there are several: the innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) function: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
    pub(crate) column: Option<u32>,
}

/// Looks an address inside an instruction up.
#[cfg(feature = "symbols")]
pub(crate) fn resolve(address: u64) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    // It takes what it is given for the address behind a call.
    let behind = usize::try_from(address).unwrap_or(0).wrapping_add(1);
    backtrace::resolve(std::ptr::without_provenance_mut(behind), |symbol| {
        symbols.push(Symbol {
            function: symbol.name().map(|name| format!("{name:#}")),
            file: symbol.filename().map(|file| file.to_string_lossy().into_owned()),
            line: symbol.lineno(),
            column: symbol.colno(),
        });
    });
    symbols
}

#[cfg(not(feature = "symbols"))]
pub(crate) fn resolve(_address: u64) -> Vec<Symbol> {
    Vec::new()
}

#[cfg(all(test, feature = "symbols"))]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_by_an_address_in_it() {
        let frames = crate::sys::unwind::here();
        let names: Vec<_> = frames.as_slice().iter().flat_map(|address| resolve(*address)).collect();
        let this = names.iter().find(|symbol| {
            symbol.function.as_ref().is_some_and(|name| name.contains("a_function_is_found_by_an_address_in_it"))
        });
        assert!(this.is_some_and(|symbol| symbol.file.as_ref().is_some_and(|file| file.ends_with("symbols.rs"))));
        assert_eq!(resolve(1), []);
    }
}
