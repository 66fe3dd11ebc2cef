//! Hands a visitor the parts of a sequence, struct, map or enum one by one, and notes what it leaves or wants beyond them.

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::decoder::Decoder;
use super::error::Owner;
use super::shape::Style;
use super::{CodecError, Source};

/// The longest size hint a visitor is given: some reserve room for as many elements, however large one is in memory.
const MAX_HINT: usize = 1 << 16;

/// The items of a tuple or the fields of a struct.
pub(super) struct Items<'a, 'de> {
    source: &'a mut Source<'de>,
    pub(super) left: usize,
    pub(super) asked_for_more: bool,
}

impl<'a, 'de> Items<'a, 'de> {
    #[inline]
    pub(super) fn new(source: &'a mut Source<'de>, left: usize) -> Self {
        Self { source, left, asked_for_more: false }
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = CodecError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, CodecError> {
        if self.left == 0 {
            self.asked_for_more = true;
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(Decoder::new(self.source)).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.source.rest.len()).min(MAX_HINT))
    }
}

/// The elements of a sequence, or the keys and values of a map.
pub(super) struct Elements<'a, 'de> {
    source: &'a mut Source<'de>,
    left: u64,
    value_due: bool,
}

impl<'a, 'de> Elements<'a, 'de> {
    #[inline]
    pub(super) fn new(source: &'a mut Source<'de>, left: u64) -> Self {
        Self { source, left, value_due: false }
    }

    #[inline]
    fn next<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, CodecError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(Decoder::new(self.source)).map(Some)
    }

    #[inline]
    fn hint(&self) -> Option<usize> {
        Some(usize::try_from(self.left).unwrap_or(MAX_HINT).min(self.source.rest.len()).min(MAX_HINT))
    }

    #[inline]
    pub(super) fn finish(self, what: &str) -> Result<(), CodecError> {
        if self.left == 0 && !self.value_due { Ok(()) } else { Err(CodecError::elements_not_read(what)) }
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = CodecError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, CodecError> {
        self.next(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = CodecError;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, CodecError> {
        if self.value_due {
            return Err(CodecError::elements_not_read("a map"));
        }
        self.value_due = self.left > 0;
        self.next(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, CodecError> {
        if !self.value_due {
            return Err(CodecError::elements_not_read("a map"));
        }
        self.value_due = false;
        seed.deserialize(Decoder::new(self.source))
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

/// The variant of an enum, with what it holds still unread.
pub(super) struct Choice<'a, 'de> {
    source: &'a mut Source<'de>,
    owner: Owner,
    index: usize,
    style: Style,
    used: &'a mut bool,
}

impl<'a, 'de> Choice<'a, 'de> {
    #[inline]
    pub(super) fn new(
        source: &'a mut Source<'de>,
        owner: Owner,
        index: usize,
        style: Style,
        used: &'a mut bool,
    ) -> Self {
        Self { source, owner, index, style, used }
    }

    /// Sees to it that a variant is read in the way it was written.
    #[inline]
    fn expect(&mut self, style: Style) -> Result<(), CodecError> {
        *self.used = true;
        if style == self.style { Ok(()) } else { Err(CodecError::other_style_read(self.owner)) }
    }
}

impl<'de> EnumAccess<'de> for Choice<'_, 'de> {
    type Error = CodecError;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), CodecError> {
        let variant = self.owner.variant.unwrap_or_default();
        let value = seed.deserialize(VariantName { variant, index: self.index })?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_, 'de> {
    type Error = CodecError;

    #[inline]
    fn unit_variant(mut self) -> Result<(), CodecError> {
        self.expect(Style::Unit)
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, CodecError> {
        self.expect(Style::Newtype)?;
        seed.deserialize(Decoder::new(self.source)).map_err(|e| e.within(self.owner))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, CodecError> {
        self.expect(Style::Fields)?;
        Decoder::new(self.source).items(self.owner, len, visitor).map_err(|e| e.within(self.owner))
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        self.expect(Style::Fields)?;
        Decoder::new(self.source).fields(self.owner, fields, visitor).map_err(|e| e.within(self.owner))
    }
}

/// Tells a visitor which variant it is: by name, unless it insists on a number.
struct VariantName {
    variant: &'static str,
    index: usize,
}

macro_rules! by_index {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
            visitor.visit_u64(self.index as u64)
        }
    )*};
}

impl<'de> Deserializer<'de> for VariantName {
    type Error = CodecError;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_borrowed_str(self.variant)
    }

    by_index!(deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128);
    by_index!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128);

    forward_to_deserialize_any! {
        bool f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple tuple_struct map
        struct enum identifier ignored_any
    }
}
