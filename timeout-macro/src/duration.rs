//! Reads a limit that is written out in the attribute and folds it into an exact number of nanoseconds.
//!
//! No floats: `0.1` is a tenth of a second and nothing else. What lies between two nanoseconds is rounded up, because
//! a limit may end late by a nanosecond but never early.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Expr, Lit, UnOp};

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

/// The suffixes that name a number type: such a literal is a number of seconds.
pub(crate) const NUMBER_TYPES: [&str; 16] = [
    "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f16", "f32", "f64", "f128",
];

pub(crate) const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// 300 years of 365.25 days. Longer ones are more likely a slip of the unit than a wish, and "no limit" has its own way.
const LONGEST: u128 = 300 * 31_557_600 * NANOS_PER_SECOND;

/// What stands where a limit is expected.
pub(crate) enum Reading {
    /// A literal, folded.
    Nanos(u128),
    /// Anything else: its value is known when the function is called.
    Expression,
}

/// Why something that is written out is not a limit, and on which token.
pub(crate) struct Fault {
    pub(crate) token: TokenStream,
    pub(crate) kind: FaultKind,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    Zero,
    Negative,
    BelowOneNano,
    TooLong,
    UnknownUnit { unit: String, meant: Option<&'static str> },
    MissingUnit { number: String },
    MissingNumber { text: String },
    Empty,
    NotATime { found: String },
    UnitInExpression { literal: String },
}

/// Reads `expr` as a limit.
pub(crate) fn read(expr: &Expr) -> Result<Reading, Fault> {
    match expr {
        // `$limit:expr` and `$limit:literal` of a `macro_rules!` come in a group that nobody sees.
        Expr::Group(group) => read(&group.expr),
        Expr::Paren(paren) => read(&paren.expr),
        Expr::Lit(literal) => nanos(&literal.lit)
            .and_then(in_range)
            .map(Reading::Nanos)
            .map_err(|kind| Fault { token: literal.to_token_stream(), kind }),
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) && is_number(&unary.expr) => {
            Err(Fault { token: expr.to_token_stream(), kind: FaultKind::Negative })
        }
        _ => no_units_inside(expr).map(|()| Reading::Expression),
    }
}

fn nanos(literal: &Lit) -> Result<u128, FaultKind> {
    match literal {
        Lit::Int(number) => number_with_suffix(number.base10_digits(), number.suffix()),
        Lit::Float(number) => number_with_suffix(number.base10_digits(), number.suffix()),
        Lit::Str(text) => text_with_units(&text.value()),
        other => Err(FaultKind::NotATime { found: other.to_token_stream().to_string() }),
    }
}

fn number_with_suffix(digits: &str, suffix: &str) -> Result<u128, FaultKind> {
    if suffix.is_empty() || NUMBER_TYPES.contains(&suffix) {
        scale(digits, NANOS_PER_SECOND)
    } else {
        scale(digits, unit(suffix)?)
    }
}

/// Reads `1m 30s`: numbers with their units, with or without blanks anywhere between them.
fn text_with_units(text: &str) -> Result<u128, FaultKind> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(FaultKind::Empty);
    }
    if rest.starts_with('-') {
        return Err(FaultKind::Negative);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit() && c != '.' && c != '_');
        let (name, after) = split_where(after.trim_start(), |c| !c.is_alphabetic());
        if !number.starts_with(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(FaultKind::MissingNumber { text: rest.to_owned() });
        }
        if name.is_empty() {
            return Err(FaultKind::MissingUnit { number: number.to_owned() });
        }
        // No overflow: one part is at most `TooLong`, and a source text has far fewer than 2^64 parts.
        total += scale(&number.replace('_', ""), unit(name)?)?;
        rest = after.trim_start();
    }
    Ok(total)
}

fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

fn unit(name: &str) -> Result<u128, FaultKind> {
    UNITS
        .iter()
        .find_map(|&(unit, nanos)| (unit == name).then_some(nanos))
        .ok_or_else(|| FaultKind::UnknownUnit { unit: name.to_owned(), meant: meant_unit(name) })
}

fn meant_unit(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let by_name = OTHER_NAMES.iter().find(|(unit, others)| *unit == name || others.contains(&&*name));
    let near = || UNITS.iter().find(|(unit, _)| name.len() > 1 && strsim::damerau_levenshtein(unit, &name) == 1);
    by_name.map(|(unit, _)| *unit).or_else(|| near().map(|(unit, _)| *unit))
}

