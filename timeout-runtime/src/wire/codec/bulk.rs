//! Moves a `Vec` of plain numbers at the speed of memory instead of one serde call a number.
//!
//! The bytes are the same either way, so a type may write in bulk and read one by one. A type's own `serialize_with` or
//! `deserialize_with` is never bypassed: only the very `Vec<u8>`, `Vec<f64>`, … is recognised, on the way back by the
//! visitor that only that `Vec` uses.

use std::any::type_name;
use std::mem::{align_of_val, needs_drop, size_of_val};

use bytemuck::NoUninit;
use castaway::{LifetimeFree, cast};
use serde::de::{Deserialize, Deserializer, Visitor};

use super::shape::Kind;
use super::{CodecError, Sink, Source};

/// A number whose `N` bytes are all there is to it, and any `N` bytes are one.
trait Plain<const N: usize>: LifetimeFree + NoUninit {
    const KIND: Kind;
    fn to_bytes(self) -> [u8; N];
    fn from_bytes(bytes: [u8; N]) -> Self;
}

/// Calls `$one!(type, width)` for each plain number until one answers.
macro_rules! first_of_each_plain {
    ($one:ident) => {
        $one!(u8, 1);
        $one!(u16, 2);
        $one!(u32, 4);
        $one!(u64, 8);
        $one!(u128, 16);
        $one!(i8, 1);
        $one!(i16, 2);
        $one!(i32, 4);
        $one!(i64, 8);
        $one!(i128, 16);
        $one!(f32, 4);
        $one!(f64, 8);
        // On narrower hosts they are not what travels, which is 64 bits.
        #[cfg(target_pointer_width = "64")]
        $one!(usize, 8);
        #[cfg(target_pointer_width = "64")]
        $one!(isize, 8);
    };
}

macro_rules! plain {
    ($($number:ty: $kind:ident, $width:literal;)*) => {$(
        impl Plain<$width> for $number {
            const KIND: Kind = Kind::$kind;
            #[inline]
            fn to_bytes(self) -> [u8; $width] {
                self.to_le_bytes()
            }
            #[inline]
            fn from_bytes(bytes: [u8; $width]) -> Self {
                Self::from_le_bytes(bytes)
            }
        }
    )*};
}

plain! {
    u8: U8, 1; u16: U16, 2; u32: U32, 4; u64: U64, 8; u128: U128, 16;
    i8: I8, 1; i16: I16, 2; i32: I32, 4; i64: I64, 8; i128: I128, 16;
    f32: F32, 4; f64: F64, 8;
}
#[cfg(target_pointer_width = "64")]
plain! { usize: U64, 8; isize: I64, 8; }

/// Writes the value if it is a `Vec` of plain numbers.
#[inline]
pub(super) fn put<T: ?Sized>(sink: &mut Sink, value: &T) -> Option<Result<(), CodecError>> {
    // In a debug build each question below is a call, for every value that is written: this one answers most of them.
    if size_of_val(value) != size_of::<Vec<u8>>() || align_of_val(value) != align_of::<Vec<u8>>() || !needs_drop::<T>()
    {
        return None;
    }
    macro_rules! put_if {
        ($number:ty, $width:literal) => {
            if let Ok(numbers) = cast!(value, &Vec<$number>) {
                return Some(put_all::<$width, $number>(sink, numbers));
            }
        };
    }
    first_of_each_plain!(put_if);
    None
}

fn put_all<const N: usize, E: Plain<N>>(sink: &mut Sink, numbers: &[E]) -> Result<(), CodecError> {
    sink.shape.note(Kind::Seq);
    sink.shape.note_many(E::KIND, numbers.len() as u64);
    sink.put(numbers.len())?;
    // A little more than needed: the eight bytes at the very end would otherwise double the buffer.
    sink.bytes.reserve(size_of_val(numbers) + 64);
    if cfg!(target_endian = "little") {
        sink.bytes.extend_from_slice(bytemuck::cast_slice(numbers));
    } else {
        numbers.iter().for_each(|number| sink.bytes.extend_from_slice(&number.to_bytes()));
    }
    Ok(())
}

/// Reads a `Vec` of plain numbers if that is what the visitor makes of a sequence.
#[inline]
pub(super) fn take<'de, V: Visitor<'de>>(source: &mut Source<'de>) -> Option<Result<V::Value, CodecError>> {
    if size_of::<V::Value>() != size_of::<Vec<u8>>() || !needs_drop::<V::Value>() {
        return None;
    }
    let mut value: Option<V::Value> = None;
    macro_rules! take_if {
        ($number:ty, $width:literal) => {
            if let Ok(value) = cast!(&mut value, &mut Option<Vec<$number>>) {
                if type_name::<V>() != visitor_of::<Vec<$number>>()? {
                    return None;
                }
                match take_all::<$width, $number>(source) {
                    Ok(numbers) => *value = Some(numbers),
                    Err(e) => return Some(Err(e)),
                }
            }
        };
    }
    first_of_each_plain!(take_if);
    value.map(Ok)
}

fn take_all<const N: usize, E: Plain<N>>(source: &mut Source<'_>) -> Result<Vec<E>, CodecError> {
    let count: usize = source.read()?;
    let length = count.checked_mul(N).ok_or_else(CodecError::cut_short)?;
    let (numbers, _) = source.take(length)?.as_chunks::<N>();
    source.shape.note(Kind::Seq);
    source.shape.note_many(E::KIND, count as u64);
    Ok(numbers.iter().map(|bytes| E::from_bytes(*bytes)).collect())
}

/// The name of the visitor that `T` hands to `deserialize_seq`. It is private to serde, but a deserializer gets to see it.
///
/// `type_name` promises little, but it holds the path of the type: only serde's own crate has this one, and there can be but
/// one crate of that name whose `Visitor` it implements. Should a compiler cut names short, the test
/// `a_visitor_of_its_own_is_not_bypassed` goes red.
fn visitor_of<'de, T: Deserialize<'de>>() -> Option<&'static str> {
    T::deserialize(AskVisitor).err().and_then(|Answer(visitor)| visitor)
}

/// A deserializer that never makes a value: its error says which visitor was handed to it.
struct AskVisitor;

#[derive(Debug)]
struct Answer(Option<&'static str>);

impl<'de> Deserializer<'de> for AskVisitor {
    type Error = Answer;

    fn deserialize_seq<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Answer> {
        Err(Answer(Some(type_name::<V>())))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Answer> {
        Err(Answer(None))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no value is made here")
    }
}

impl std::error::Error for Answer {}

impl serde::de::Error for Answer {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(None)
    }
}
