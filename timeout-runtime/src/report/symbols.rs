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
    let mut symbols = look_up(address);
    if let Some(innermost) = symbols.first_mut() {
        innermost.find_line(address, look_up);
    }
    symbols
}

#[cfg(feature = "symbols")]
impl Symbol {
    /// An instruction that stands for nothing in the source has a file and no line (DWARF calls it line 0), in the middle
    /// of a function that has. It belongs to what was done just before it.
    fn find_line(&mut self, address: u64, look_up: impl Fn(u64) -> Vec<Symbol>) {
        const REACH: u64 = 64;
        if self.file.is_none() || self.line.is_some() {
            return;
        }
        let before = (1..=REACH).map_while(|step| address.checked_sub(step)).flat_map(look_up);
        if let Some(near) = before.into_iter().find(|near| near.function == self.function && near.line.is_some()) {
            *self = near;
        }
    }
}

#[cfg(feature = "symbols")]
fn look_up(address: u64) -> Vec<Symbol> {
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

    #[test]
    fn code_of_no_line_is_told_by_the_line_before_it() {
        let at = |line| Symbol { function: Some("body".into()), file: Some("a.rs".into()), line, column: None };
        let inlined = Symbol { function: Some("inlined".into()), ..at(Some(1)) };
        // Seven bytes at the end of a function, behind something that was inlined into it; another function before it.
        let code = |address: u64| match address {
            101..=104 => vec![inlined.clone(), at(Some(7))],
            105..=111 => vec![at(None)],
            _ => vec![inlined.clone()],
        };
        let found = |mut symbol: Symbol, address| {
            symbol.find_line(address, code);
            symbol.line
        };
        assert_eq!(found(at(None), 111), Some(7));
        assert_eq!(found(at(Some(3)), 111), Some(3));
        // Nothing is known of a function that is merely near, nor of one without debug information.
        assert_eq!(found(at(None), 100), None);
        assert_eq!(found(Symbol { file: None, ..at(None) }, 111), None);
        assert_eq!(found(at(None), 0), None);
    }
}
