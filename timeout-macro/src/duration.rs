//! Says how a limit is written in the attribute: in nanoseconds and their multiples.
//!
//! What lies between two nanoseconds is rounded up, because a limit may end late by a nanosecond but never early.

use crate::quantity::{Dimension, FaultKind, first_part};

pub(crate) const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// 300 years of 365.25 days. Longer ones are more likely a slip of the unit than a wish, and "no limit" has its own way.
const LONGEST: u128 = 300 * 31_557_600 * NANOS_PER_SECOND;

/// The units of a limit, with their lengths in nanoseconds. The order is the one in which messages list them.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("min", 60 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
    ("d", 86_400 * NANOS_PER_SECOND),
];

/// What people write when they mean one of the units.
const OTHER_NAMES: [(&str, &[&str]); 7] = [
    ("ns", &["nano", "nanos", "nsec", "nanosecond", "nanoseconds"]),
    ("us", &["µs", "μs", "micro", "micros", "usec", "microsecond", "microseconds"]),
    ("ms", &["milli", "millis", "msec", "msecs", "millisecond", "milliseconds"]),
    ("s", &["sec", "secs", "second", "seconds"]),
    ("min", &["mins", "minute", "minutes"]),
    ("h", &["hr", "hrs", "hour", "hours"]),
    ("d", &["day", "days"]),
];

/// What a limit is measured in: nanoseconds, and seconds where no unit is written.
pub(crate) static TIME: Dimension = Dimension {
    noun: "time",
    units: &UNITS,
    other_names: &OTHER_NAMES,
    capitals_matter: false,
    exponents: true,
    bare: NANOS_PER_SECOND,
    least: (1, "`1ns`"),
    most: (LONGEST, "300 years"),
    text: sum_of_parts,
    way_out,
};

/// Reads `1m 30s`.
fn sum_of_parts(text: &str) -> Result<u128, FaultKind> {
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let part = first_part(rest)?;
        // Thousands of the largest parts would overflow; too much is too much.
        total = total.saturating_add(TIME.amount(&part)?);
        rest = part.rest;
    }
    Ok(total)
}

