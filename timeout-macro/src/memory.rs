//! Reads an amount of memory that is written out in the attribute and folds it into an exact number of bytes.
//!
//! No floats, as with limits. Parts of a byte are rounded up.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Expr, Lit, UnOp};

use crate::duration::{NUMBER_TYPES, is_number};

/// The units, with their sizes in bytes. The order is the one in which messages list them.
const UNITS: [(&str, u128); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// What people write when they mean one of the units, in small letters.
const OTHER_NAMES: [(&str, &[&str]); 9] = [
    ("B", &["byte", "bytes"]),
    ("KiB", &["k", "ki", "kibibyte", "kibibytes"]),
    ("MiB", &["m", "mi", "mebibyte", "mebibytes"]),
    ("GiB", &["g", "gi", "gibibyte", "gibibytes"]),
    ("TiB", &["t", "ti", "tebibyte", "tebibytes"]),
    ("kB", &["kilobyte", "kilobytes"]),
    ("MB", &["megabyte", "megabytes"]),
    ("GB", &["gigabyte", "gigabytes"]),
    ("TB", &["terabyte", "terabytes"]),
];

/// One page. Less is more likely a forgotten unit than a wish.
const LEAST: u128 = 4 << 10;

/// What a process can address on the usual machines. More is more likely a slip of the unit.
const MOST: u128 = 128 << 40;

/// What stands where an amount of memory is expected.
pub(crate) enum Reading {
    /// A literal, folded.
    Bytes(u64),
    /// Anything else: its value is known when the function is called.
    Expression,
}

/// Why something that is written out is not an amount of memory, and on which token.
pub(crate) struct Fault {
    pub(crate) token: TokenStream,
    pub(crate) kind: FaultKind,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    Zero,
    Negative,
    TooLittle,
    TooMuch,
    UnknownUnit { unit: String, meant: Option<&'static str> },
    MissingUnit { number: String },
    MissingNumber { text: String },
    Empty,
    NotASize { found: String },
    UnitInExpression { literal: String },
}

/// Reads `expr` as an amount of memory.
pub(crate) fn read(expr: &Expr) -> Result<Reading, Fault> {
    match expr {
        // `$memory:expr` of a `macro_rules!` comes in a group that nobody sees.
        Expr::Group(group) => read(&group.expr),
        Expr::Paren(paren) => read(&paren.expr),
        Expr::Lit(literal) => bytes(&literal.lit)
            .and_then(in_range)
            .map(Reading::Bytes)
            .map_err(|kind| Fault { token: literal.to_token_stream(), kind }),
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) && is_number(&unary.expr) => {
            Err(Fault { token: expr.to_token_stream(), kind: FaultKind::Negative })
        }
        _ => no_units_inside(expr).map(|()| Reading::Expression),
    }
}

fn bytes(literal: &Lit) -> Result<u128, FaultKind> {
    match literal {
        Lit::Int(number) => number_with_suffix(number.base10_digits(), number.suffix()),
        Lit::Float(number) => number_with_suffix(number.base10_digits(), number.suffix()),
        Lit::Str(text) => number_with_unit(&text.value()),
        other => Err(FaultKind::NotASize { found: other.to_token_stream().to_string() }),
    }
}

fn number_with_suffix(digits: &str, suffix: &str) -> Result<u128, FaultKind> {
    let is_bare = suffix.is_empty() || NUMBER_TYPES.contains(&suffix);
    scale(digits, if is_bare { 1 } else { unit(suffix)? })
}

/// Reads `1.5 GiB`, with or without the blank.
fn number_with_unit(text: &str) -> Result<u128, FaultKind> {
    let text = text.trim();
    if text.is_empty() {
        return Err(FaultKind::Empty);
    }
    if text.starts_with('-') {
        return Err(FaultKind::Negative);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, name) = text.split_at(end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
        return Err(FaultKind::MissingNumber { text: text.to_owned() });
    }
    match name.trim() {
        more if more.contains(|c: char| !c.is_alphabetic()) => Err(FaultKind::NotASize { found: text.to_owned() }),
        "" => Err(FaultKind::MissingUnit { number: number.to_owned() }),
        name => scale(&number.replace('_', ""), unit(name)?),
    }
}

fn unit(name: &str) -> Result<u128, FaultKind> {
    UNITS
        .iter()
        .find_map(|&(unit, bytes)| (unit == name).then_some(bytes))
        .ok_or_else(|| FaultKind::UnknownUnit { unit: name.to_owned(), meant: meant_unit(name) })
}

fn meant_unit(name: &str) -> Option<&'static str> {
    let small = name.to_lowercase();
    let by_name = OTHER_NAMES.iter().find(|(unit, others)| unit.to_lowercase() == small || others.contains(&&*small));
    let near = || UNITS.iter().find(|(unit, _)| small.len() > 1 && strsim::damerau_levenshtein(unit, name) == 1);
    by_name.map(|(unit, _)| *unit).or_else(|| near().map(|(unit, _)| *unit))
}

