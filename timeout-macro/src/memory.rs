//! Says how an amount of memory is written in the attribute: in bytes and their multiples.

use crate::quantity::{Dimension, FaultKind, first_part};

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

/// What memory is measured in: bytes, also where no unit is written.
pub(crate) static SIZE: Dimension = Dimension {
    noun: "size",
    units: &UNITS,
    other_names: &OTHER_NAMES,
    capitals_matter: true,
    exponents: false,
    bare: 1,
    least: (LEAST, "`4KiB`"),
    most: (MOST, "`128TiB`"),
    text: one_part,
    way_out,
};

/// Reads `1.5 GiB`, with or without the blank.
fn one_part(text: &str) -> Result<u128, FaultKind> {
    let part = first_part(text)?;
    if !part.rest.is_empty() {
        return Err(FaultKind::NotOne { found: text.to_owned() });
    }
    SIZE.amount(&part)
}

fn way_out(fault: &FaultKind, _: &str) -> Option<String> {
    let way_out = match fault {
        FaultKind::Zero | FaultKind::TooMuch => "leave it out for no limit",
        FaultKind::TooLittle => "write a unit, as in `256MiB`",
        FaultKind::MissingUnit { number } => {
            return Some(format!("write `\"{number}MiB\"`, or the one that is meant"));
        }
        FaultKind::MissingNumber { .. } => "write a number with a unit, as in `\"256MiB\"`",
        FaultKind::Empty => "write a size, as in `\"256MiB\"`",
        FaultKind::NotOne { .. } => "write a number with a unit, as in `256MiB`",
        FaultKind::UnitInExpression { .. } => "in an expression count in bytes, as in `256 << 20`",
        FaultKind::Negative | FaultKind::UnknownUnit { .. } => return None,
    };
    Some(way_out.to_owned())
}

#[cfg(test)]
mod tests {
    use super::SIZE;
    use crate::quantity::{FaultKind, Reading};

    fn bytes(source: &str) -> Result<u128, FaultKind> {
        match SIZE.read(&syn::parse_str(source).expect("an expression")) {
            Ok(Reading::Amount(bytes)) => Ok(bytes),
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
        assert_eq!(bytes("1.0000000000009999TiB"), Ok((1 << 40) + 2));
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
            assert!(matches!(fault, FaultKind::TooMuch | FaultKind::NotOne { .. }), "{source}: {fault:?}");
        }
        assert_eq!(bytes("-1"), Err(FaultKind::Negative));
        assert_eq!(bytes("\"-1MiB\""), Err(FaultKind::Negative));
        assert_eq!(bytes("\"\""), Err(FaultKind::Empty));
        assert_eq!(bytes("\"256\""), Err(FaultKind::MissingUnit { number: "256".into() }));
        assert_eq!(bytes("\"much\""), Err(FaultKind::MissingNumber { text: "much".into() }));
        assert_eq!(bytes("\"1GiB 512MiB\""), Err(FaultKind::NotOne { found: "1GiB 512MiB".into() }));
        assert_eq!(bytes("\"1.2.3MiB\""), Err(FaultKind::MissingNumber { text: "1.2.3MiB".into() }));
        for source in ["true", "'5'", "b\"5MiB\"", "1e9"] {
            assert_eq!(bytes(source), Err(FaultKind::NotOne { found: source.into() }));
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
                matches!(SIZE.read(&syn::parse_str(source).expect("an expression")), Ok(Reading::Expression)),
                "{source}"
            );
        }
        assert_eq!(
            SIZE.read(&syn::parse_str("2 * 256MiB").expect("an expression")).err().map(|fault| fault.kind),
            Some(FaultKind::UnitInExpression { literal: "256MiB".into() })
        );
    }
}
