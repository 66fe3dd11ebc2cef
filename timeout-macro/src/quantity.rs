//! Reads a literal with a unit and folds it into an exact number of the smallest unit; a [`Dimension`] says of what.
//!
//! No floats: `0.1` is a tenth and nothing else. What lies between two whole numbers is rounded up.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Expr, Lit, UnOp};

/// The suffixes that name a number type: such a literal is a number without a unit.
const NUMBER_TYPES: [&str; 16] = [
    "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f16", "f32", "f64", "f128",
];

/// What can be measured, in which units, and how a message speaks of it.
pub(crate) struct Dimension {
    /// What messages call one of it.
    pub(crate) noun: &'static str,
    /// The units with their sizes, 1 to 10^14, in the order in which messages list them.
    pub(crate) units: &'static [(&'static str, u128)],
    /// What people write when they mean one of the units, in small letters.
    pub(crate) other_names: &'static [(&'static str, &'static [&'static str])],
    /// Whether a slip of the pen is looked for in the unit as it is written, or in small letters.
    pub(crate) capitals_matter: bool,
    /// Whether `1e3` is a number of it.
    pub(crate) exponents: bool,
    /// The size of the unit of a number without one.
    pub(crate) bare: u128,
    /// The ends of the range, and how they are written.
    pub(crate) least: (u128, &'static str),
    pub(crate) most: (u128, &'static str),
    /// Reads a string that is neither empty nor negative and has no blanks around it.
    pub(crate) text: fn(&str) -> Result<u128, FaultKind>,
    /// What to do about a fault of the option that is named.
    pub(crate) way_out: fn(&FaultKind, &str) -> Option<String>,
}

/// What stands where a quantity is expected.
pub(crate) enum Reading {
    /// A literal, folded.
    Amount(u128),
    /// Anything else: its value is known when the function is called.
    Expression,
}

/// Why something that is written out is not a quantity, and on which token.
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
    NotOne { found: String },
    UnitInExpression { literal: String },
}

/// A number and a unit at the beginning of a text, and what follows them.
pub(crate) struct Part<'a> {
    number: &'a str,
    unit: &'a str,
    pub(crate) rest: &'a str,
}