fn way_out(fault: &FaultKind, name: &str) -> Option<String> {
    let way_out = match fault {
        FaultKind::Zero if name == "grace" => "leave it out to kill at once",
        FaultKind::TooMuch => "for no end write `Duration::MAX`",
        FaultKind::MissingUnit { number } => {
            return Some(format!("write `\"{number}s\"`, or `{number}` for seconds"));
        }
        FaultKind::MissingNumber { .. } => "write numbers with units, as in `\"1m 30s\"`",
        FaultKind::Empty => "write a time, as in `\"1m 30s\"`",
        FaultKind::NotOne { .. } => "write seconds, as in `2`, or a unit, as in `250ms`",
        FaultKind::UnitInExpression { .. } => "in an expression use a `Duration`, as in `Duration::from_secs(2)`",
        FaultKind::Zero | FaultKind::Negative | FaultKind::TooLittle | FaultKind::UnknownUnit { .. } => return None,
    };
    Some(way_out.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, TIME};
    use crate::quantity::{FaultKind, Reading};

    fn nanos(source: &str) -> Result<u128, FaultKind> {
        match TIME.read(&syn::parse_str(source).expect("an expression")) {
            Ok(Reading::Amount(nanos)) => Ok(nanos),
            Ok(Reading::Expression) => panic!("`{source}` was not taken for a literal"),
            Err(fault) => Err(fault.kind),
        }
    }

    #[test]
    fn a_plain_number_is_seconds() {
        assert_eq!(nanos("2"), Ok(2_000_000_000));
        assert_eq!(nanos("2u64"), Ok(2_000_000_000));
        assert_eq!(nanos("1_000"), Ok(1_000_000_000_000));
        assert_eq!(nanos("0x10"), Ok(16_000_000_000));
        assert_eq!(nanos("0.25"), Ok(250_000_000));
        assert_eq!(nanos("1.5f32"), Ok(1_500_000_000));
        assert_eq!(nanos("1."), Ok(1_000_000_000));
        assert_eq!(nanos("1e3"), Ok(1_000_000_000_000));
        assert_eq!(nanos("2.5e-3"), Ok(2_500_000));
        assert_eq!(nanos("(2)"), Ok(2_000_000_000));
    }

    #[test]
    fn a_suffix_is_a_unit() {
        let second = 1_000_000_000;
        for (source, expected) in [
            ("7ns", 7),
            ("7us", 7_000),
            ("250ms", 250_000_000),
            ("1.5s", 1_500_000_000),
            ("5m", 300 * second),
            ("5min", 300 * second),
            ("2h", 7_200 * second),
            ("1d", 86_400 * second),
            ("1e2ms", 100_000_000),
        ] {
            assert_eq!(nanos(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn a_string_is_a_sum_of_parts() {
        for source in [r#""1m 30s""#, r#""1m30s""#, r#"" 1 m 30 s ""#, r#""1.5 min""#, r#""30s 1m""#, r#""90_000ms""#] {
            assert_eq!(nanos(source), Ok(90_000_000_000), "{source}");
        }
    }

    #[test]
    fn fractions_are_exact_and_round_up() {
        assert_eq!(nanos("0.1"), Ok(100_000_000));
        assert_eq!(nanos("0.000000001"), Ok(1));
        assert_eq!(nanos("0.0000000011"), Ok(2));
        assert_eq!(nanos("1.0000000000000000000000000000000000001ns"), Ok(2));
        assert_eq!(nanos("1.0000000000000000000000000000000000000ns"), Ok(1));
        assert_eq!(nanos("0.33333333333333333333333333333333333333333333"), Ok(333_333_334));
        assert_eq!(nanos("100000000000000000000000000000e-29"), Ok(1_000_000_000));
    }

    #[test]
    fn the_range_ends_at_one_nanosecond_and_300_years() {
        assert_eq!(nanos("0"), Err(FaultKind::Zero));
        assert_eq!(nanos("0.0e9ms"), Err(FaultKind::Zero));
        assert_eq!(nanos("\"0s\""), Err(FaultKind::Zero));
        for source in ["0.5ns", "0.0000000001", "1e-400", "1e-99999999999999", "0.00000000000001d"] {
            assert_eq!(nanos(source), Err(FaultKind::TooLittle), "{source}");
        }
        assert_eq!(nanos("9467280000"), Ok(LONGEST));
        assert_eq!(nanos("109575d"), Ok(LONGEST));
        for source in [
            "9467280000.000000001",
            "110000d",
            "1e20ns",
            "1e21",
            "1e300",
            "1e99999999999",
            "99999999999999999999999999999999999999999999",
        ] {
            assert_eq!(nanos(source), Err(FaultKind::TooMuch), "{source}");
        }
    }

    #[test]
    fn the_far_ends_of_the_arithmetic_do_not_overflow() {
        assert_eq!(nanos("999999999999999999999d"), Err(FaultKind::TooMuch));
        assert_eq!(nanos(&format!("\"{}\"", "999999999999999999999d".repeat(5000))), Err(FaultKind::TooMuch));
        assert_eq!(nanos("999999999999999999999999e-24"), Ok(1_000_000_000));
        assert_eq!(nanos("0.00000000000002d"), Ok(2));
        assert_eq!(nanos("0.0000000000000199999999999999999999999999999999999d"), Ok(2));
        assert_eq!(nanos("0.00000000000000999999999999999999999999999999999999d"), Err(FaultKind::TooLittle));
    }

    #[test]
    fn what_is_no_time_is_named() {
        assert_eq!(nanos("-1"), Err(FaultKind::Negative));
        assert_eq!(nanos("-0.5s"), Err(FaultKind::Negative));
        assert_eq!(nanos("\"-5s\""), Err(FaultKind::Negative));
        assert_eq!(nanos("\"\""), Err(FaultKind::Empty));
        assert_eq!(nanos("\"30\""), Err(FaultKind::MissingUnit { number: "30".into() }));
        assert_eq!(nanos("\"soon\""), Err(FaultKind::MissingNumber { text: "soon".into() }));
        assert_eq!(nanos("\"1.2.3s\""), Err(FaultKind::MissingNumber { text: "1.2.3s".into() }));
        for source in ["true", "'5'", "b\"5s\"", "b'5'", "c\"5s\""] {
            assert_eq!(nanos(source), Err(FaultKind::NotOne { found: source.into() }));
        }
    }

    #[test]
    fn an_unknown_unit_comes_with_the_one_that_was_meant() {
        for (source, unit, meant) in [
            ("5sec", "sec", Some("s")),
            ("5minutes", "minutes", Some("min")),
            ("5MS", "MS", Some("ms")),
            ("5mn", "mn", Some("ms")),
            ("\"5 hours\"", "hours", Some("h")),
            ("\"5µs\"", "µs", Some("us")),
            ("5w", "w", None),
            ("5fortnights", "fortnights", None),
        ] {
            assert_eq!(nanos(source), Err(FaultKind::UnknownUnit { unit: unit.into(), meant }), "{source}");
        }
    }

    #[test]
    fn other_expressions_are_left_for_run_time() {
        for source in ["LIMIT", "self.limit", "cfg.limit()", "{ 2 }", "-x", "2 * N", "if fast { 1 } else { 60 }"] {
            assert!(
                matches!(TIME.read(&syn::parse_str(source).expect("an expression")), Ok(Reading::Expression)),
                "{source}"
            );
        }
        assert_eq!(
            TIME.read(&syn::parse_str("2 * 250ms").expect("an expression")).err().map(|fault| fault.kind),
            Some(FaultKind::UnitInExpression { literal: "250ms".into() })
        );
    }
}
