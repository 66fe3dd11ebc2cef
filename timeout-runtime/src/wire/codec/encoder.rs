//! Writes a value as serde describes it: bincode's layout, plus the counts and names by which the decoder notices a mismatch.

use std::fmt::Display;
use std::io::Write;

use serde::ser::{Error, Serialize, Serializer};

use super::compound::{Elements, Fields, Items};
use super::error::Owner;
use super::shape::{Kind, Style};
use super::{CodecError, Sink, bulk};

/// Writes one value, in bulk where it is a `Vec` of plain numbers.
#[inline]
pub(super) fn put<T: Serialize + ?Sized>(sink: &mut Sink, value: &T) -> Result<(), CodecError> {
    match bulk::put(sink, value) {
        Some(done) => done,
        None => value.serialize(Encoder { sink }),
    }
}

struct Encoder<'a> {
    sink: &'a mut Sink,
}

macro_rules! leaves {
    ($($method:ident($leaf:ty) $kind:ident;)*) => {$(
        #[inline]
        fn $method(self, value: $leaf) -> Result<(), CodecError> {
            self.sink.shape.note(Kind::$kind);
            self.sink.put(value)
        }
    )*};
}

impl<'a> Serializer for Encoder<'a> {
    type Ok = ();
    type Error = CodecError;
    type SerializeSeq = Elements<'a>;
    type SerializeMap = Elements<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    leaves! {
        serialize_bool(bool) Bool;
        serialize_u8(u8) U8;
        serialize_u16(u16) U16;
        serialize_u32(u32) U32;
        serialize_u64(u64) U64;
        serialize_u128(u128) U128;
        serialize_i8(i8) I8;
        serialize_i16(i16) I16;
        serialize_i32(i32) I32;
        serialize_i64(i64) I64;
        serialize_i128(i128) I128;
        serialize_f32(f32) F32;
        serialize_f64(f64) F64;
        serialize_char(char) Char;
        serialize_str(&str) Str;
    }

    /// Bytes are what a sequence of `u8` is: a type may write the one and read the other.
    fn serialize_bytes(self, value: &[u8]) -> Result<(), CodecError> {
        self.sink.shape.note(Kind::Seq);
        self.sink.shape.note_many(Kind::U8, value.len() as u64);
        self.sink.put(value)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), CodecError> {
        self.sink.shape.note(Kind::Str);
        let room = self.sink.leave_room();
        let start = self.sink.bytes.len();
        write!(self.sink.bytes, "{value}").map_err(CodecError::custom)?;
        let length = self.sink.bytes.len() - start;
        self.sink.fill(room, (length as u64).to_le_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), CodecError> {
        self.sink.shape.note(Kind::Unit);
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), CodecError> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), CodecError> {
        put(self.sink, value).map_err(|e| e.within(name))
    }

    #[inline]
    fn serialize_none(self) -> Result<(), CodecError> {
        self.sink.shape.note(Kind::Option);
        self.sink.put(0u8)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CodecError> {
        self.sink.shape.note(Kind::Option);
        self.sink.put(1u8)?;
        self.sink.enter()?;
        put(self.sink, value)?;
        self.sink.leave();
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(mut self, _: &'static str, index: u32, variant: &'static str) -> Result<(), CodecError> {
        self.variant(index, variant, Style::Unit)?;
        // A level like any other variant, as the decoder counts it.
        self.sink.enter()?;
        self.sink.leave();
        Ok(())
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), CodecError> {
        self.variant(index, variant, Style::Newtype)?;
        self.sink.enter()?;
        put(self.sink, value).map_err(|e| e.within(Owner { name, variant: Some(variant) }))?;
        self.sink.leave();
        Ok(())
    }

    #[inline]
    fn serialize_tuple_variant(
        mut self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items<'a>, CodecError> {
        self.variant(index, variant, Style::Fields)?;
        self.sink.enter()?;
        Items::new(self.sink, Owner { name, variant: Some(variant) }, len)
    }

    #[inline]
    fn serialize_struct_variant(
        mut self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Fields<'a>, CodecError> {
        self.variant(index, variant, Style::Fields)?;
        self.sink.enter()?;
        Fields::new(self.sink, Owner { name, variant: Some(variant) }, len)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Items<'a>, CodecError> {
        Items::new(self.sink, Owner::TUPLE, len)
    }

    #[inline]
    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Items<'a>, CodecError> {
        Items::new(self.sink, Owner::named(name), len)
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Fields<'a>, CodecError> {
        Fields::new(self.sink, Owner::named(name), len)
    }

    /// The length is not needed: the elements are counted as they come, and the count is filled in.
    #[inline]
    fn serialize_seq(self, _: Option<usize>) -> Result<Elements<'a>, CodecError> {
        Elements::new(self.sink, Kind::Seq)
    }

    /// The length is not needed here either, but only `flatten` writes a map without one, and cannot read it back.
    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Elements<'a>, CodecError> {
        match len {
            Some(_) => Elements::new(self.sink, Kind::Map),
            None => Err(CodecError::map_without_length()),
        }
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl Encoder<'_> {
    /// Writes which variant it is. The name decides; the index is for hand-written impls that read a number.
    #[inline]
    fn variant(&mut self, index: u32, variant: &'static str, style: Style) -> Result<(), CodecError> {
        self.sink.shape.note(Kind::Enum);
        self.sink.put_count(index as usize)?;
        self.sink.put_count(variant.len())?;
        self.sink.bytes.extend_from_slice(variant.as_bytes());
        self.sink.put(style as u8)
    }
}