impl Dimension {
    /// Reads `expr` as a quantity.
    pub(crate) fn read(&self, expr: &Expr) -> Result<Reading, Fault> {
        match expr {
            // `$limit:expr` and `$limit:literal` of a `macro_rules!` come in a group that nobody sees.
            Expr::Group(group) => self.read(&group.expr),
            Expr::Paren(paren) => self.read(&paren.expr),
            Expr::Lit(literal) => self
                .literal(&literal.lit)
                .and_then(|amount| self.in_range(amount))
                .map(Reading::Amount)
                .map_err(|kind| Fault { token: literal.to_token_stream(), kind }),
            Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) && is_number(&unary.expr) => {
                Err(Fault { token: expr.to_token_stream(), kind: FaultKind::Negative })
            }
            _ => no_units_inside(expr).map(|()| Reading::Expression),
        }
    }

    fn literal(&self, literal: &Lit) -> Result<u128, FaultKind> {
        match literal {
            Lit::Int(number) => self.number_with_suffix(number.base10_digits(), number.suffix()),
            Lit::Float(number) => self.number_with_suffix(number.base10_digits(), number.suffix()),
            Lit::Str(text) => match text.value().trim() {
                "" => Err(FaultKind::Empty),
                text if text.starts_with('-') => Err(FaultKind::Negative),
                text => (self.text)(text),
            },
            other => Err(FaultKind::NotOne { found: other.to_token_stream().to_string() }),
        }
    }

    fn number_with_suffix(&self, digits: &str, suffix: &str) -> Result<u128, FaultKind> {
        let is_bare = suffix.is_empty() || NUMBER_TYPES.contains(&suffix);
        let unit = if is_bare { self.bare } else { self.unit(suffix)? };
        if !self.exponents && digits.contains(['e', 'E']) {
            return Err(FaultKind::NotOne { found: digits.to_owned() });
        }
        scale(digits, unit)
    }

    /// The amount of one part of a text.
    pub(crate) fn amount(&self, part: &Part) -> Result<u128, FaultKind> {
        match part.unit {
            "" => Err(FaultKind::MissingUnit { number: part.number.to_owned() }),
            unit => scale(&part.number.replace('_', ""), self.unit(unit)?),
        }
    }

    fn unit(&self, name: &str) -> Result<u128, FaultKind> {
        self.units
            .iter()
            .find_map(|&(unit, size)| (unit == name).then_some(size))
            .ok_or_else(|| FaultKind::UnknownUnit { unit: name.to_owned(), meant: self.meant_unit(name) })
    }

    fn meant_unit(&self, name: &str) -> Option<&'static str> {
        let small = name.to_lowercase();
        let is_other = |(unit, others): &&(&str, &[&str])| unit.to_lowercase() == small || others.contains(&&*small);
        let written = if self.capitals_matter { name } else { &small };
        let is_near = |unit: &str| small.len() > 1 && strsim::damerau_levenshtein(unit, written) == 1;
        let by_name = self.other_names.iter().find(is_other).map(|(unit, _)| *unit);
        by_name.or_else(|| self.units.iter().map(|(unit, _)| *unit).find(|unit| is_near(unit)))
    }

    fn in_range(&self, amount: u128) -> Result<u128, FaultKind> {
        match amount {
            0 => Err(FaultKind::Zero),
            _ if amount < self.least.0 => Err(FaultKind::TooLittle),
            _ if amount > self.most.0 => Err(FaultKind::TooMuch),
            _ => Ok(amount),
        }
    }

    /// The message about `fault`, where `name` is what is measured: `limit`, `memory`.
    pub(crate) fn message(&self, fault: &FaultKind, name: &str) -> String {
        let noun = self.noun;
        let wrong = match fault {
            FaultKind::Zero => format!("the {name} must be more than zero"),
            FaultKind::Negative => format!("the {name} must not be negative"),
            FaultKind::TooLittle => format!("the {name} must be at least {}", self.least.1),
            FaultKind::TooMuch => format!("the {name} must be at most {}", self.most.1),
            FaultKind::UnknownUnit { unit, meant: Some(meant) } => {
                format!("unknown unit `{unit}`; did you mean `{meant}`?")
            }
            FaultKind::UnknownUnit { unit, meant: None } => {
                let units: Vec<_> = self.units.iter().map(|(unit, _)| format!("`{unit}`")).collect();
                format!("unknown unit `{unit}`; the units are {}", units.join(", "))
            }
            FaultKind::MissingUnit { .. } => "a number in a string needs a unit".to_owned(),
            FaultKind::MissingNumber { text } => format!("cannot read a {noun} at `{text}`"),
            FaultKind::Empty => format!("the {name} is empty"),
            FaultKind::NotOne { found } => format!("`{found}` is not a {noun}"),
            FaultKind::UnitInExpression { literal } => format!("`{literal}` must stand alone"),
        };
        match (self.way_out)(fault, name) {
            Some(way_out) => format!("{wrong}; {way_out}"),
            None => wrong,
        }
    }
}

/// Splits `1m 30s` behind the first unit, with or without blanks anywhere between.
pub(crate) fn first_part(text: &str) -> Result<Part<'_>, FaultKind> {
    let (number, after) = split_where(text, |c| !c.is_ascii_digit() && c != '.' && c != '_');
    let (unit, after) = split_where(after.trim_start(), |c| !c.is_alphabetic());
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
        return Err(FaultKind::MissingNumber { text: text.to_owned() });
    }
    Ok(Part { number, unit, rest: after.trim_start() })
}

fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// Multiplies a decimal number (`12`, `0.25`, `1.5e-3`) with a unit, exactly, and rounds up to a whole number.
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
    // The number lies between 10^(magnitude - 1) and 10^magnitude units, and a unit is between 1 and 10^14.
    let magnitude = length(digits).saturating_add(power);
    if magnitude > 21 {
        return Err(FaultKind::TooMuch);
    }
    if magnitude < -14 {
        return Err(FaultKind::TooLittle);
    }
    // 24 digits decide, the others only whether there is something to round up: 10^24 units fit into a `u128`.
    let (leading, trailing) = digits.split_at(digits.len().min(24));
    let leading_power = power.saturating_add(length(trailing));
    let product = leading.bytes().fold(0, |value, digit| value * 10 + u128::from(digit - b'0')) * unit;
    // At most 10^38 either way, by the two bounds above.
    let factor = 10_u128.pow(leading_power.unsigned_abs());
    let (amount, rest) = if leading_power >= 0 { (product * factor, 0) } else { (product / factor, product % factor) };
    match amount {
        0 => Err(FaultKind::TooLittle),
        _ => Ok(amount + u128::from(rest > 0 || trailing.bytes().any(|digit| digit != b'0'))),
    }
}

fn is_number(expr: &Expr) -> bool {
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