/// Multiplies a decimal number (`12`, `0.25`) with a unit, exactly, and rounds up to a whole byte.
fn scale(number: &str, unit: u128) -> Result<u128, FaultKind> {
    if number.contains(['e', 'E']) {
        return Err(FaultKind::NotASize { found: number.to_owned() });
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    // 12 digits behind the point are less than a byte of the largest unit; what is behind them is rounded up with them.
    let (leading, trailing) = fraction.split_at(fraction.len().min(12));
    let whole: u128 = whole.parse().or(if whole.is_empty() { Ok(0) } else { Err(FaultKind::TooMuch) })?;
    let divisor = 10_u128.pow(u32::try_from(leading.len()).unwrap_or_default());
    let leading: u128 = leading.parse().unwrap_or_default();
    // At most 10^12 times 2^40, twice.
    let parts = leading * unit;
    let rounds_up = !parts.is_multiple_of(divisor) || !trailing.is_empty();
    let whole = whole.checked_mul(unit).ok_or(FaultKind::TooMuch)?;
    whole.checked_add(parts / divisor + u128::from(rounds_up)).ok_or(FaultKind::TooMuch)
}

fn in_range(bytes: u128) -> Result<u64, FaultKind> {
    match bytes {
        0 => Err(FaultKind::Zero),
        1..LEAST => Err(FaultKind::TooLittle),
        LEAST..=MOST => u64::try_from(bytes).map_err(|_| FaultKind::TooMuch),
        _ => Err(FaultKind::TooMuch),
    }
}

/// Finds `2 * 256MiB`: rustc would only say that the suffix is invalid.
fn no_units_inside(expr: &Expr) -> Result<(), Fault> {
    struct Search(Option<Fault>);
    impl Visit<'_> for Search {
        fn visit_lit(&mut self, literal: &Lit) {
            let suffix = match literal {
                Lit::Int(number) => number.suffix(),
                Lit::Float(number) => number.suffix(),
                _ => "",
            };
            if !suffix.is_empty() && !NUMBER_TYPES.contains(&suffix) && self.0.is_none() {
                let token = literal.to_token_stream();
                let kind = FaultKind::UnitInExpression { literal: token.to_string() };
                self.0 = Some(Fault { token, kind });
            }
            visit::visit_lit(self, literal);
        }
    }
    let mut search = Search(None);
    search.visit_expr(expr);
    search.0.map_or(Ok(()), Err)
}

