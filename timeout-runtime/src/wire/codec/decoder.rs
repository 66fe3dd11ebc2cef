//! Reads what the encoder wrote, and compares: how many fields, under which names, which variant.
//!
//! Lengths come from the sender, so none is believed before it was compared with the bytes that are left.

use serde::de::{Deserializer, Visitor};

use super::access::{Choice, Elements, Items};
use super::error::Owner;
use super::shape::{Kind, Names, Style};
use super::{CodecError, Source, bulk};

/// How much of an unknown name an error shows: it may be no name at all, and long.
const MAX_NAME_SHOWN: usize = 100;

pub(super) struct Decoder<'a, 'de> {
    source: &'a mut Source<'de>,
}

macro_rules! leaves {
    ($($method:ident $visit:ident $kind:ident;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
            self.source.shape.note(Kind::$kind);
            visitor.$visit(self.source.read()?)
        }
    )*};
}

macro_rules! not_without_description {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, CodecError> {
            Err(CodecError::self_describing())
        }
    )*};
}

impl<'de> Deserializer<'de> for Decoder<'_, 'de> {
    type Error = CodecError;

    leaves! {
        deserialize_bool visit_bool Bool;
        deserialize_u8 visit_u8 U8;
        deserialize_u16 visit_u16 U16;
        deserialize_u32 visit_u32 U32;
        deserialize_u64 visit_u64 U64;
        deserialize_u128 visit_u128 U128;
        deserialize_i8 visit_i8 I8;
        deserialize_i16 visit_i16 I16;
        deserialize_i32 visit_i32 I32;
        deserialize_i64 visit_i64 I64;
        deserialize_i128 visit_i128 I128;
        deserialize_f32 visit_f32 F32;
        deserialize_f64 visit_f64 F64;
        deserialize_char visit_char Char;
        deserialize_str visit_borrowed_str Str;
        deserialize_string visit_borrowed_str Str;
    }

    not_without_description!(deserialize_any deserialize_ignored_any deserialize_identifier);

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        let bytes: &[u8] = self.source.read()?;
        self.source.shape.note(Kind::Seq);
        self.source.shape.note_many(Kind::U8, bytes.len() as u64);
        visitor.visit_borrowed_bytes(bytes)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.source.shape.note(Kind::Unit);
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, CodecError> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        visitor.visit_newtype_struct(self).map_err(|e| e.within(name))
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.source.shape.note(Kind::Option);
        match self.source.read()? {
            0u8 => visitor.visit_none(),
            1u8 => self.source.nested(|source| visitor.visit_some(Decoder { source })),
            byte => Err(CodecError::new(format!("the byte {byte} is neither `None` nor `Some`"))),
        }
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        if let Some(numbers) = bulk::take::<V>(self.source) {
            return numbers;
        }
        self.source.shape.note(Kind::Seq);
        let left = self.source.read_length()?;
        self.source.nested(|source| {
            let mut elements = Elements::new(source, left);
            let value = visitor.visit_seq(&mut elements)?;
            elements.finish("a sequence")?;
            Ok(value)
        })
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.source.shape.note(Kind::Map);
        let left = self.source.read_length()?;
        self.source.nested(|source| {
            let mut elements = Elements::new(source, left);
            let value = visitor.visit_map(&mut elements)?;
            elements.finish("a map")?;
            Ok(value)
        })
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, CodecError> {
        self.items(Owner::TUPLE, len, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        self.items(Owner::named(name), len, visitor).map_err(|e| e.within(name))
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        self.fields(Owner::named(name), fields, visitor).map_err(|e| e.within(name))
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        self.source.shape.note(Kind::Enum);
        let index = self.source.read_count()?;
        let length = self.source.read_count()?;
        let written = self.source.take(length)?;
        let variant = find_variant(name, variants, index, written)?;
        let style = match self.source.read()? {
            0u8 => Style::Unit,
            1u8 => Style::Newtype,
            2u8 => Style::Fields,
            byte => return Err(CodecError::new(format!("the byte {byte} is no kind of variant")).within(name)),
        };
        self.source.nested(|source| {
            let mut used = style == Style::Unit;
            let choice = Choice::new(source, Owner { name, variant: Some(variant) }, index, style, &mut used);
            let value = visitor.visit_enum(choice).map_err(|e| e.within(name))?;
            if used { Ok(value) } else { Err(CodecError::elements_not_read("a variant").within(name)) }
        })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl<'a, 'de> Decoder<'a, 'de> {
    #[inline]
    pub(super) fn new(source: &'a mut Source<'de>) -> Self {
        Self { source }
    }

    /// Reads a tuple, or a struct as if it were one.
    #[inline]
    pub(super) fn items<V: Visitor<'de>>(self, owner: Owner, len: usize, visitor: V) -> Result<V::Value, CodecError> {
        self.source.shape.note(Kind::Product);
        let header = self.source.read_count()?;
        if header & 1 == 1 {
            self.source.take(size_of::<u32>())?;
        }
        if header >> 1 != len {
            return Err(CodecError::other_count_read(owner, header >> 1, len));
        }
        let mut items = Items::new(self.source, len);
        let value = visitor.visit_seq(&mut items)?;
        match items.left {
            0 => Ok(value),
            left => Err(CodecError::other_count_read(owner, len, len - left)),
        }
    }

    /// Reads a struct, or a tuple as if it were one.
    #[inline]
    pub(super) fn fields<V: Visitor<'de>>(
        self,
        owner: Owner,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        self.source.shape.note(Kind::Product);
        let header = self.source.read_count()?;
        let written = header >> 1;
        if header & 1 == 1 {
            let names = self.source.take(size_of::<u32>())?;
            // With `#[serde(alias)]`, `fields` holds more names than there are fields, and does not say which are which.
            if written == fields.len() && names != Names::of(fields).digest() {
                return Err(CodecError::other_fields_read(owner));
            }
        }
        if written > fields.len() {
            return Err(CodecError::other_count_read(owner, written, fields.len()));
        }
        let mut items = Items::new(self.source, written);
        let value = visitor.visit_seq(&mut items);
        // Before the visitor's own complaint, which knows less; and it has none where a field has a default. A visitor that
        // reads to the end asks once too often even when nothing is missing.
        if items.asked_for_more && written < fields.len() {
            return Err(CodecError::other_count_read(owner, written, "more"));
        }
        let value = value?;
        match items.left {
            0 => Ok(value),
            left => Err(CodecError::other_count_read(owner, written, written - left)),
        }
    }
}

/// The name of the variant that was written, if the enum can read it.
///
/// derive counts the variants in one way to write them and in another to read them where one has `#[serde(skip)]`, so the
/// index is only a guess.
#[inline]
fn find_variant(
    owner: &'static str,
    variants: &'static [&'static str],
    index: usize,
    written: &[u8],
) -> Result<&'static str, CodecError> {
    if let Some(variant) = variants.get(index)
        && variant.as_bytes() == written
    {
        return Ok(variant);
    }
    let known = variants.iter().find(|variant| variant.as_bytes() == written);
    known.copied().ok_or_else(|| {
        let beginning = &written[..written.len().min(MAX_NAME_SHOWN)];
        CodecError::other_variant_read(String::from_utf8_lossy(beginning), owner)
    })
}
