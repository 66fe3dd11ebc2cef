//! Turns a value into bytes and back, and refuses what would come back changed.
//!
//! serde lets a type write itself in one way and read itself in another. A format with field names notices; bincode, which
//! only knows positions, takes the bytes of one field for those of the next and hands back a *different value* without an
//! error. The promise here is "right or nothing", so the serde side of bincode is replaced by a stricter one: bincode still
//! lays out every number and text ([`Sink`], [`Source`]), while [`encoder`] and [`decoder`] add what it takes to notice:
//!
//! | written                                        | catches                                                              |
//! |------------------------------------------------|----------------------------------------------------------------------|
//! | the count of fields before each tuple, struct  | `skip_serializing`, `skip_deserializing`                             |
//! | a digest of the field names before each struct | two skips that cancel out; another order in a hand-written impl      |
//! | the name of each enum variant                  | `skip` on a variant, which makes derive count them in two ways       |
//! | a digest of all the calls, at the very end     | a `serialize_with` that writes a number where a text is read, …      |
//!
//! The sender may be corrupt but is not an enemy: whatever arrives, nothing here panics, recurses without bound or makes
//! room for more elements than bytes arrived; yet a flipped bit inside a number is a different number.
//!
//! Nothing here may guess: what cannot be carried is an error that says so, never a repaired value.
//!
//! What is still ugly: with `#[serde(alias)]` the names a struct reads cannot be told from their aliases, so for such a
//! struct only the count and the kinds of its fields are compared.

mod access;
mod bulk;
mod compound;
mod decoder;
mod encoder;
mod error;
mod shape;
#[cfg(test)]
mod tests;

use std::any::type_name;

use bincode::config::{Configuration, Fixint, LittleEndian};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use serde::de::DeserializeOwned;
use serde::ser::Serialize;

pub(crate) use error::CodecError;
use shape::Shape;

/// Numbers at their full width: faster than variable ones, and the same whether they go one by one or in bulk.
const CONFIG: Configuration<LittleEndian, Fixint> = bincode::config::standard().with_fixed_int_encoding();

/// How deep options, enums, sequences and maps may nest. A debug build takes up to 3 KiB of stack a level for small types, so
/// that this depth leaves more than half of a thread's 2 MiB; without a limit, a megabyte of ones read as a linked list
/// would overflow it.
const MAX_DEPTH: u32 = 256;

/// How many elements that take no bytes (as in `Vec<()>`) a sequence may have. Nothing else bounds the time to read them.
const MAX_EMPTY_ELEMENTS: u64 = 1 << 20;

/// Encodes a value.
///
/// # Errors
///
/// If the value cannot be carried exactly, or its `Serialize` fails.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut sink = Sink { bytes: Vec::with_capacity(64), shape: Shape::default(), depth: 0 };
    encoder::put(&mut sink, value).map_err(|e| e.within(type_name::<T>()))?;
    sink.put(sink.shape.digest())?;
    Ok(sink.bytes)
}

/// Decodes a value that [`encode`] wrote from a value of the same type. Every byte must be used.
///
/// # Errors
///
/// If the bytes are not what `T` reads, or `T` reads itself in another way than it writes itself.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let read = || {
        let (body, digest) = bytes.split_last_chunk().ok_or_else(CodecError::cut_short)?;
        let mut source = Source { rest: body, shape: Shape::default(), depth: 0 };
        let value = T::deserialize(decoder::Decoder::new(&mut source))?;
        if !source.rest.is_empty() {
            return Err(CodecError::left_over(source.rest.len()));
        }
        if source.shape.digest() != u64::from_le_bytes(*digest) {
            return Err(CodecError::reads_other_than_written());
        }
        Ok(value)
    };
    read().map_err(|e| e.within(type_name::<T>()))
}

/// Where the encoder writes to.
struct Sink {
    bytes: Vec<u8>,
    shape: Shape,
    depth: u32,
}

impl Sink {
    /// Writes one number, character or text in bincode's layout.
    #[inline]
    fn put<V: bincode::Encode>(&mut self, value: V) -> Result<(), CodecError> {
        bincode::encode_into_writer(value, self, CONFIG).map_err(|e| CodecError::new(e.to_string()))
    }

    /// Writes a count that is nearly always small: one byte up to 254.
    #[inline]
    fn put_count(&mut self, count: usize) -> Result<(), CodecError> {
        match u8::try_from(count) {
            Ok(byte) if byte < u8::MAX => self.put(byte),
            _ => {
                self.put(u8::MAX)?;
                self.put(count as u64)
            }
        }
    }

    /// Leaves room for a number that is known later; [`Sink::fill`] puts it there.
    #[inline]
    fn leave_room<const N: usize>(&mut self) -> Room<N> {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; N]);
        Room { at }
    }

    #[inline]
    fn fill<const N: usize>(&mut self, room: Room<N>, number: [u8; N]) {
        self.bytes[room.at..][..N].copy_from_slice(&number);
    }

    /// Whether nothing was written after this room.
    #[inline]
    fn is_last<const N: usize>(&self, room: &Room<N>) -> bool {
        self.bytes.len() == room.at + N
    }

    #[inline]
    fn enter(&mut self) -> Result<(), CodecError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(CodecError::too_deep()) } else { Ok(()) }
    }

    #[inline]
    fn leave(&mut self) {
        self.depth -= 1;
    }
}

impl Writer for Sink {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// `N` bytes of a [`Sink`] that wait for their number.
struct Room<const N: usize> {
    at: usize,
}

/// Where the decoder reads from.
struct Source<'de> {
    rest: &'de [u8],
    shape: Shape,
    depth: u32,
}

impl<'de> Source<'de> {
    /// Reads one number, character or text in bincode's layout. Texts and bytes are borrowed: their length is compared with
    /// what is left before anything is made of it.
    #[inline]
    fn read<V: bincode::BorrowDecode<'de, ()>>(&mut self) -> Result<V, CodecError> {
        match bincode::borrow_decode_from_slice(self.rest, CONFIG) {
            Ok((value, used)) => {
                self.rest = &self.rest[used..];
                Ok(value)
            }
            Err(e) => Err(unreadable(e)),
        }
    }

    /// Reads what [`Sink::put_count`] wrote.
    #[inline]
    fn read_count(&mut self) -> Result<usize, CodecError> {
        match self.read::<u8>()? {
            u8::MAX => self.read(),
            byte => Ok(usize::from(byte)),
        }
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'de [u8], CodecError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(CodecError::cut_short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads the length of a sequence or map. Each element takes a byte at least, unless all of them are empty.
    #[inline]
    fn read_length(&mut self) -> Result<u64, CodecError> {
        let length: u64 = self.read()?;
        if length > self.rest.len() as u64 && length > MAX_EMPTY_ELEMENTS {
            return Err(CodecError::cut_short());
        }
        Ok(length)
    }

    /// Reads something that may hold more of its own kind.
    #[inline]
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, CodecError>) -> Result<T, CodecError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(CodecError::too_deep());
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }
}

/// Says in our words what bincode found wrong.
#[cold]
fn unreadable(error: DecodeError) -> CodecError {
    match error {
        DecodeError::UnexpectedEnd { .. } => CodecError::cut_short(),
        DecodeError::InvalidBooleanValue(byte) => CodecError::new(format!("the byte {byte} is no bool")),
        DecodeError::InvalidCharEncoding(_) => CodecError::new("a character is not valid UTF-8"),
        DecodeError::Utf8 { .. } => CodecError::new("a text is not valid UTF-8"),
        other => CodecError::new(other.to_string()),
    }
}