/// Multiplies a decimal number (`12`, `0.25`, `1.5e-3`) with a unit, exactly, and rounds up to a whole nanosecond.
fn scale(number: &str, unit: u128) -> Result<u128, FaultKind> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    // An exponent that fits no `i32` lies far outside the range on the side its sign says.
    let exponent = exponent.parse::<i32>().unwrap_or(if exponent.starts_with('-') { i32::MIN } else { i32::MAX });
    let length = |text: &str| i32::try_from(text.len()).unwrap_or(i32::MAX);
    let power = exponent.saturating_sub(length(fraction));
    // The number lies between 10^(magnitude - 1) and 10^magnitude units, and a unit between 1 and 10^14 nanoseconds.
    let magnitude = length(digits).saturating_add(power);
    if magnitude > 21 {
        return Err(FaultKind::TooLong);
    }
    if magnitude < -14 {
        return Err(FaultKind::BelowOneNano);
    }
    // 24 digits decide, the others only whether there is something to round up: 10^24 units fit into a `u128`.
    let (leading, trailing) = digits.split_at(digits.len().min(24));
    let leading_power = power.saturating_add(length(trailing));
    let product = leading.bytes().fold(0, |value, digit| value * 10 + u128::from(digit - b'0')) * unit;
    // At most 10^38 either way, by the two bounds above.
    let factor = 10_u128.pow(leading_power.unsigned_abs());
    let (nanos, rest) = if leading_power >= 0 { (product * factor, 0) } else { (product / factor, product % factor) };
    match nanos {
        0 => Err(FaultKind::BelowOneNano),
        _ => Ok(nanos + u128::from(rest > 0 || trailing.bytes().any(|digit| digit != b'0'))),
    }
}

fn in_range(nanos: u128) -> Result<u128, FaultKind> {
    match nanos {
        0 => Err(FaultKind::Zero),
        1..=LONGEST => Ok(nanos),
        _ => Err(FaultKind::TooLong),
    }
}

pub(crate) fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Group(group) => is_number(&group.expr),
        Expr::Paren(paren) => is_number(&paren.expr),
        Expr::Lit(literal) => matches!(literal.lit, Lit::Int(_) | Lit::Float(_)),
        _ => false,
    }
}

/// Finds `2 * 250ms`: rustc would only say that the suffix is invalid.
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
    /// The message, where `name` is `limit` or `grace`.
    pub(crate) fn message(&self, name: &str) -> String {
        let units = UNITS.map(|(unit, _)| format!("`{unit}`")).join(", ");
        match self {
            Self::Zero if name == "grace" => {
                "the grace must be more than zero; leave it out to kill at once".to_owned()
            }
            Self::Zero => format!("the {name} must be more than zero"),
            Self::Negative => format!("the {name} must not be negative"),
            Self::BelowOneNano => format!("the {name} must be at least `1ns`"),
            Self::TooLong => format!("the {name} must be at most 300 years; for no end write `Duration::MAX`"),
            Self::UnknownUnit { unit, meant: Some(meant) } => format!("unknown unit `{unit}`; did you mean `{meant}`?"),
            Self::UnknownUnit { unit, meant: None } => format!("unknown unit `{unit}`; the units are {units}"),
            Self::MissingUnit { number } => {
                format!("a number in a string needs a unit; write `\"{number}s\"`, or `{number}` for seconds")
            }
            Self::MissingNumber { text } => {
                format!("cannot read a time at `{text}`; write numbers with units, as in `\"1m 30s\"`")
            }
            Self::Empty => format!("the {name} is empty; write a time, as in `\"1m 30s\"`"),
            Self::NotATime { found } => {
                format!("`{found}` is not a time; write seconds, as in `2`, or a unit, as in `250ms`")
            }
            Self::UnitInExpression { literal } => {
                format!(
                    "`{literal}` must stand alone; in an expression use a `Duration`, as in `Duration::from_secs(2)`"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FaultKind, LONGEST, Reading, read};

    fn nanos(source: &str) -> Result<u128, FaultKind> {
        match read(&syn::parse_str(source).expect("an expression")) {
            Ok(Reading::Nanos(nanos)) => Ok(nanos),
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
            assert_eq!(nanos(source), Err(FaultKind::BelowOneNano), "{source}");
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
            assert_eq!(nanos(source), Err(FaultKind::TooLong), "{source}");
        }
    }

    #[test]
    fn the_far_ends_of_the_arithmetic_do_not_overflow() {
        assert_eq!(nanos("999999999999999999999d"), Err(FaultKind::TooLong));
        assert_eq!(nanos("999999999999999999999999e-24"), Ok(1_000_000_000));
        assert_eq!(nanos("0.00000000000002d"), Ok(2));
        assert_eq!(nanos("0.0000000000000199999999999999999999999999999999999d"), Ok(2));
        assert_eq!(nanos("0.00000000000000999999999999999999999999999999999999d"), Err(FaultKind::BelowOneNano));
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
            assert_eq!(nanos(source), Err(FaultKind::NotATime { found: source.into() }));
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
                matches!(read(&syn::parse_str(source).expect("an expression")), Ok(Reading::Expression)),
                "{source}"
            );
        }
        assert_eq!(
            read(&syn::parse_str("2 * 250ms").expect("an expression")).err().map(|fault| fault.kind),
            Some(FaultKind::UnitInExpression { literal: "250ms".into() })
        );
    }
}