impl FaultKind {
    pub(crate) fn message(&self) -> String {
        let units = UNITS.map(|(unit, _)| format!("`{unit}`")).join(", ");
        match self {
            Self::Zero => "the memory must be more than zero; leave it out for no limit".to_owned(),
            Self::Negative => "the memory must not be negative".to_owned(),
            Self::TooLittle => "the memory must be at least `4KiB`; write a unit, as in `256MiB`".to_owned(),
            Self::TooMuch => "the memory must be at most `128TiB`; leave it out for no limit".to_owned(),
            Self::UnknownUnit { unit, meant: Some(meant) } => format!("unknown unit `{unit}`; did you mean `{meant}`?"),
            Self::UnknownUnit { unit, meant: None } => format!("unknown unit `{unit}`; the units are {units}"),
            Self::MissingUnit { number } => {
                format!("a number in a string needs a unit; write `\"{number}MiB\"`, or the one that is meant")
            }
            Self::MissingNumber { text } => {
                format!("cannot read a size at `{text}`; write a number with a unit, as in `\"256MiB\"`")
            }
            Self::Empty => "the memory is empty; write a size, as in `\"256MiB\"`".to_owned(),
            Self::NotASize { found } => {
                format!("`{found}` is not a size; write a number with a unit, as in `256MiB`")
            }
            Self::UnitInExpression { literal } => {
                format!("`{literal}` must stand alone; in an expression count in bytes, as in `256 << 20`")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FaultKind, Reading, read};

    fn bytes(source: &str) -> Result<u64, FaultKind> {
        match read(&syn::parse_str(source).expect("an expression")) {
            Ok(Reading::Bytes(bytes)) => Ok(bytes),
            Ok(Reading::Expression) => panic!("`{source}` was not taken for a literal"),
            Err(fault) => Err(fault.kind),
        }
    }

    #[test]
    fn a_number_has_a_unit_or_is_in_bytes() {
        for (source, expected) in [
            ("4096", 4096),
            ("1_000_000u64", 1_000_000),
            ("0x10000", 1 << 16),
            ("5000B", 5000),
            ("64KiB", 64 << 10),
            ("256MiB", 256 << 20),
            ("(2GiB)", 2 << 30),
            ("1TiB", 1 << 40),
            ("5kB", 5000),
            ("5MB", 5_000_000),
            ("5GB", 5_000_000_000),
            ("5TB", 5_000_000_000_000),
            ("1.5GiB", 3 << 29),
            ("\"256MiB\"", 256 << 20),
            ("\" 1.5 GiB \"", 3 << 29),
            ("\"1_024 KiB\"", 1 << 20),
            ("128TiB", 128 << 40),
        ] {
            assert_eq!(bytes(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn fractions_are_exact_and_round_up() {
        assert_eq!(bytes("0.1GB"), Ok(100_000_000));
        assert_eq!(bytes("0.1GiB"), Ok(107_374_183));
        assert_eq!(bytes("4096.0"), Ok(4096));
        assert_eq!(bytes("4096.0000000000000000000000000000000000001"), Ok(4097));
    }

    #[test]
    fn what_is_no_size_is_named() {
        for source in ["0", "0.0MiB", "\"0 B\""] {
            assert_eq!(bytes(source), Err(FaultKind::Zero), "{source}");
        }
        for source in ["256", "4095B", "3.999KiB", "\"0.0001MiB\""] {
            assert_eq!(bytes(source), Err(FaultKind::TooLittle), "{source}");
        }
        for source in [
            "129TiB",
            "1e0TiB",
            "99999999999999999999999999999999999999999TiB",
            "\"340282366920938463463374607431768211455TiB\"",
        ] {
            let fault = bytes(source).expect_err(source);
            assert!(matches!(fault, FaultKind::TooMuch | FaultKind::NotASize { .. }), "{source}: {fault:?}");
        }
        assert_eq!(bytes("-1"), Err(FaultKind::Negative));
        assert_eq!(bytes("\"-1MiB\""), Err(FaultKind::Negative));
        assert_eq!(bytes("\"\""), Err(FaultKind::Empty));
        assert_eq!(bytes("\"256\""), Err(FaultKind::MissingUnit { number: "256".into() }));
        assert_eq!(bytes("\"much\""), Err(FaultKind::MissingNumber { text: "much".into() }));
        assert_eq!(bytes("\"1GiB 512MiB\""), Err(FaultKind::NotASize { found: "1GiB 512MiB".into() }));
        assert_eq!(bytes("\"1.2.3MiB\""), Err(FaultKind::MissingNumber { text: "1.2.3MiB".into() }));
        for source in ["true", "'5'", "b\"5MiB\"", "1e9"] {
            assert_eq!(bytes(source), Err(FaultKind::NotASize { found: source.into() }));
        }
    }

    #[test]
    fn an_unknown_unit_comes_with_the_one_that_was_meant() {
        for (source, unit, meant) in [
            ("256mb", "mb", Some("MB")),
            ("256MIB", "MIB", Some("MiB")),
            ("256M", "M", Some("MiB")),
            ("\"2 gigabytes\"", "gigabytes", Some("GB")),
            ("256KB", "KB", Some("kB")),
            ("256Mib", "Mib", Some("MiB")),
            ("256MiBs", "MiBs", Some("MiB")),
            ("2pages", "pages", None),
        ] {
            assert_eq!(bytes(source), Err(FaultKind::UnknownUnit { unit: unit.into(), meant }), "{source}");
        }
    }

    #[test]
    fn other_expressions_are_left_for_run_time() {
        for source in ["MEMORY", "self.memory", "256 << 20", "-x", "{ 1 }"] {
            assert!(
                matches!(read(&syn::parse_str(source).expect("an expression")), Ok(Reading::Expression)),
                "{source}"
            );
        }
        assert_eq!(
            read(&syn::parse_str("2 * 256MiB").expect("an expression")).err().map(|fault| fault.kind),
            Some(FaultKind::UnitInExpression { literal: "256MiB".into() })
        );
    }
}
