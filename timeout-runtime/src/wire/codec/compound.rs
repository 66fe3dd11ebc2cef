//! Writes the parts of a sequence, map, tuple or struct one by one, and counts them.

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::encoder::put;
use super::error::Owner;
use super::shape::{Kind, Names};
use super::{CodecError, MAX_EMPTY_ELEMENTS, Room, Sink};

/// The elements of a sequence, or the keys and values of a map.
pub(super) struct Elements<'a> {
    sink: &'a mut Sink,
    room: Room<8>,
    count: u64,
}

impl<'a> Elements<'a> {
    #[inline]
    pub(super) fn new(sink: &'a mut Sink, kind: Kind) -> Result<Self, CodecError> {
        sink.shape.note(kind);
        sink.enter()?;
        let room = sink.leave_room();
        Ok(Self { sink, room, count: 0 })
    }

    #[inline]
    fn finish(self) -> Result<(), CodecError> {
        if self.count > MAX_EMPTY_ELEMENTS && self.sink.is_last(&self.room) {
            return Err(CodecError::too_many_empty_elements(self.count));
        }
        self.sink.fill(self.room, self.count.to_le_bytes());
        self.sink.leave();
        Ok(())
    }
}

impl SerializeSeq for Elements<'_> {
    type Ok = ();
    type Error = CodecError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        self.count += 1;
        put(self.sink, value)
    }

    #[inline]
    fn end(self) -> Result<(), CodecError> {
        self.finish()
    }
}

impl SerializeMap for Elements<'_> {
    type Ok = ();
    type Error = CodecError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CodecError> {
        self.count += 1;
        put(self.sink, key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        put(self.sink, value)
    }

    #[inline]
    fn end(self) -> Result<(), CodecError> {
        self.finish()
    }
}

/// The items of a tuple, which have no names.
pub(super) struct Items<'a> {
    sink: &'a mut Sink,
    owner: Owner,
    announced: usize,
    written: usize,
}

impl<'a> Items<'a> {
    #[inline]
    pub(super) fn new(sink: &'a mut Sink, owner: Owner, announced: usize) -> Result<Self, CodecError> {
        sink.shape.note(Kind::Product);
        sink.put_count(announced << 1)?;
        Ok(Self { sink, owner, announced, written: 0 })
    }

    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        self.written += 1;
        put(self.sink, value).map_err(|e| if self.owner.name == Owner::TUPLE.name { e } else { e.within(self.owner) })
    }

    #[inline]
    fn finish(self) -> Result<(), CodecError> {
        if self.written != self.announced {
            return Err(CodecError::other_count_written(self.owner, self.announced, self.written));
        }
        if self.owner.variant.is_some() {
            self.sink.leave();
        }
        Ok(())
    }
}

macro_rules! items {
    ($($compound:ident::$item:ident;)*) => {$(
        impl $compound for Items<'_> {
            type Ok = ();
            type Error = CodecError;

            #[inline]
            fn $item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
                self.item(value)
            }

            #[inline]
            fn end(self) -> Result<(), CodecError> {
                self.finish()
            }
        }
    )*};
}

items! {
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

/// The fields of a struct, whose names go into a digest.
pub(super) struct Fields<'a> {
    items: Items<'a>,
    digest: Room<4>,
    names: Names,
}

impl<'a> Fields<'a> {
    #[inline]
    pub(super) fn new(sink: &'a mut Sink, owner: Owner, announced: usize) -> Result<Self, CodecError> {
        sink.shape.note(Kind::Product);
        sink.put_count(announced << 1 | 1)?;
        let digest = sink.leave_room();
        Ok(Self { items: Items { sink, owner, announced, written: 0 }, digest, names: Names::default() })
    }
}

macro_rules! fields {
    ($($compound:ident)*) => {$(
        impl $compound for Fields<'_> {
            type Ok = ();
            type Error = CodecError;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), CodecError> {
                self.names.note(key);
                self.items.item(value)
            }

            fn skip_field(&mut self, key: &'static str) -> Result<(), CodecError> {
                Err(CodecError::field_left_out(key, self.items.owner))
            }

            #[inline]
            fn end(self) -> Result<(), CodecError> {
                self.items.sink.fill(self.digest, self.names.digest());
                self.items.finish()
            }
        }
    )*};
}

fields!(SerializeStruct SerializeStructVariant);
