//! Keeps a digest of the calls a type makes while it writes or reads itself; the two must be the same.

/// What one serde call says is there.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Kind {
    Unit = 1,
    Bool,
    U8,
    U16,
    U32,
    U64,
    U128,
    I8,
    I16,
    I32,
    I64,
    I128,
    F32,
    F64,
    Char,
    Str,
    Option,
    Seq,
    Map,
    Product,
    Enum,
}

/// How a variant holds its value: the byte that follows its name.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Style {
    Unit,
    Newtype,
    Fields,
}

/// A polynomial of all kinds so far, in their order.
#[derive(Default)]
pub(super) struct Shape(u64);

/// An odd number without a pattern (2^64 divided by the golden ratio).
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Shape {
    #[inline]
    pub(super) fn note(&mut self, kind: Kind) {
        self.0 = self.0.wrapping_mul(FACTOR).wrapping_add(kind as u64);
    }

    /// Does what `count` calls of [`Shape::note`] would do, by repeated squaring of the step `x * factor + term`.
    pub(super) fn note_many(&mut self, kind: Kind, mut count: u64) {
        let (mut factor, mut term) = (FACTOR, kind as u64);
        while count > 0 {
            if count & 1 == 1 {
                self.0 = self.0.wrapping_mul(factor).wrapping_add(term);
            }
            term = term.wrapping_mul(factor).wrapping_add(term);
            factor = factor.wrapping_mul(factor);
            count >>= 1;
        }
    }

    #[inline]
    pub(super) fn digest(&self) -> u64 {
        self.0
    }
}

/// A digest of the names of a struct's fields, in their order.
#[derive(Default)]
pub(super) struct Names(u64);

impl Names {
    /// Eight bytes a step, so that the optimizer can work most names out while it compiles.
    #[inline]
    pub(super) fn note(&mut self, name: &str) {
        let mut state = (self.0 ^ name.len() as u64).wrapping_mul(FACTOR);
        for part in name.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            state = (state ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR).rotate_left(29);
        }
        self.0 = state;
    }

    #[inline]
    pub(super) fn of(names: &[&str]) -> Self {
        let mut all = Self::default();
        names.iter().for_each(|name| all.note(name));
        all
    }

    #[inline]
    pub(super) fn digest(&self) -> [u8; 4] {
        ((self.0 >> 32) as u32).to_le_bytes()
    }
}
