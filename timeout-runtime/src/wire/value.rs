//! How a value crosses: numbers and text as their own memory, everything else through the codec.
//!
//! A number, a `Vec<u8>`, a `String` or a vector of plain numbers is written from where it lies and read to where it will stay.
//! Every other value is encoded, and then decoded once in the child: a `Deserialize` that fails, panics or never ends
//! does so there, where the limit reaches it, and not in the caller.

use std::{
    borrow::Cow,
    os::fd::BorrowedFd,
    panic::{RefUnwindSafe, UnwindSafe},
    time::{Duration, Instant},
};

use bytemuck::{AnyBitPattern, NoUninit};
use castaway::cast;
use serde::{Serialize, de::DeserializeOwned};

use super::codec;
use crate::sys::pipe::{self, PlainVec};

/// A value made ready for the journey.
pub(crate) enum Packed<'a> {
    Plain(&'a [u8]),
    Encoded(Vec<u8>),
}

impl<'a> Packed<'a> {
    pub(crate) fn into_bytes(self) -> Cow<'a, [u8]> {
        match self {
            Packed::Plain(bytes) => Cow::Borrowed(bytes),
            Packed::Encoded(bytes) => Cow::Owned(bytes),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Packed::Plain(bytes) => bytes,
            Packed::Encoded(bytes) => bytes,
        }
    }
}

/// Makes a value ready; says why it cannot travel otherwise.
pub(crate) fn pack<T: Serialize>(value: &T) -> Result<Packed<'_>, String> {
    match plain_bytes(value) {
        Some(bytes) => Ok(Packed::Plain(bytes)),
        None => codec::encode(value).map(Packed::Encoded).map_err(|error| error.to_string()),
    }
}

/// The same for the items of a vector that is only borrowed.
pub(crate) fn pack_items<T: Serialize>(items: &[T]) -> Result<Packed<'_>, String> {
    match plain_items(items) {
        Some(bytes) => Ok(Packed::Plain(bytes)),
        None => codec::encode(items).map(Packed::Encoded).map_err(|error| error.to_string()),
    }
}

/// Text or plain numbers that were moved out of a value.
pub(crate) struct Plain(Box<dyn AsRef<[u8]> + Send + Sync + UnwindSafe + RefUnwindSafe>);

impl Plain {
    pub(crate) fn bytes(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes().len())
    }
}

/// A vector of plain numbers, seen as bytes.
struct Moved<P>(Vec<P>);

impl<P: NoUninit> AsRef<[u8]> for Moved<P> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Decodes what [`pack`] made, to see that the caller will be able to; says why not otherwise. Gives how long it took.
pub(crate) fn rehearse<T: DeserializeOwned>(packed: &Packed<'_>) -> Result<Duration, String> {
    let Packed::Encoded(bytes) = packed else { return Ok(Duration::ZERO) };
    let begin = Instant::now();
    // The value is not dropped: the child is about to end, and a destructor could have effects.
    codec::decode::<T>(bytes).map(std::mem::forget).map_err(|error| error.to_string())?;
    Ok(begin.elapsed())
}

/// Where the payload of a value lands while it arrives.
pub(crate) trait Landing {
    /// Makes room for more, in proportion to what has arrived; says why it cannot otherwise.
    fn make_room(&mut self, left: u64) -> Result<(), String>;
    /// Takes as many of `bytes` as there is room for.
    fn copy_from(&mut self, bytes: &[u8]) -> usize;
    /// Reads from `pipe` into the room there is, up to `at_most` bytes.
    fn read_from(&mut self, pipe: BorrowedFd<'_>, at_most: u64) -> nix::Result<usize>;
}

impl<P: AnyBitPattern + NoUninit> Landing for PlainVec<P> {
    fn make_room(&mut self, left: u64) -> Result<(), String> {
        PlainVec::make_room(self, left).map_err(|error| format!("there was no room for {left} bytes more: {error}"))
    }

    fn copy_from(&mut self, bytes: &[u8]) -> usize {
        PlainVec::copy_from(self, bytes)
    }

    fn read_from(&mut self, pipe: BorrowedFd<'_>, at_most: u64) -> nix::Result<usize> {
        PlainVec::read_from(self, pipe, at_most)
    }
}

/// Holds a value that arrives, and gives it when it is whole.
pub(crate) enum Inbox<T> {
    /// Without the heap: after a fork, each page of it that is touched again is copied.
    Number(NumberBytes),
    Other(Box<dyn Opens<T>>),
}

impl<T> Inbox<T> {
    pub(crate) fn landing(&mut self) -> &mut dyn Landing {
        match self {
            Inbox::Number(bytes) => bytes,
            Inbox::Other(inbox) => inbox.landing(),
        }
    }

    /// Opens what has arrived; says what is wrong with it otherwise.
    pub(crate) fn open(self) -> Result<T, String> {
        match self {
            Inbox::Number(bytes) => bytes.whole().and_then(number).ok_or_else(|| "it is not one number".into()),
            Inbox::Other(inbox) => inbox.open(),
        }
    }
}

/// The memory of a number that arrives.
pub(crate) struct NumberBytes {
    bytes: [u8; size_of::<u128>()],
    size: usize,
    filled: usize,
}

impl NumberBytes {
    fn of(size: usize) -> NumberBytes {
        NumberBytes { bytes: [0; _], size, filled: 0 }
    }

    fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..self.size]
    }

    fn whole(&self) -> Option<&[u8]> {
        (self.filled == self.size).then(|| &self.bytes[..self.size])
    }
}

impl Landing for NumberBytes {
    fn make_room(&mut self, left: u64) -> Result<(), String> {
        let fits = usize::try_from(left).is_ok_and(|left| left <= self.rest().len());
        if fits { Ok(()) } else { Err("it is more than one number".into()) }
    }

    fn copy_from(&mut self, bytes: &[u8]) -> usize {
        let rest = self.rest();
        let count = bytes.len().min(rest.len());
        rest[..count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        count
    }

    fn read_from(&mut self, pipe: BorrowedFd<'_>, at_most: u64) -> nix::Result<usize> {
        let rest = self.rest();
        let length = rest.len().min(usize::try_from(at_most).unwrap_or(usize::MAX));
        let count = pipe::read(pipe, &mut rest[..length])?;
        self.filled += count;
        Ok(count)
    }
}

/// The same for every other type, by its own kind of landing.
pub(crate) trait Opens<T> {
    fn landing(&mut self) -> &mut dyn Landing;
    fn open(self: Box<Self>) -> Result<T, String>;
}

struct Encoded(PlainVec<u8>);
struct Text(PlainVec<u8>);
struct Numbers<P>(PlainVec<P>);

impl<T: DeserializeOwned> Opens<T> for Encoded {
    fn landing(&mut self) -> &mut dyn Landing {
        &mut self.0
    }

    fn open(self: Box<Self>) -> Result<T, String> {
        let bytes = self.0.finish().unwrap_or_default();
        codec::decode(&bytes).map_err(|error| error.to_string())
    }
}

impl<T> Opens<T> for Text {
    fn landing(&mut self) -> &mut dyn Landing {
        &mut self.0
    }

    fn open(self: Box<Self>) -> Result<T, String> {
        let text = String::from_utf8(self.0.finish().unwrap_or_default()).map_err(|error| error.to_string())?;
        into(text, |text, result: &mut Option<T>| {
            cast!(result, &mut Option<String>).map(|slot| *slot = Some(text)).ok()
        })
    }
}

/// Gives `plain` as a `T`, which it is.
fn into<P, T>(plain: P, store: impl FnOnce(P, &mut Option<T>) -> Option<()>) -> Result<T, String> {
    let mut result = None;
    store(plain, &mut result);
    result.ok_or_else(|| "it is of another type than it was taken for".into())
}

/// What travels as its own memory: one line per type, and nothing else in this file names them.
macro_rules! plain_numbers {
    ($($number:ty)*) => {
        /// The memory of a value that travels as such.
        fn plain_bytes<T>(value: &T) -> Option<&[u8]> {
            if let Ok(text) = cast!(value, &String) {
                return Some(text.as_bytes());
            }
            $(if let Ok(numbers) = cast!(value, &Vec<$number>) {
                return Some(bytemuck::cast_slice(numbers));
            })*
            $(if let Ok(number) = cast!(value, &$number) {
                return Some(bytemuck::bytes_of(number));
            })*
            None
        }

        /// Moves the memory out of a value that travels as such, and leaves it empty.
        pub(crate) fn take_plain<T>(value: &mut T) -> Option<Plain> {
            if let Ok(text) = cast!(&mut *value, &mut String) {
                return Some(Plain(Box::new(std::mem::take(text))));
            }
            $(if let Ok(numbers) = cast!(&mut *value, &mut Vec<$number>) {
                return Some(Plain(Box::new(Moved(std::mem::take(numbers)))));
            })*
            None
        }

        /// The same for items without their vector.
        fn plain_items<T>(items: &[T]) -> Option<&[u8]> {
            $(if let Ok(numbers) = cast!(items, &[$number]) {
                return Some(bytemuck::cast_slice(numbers));
            })*
            None
        }

        /// An inbox for a value of type `T`, of the kind that [`pack`] chooses for it.
        pub(crate) fn inbox<T: DeserializeOwned>() -> Inbox<T> {
            let sample = None::<T>;
            $(if cast!(&sample, &Option<$number>).is_ok() {
                return Inbox::Number(NumberBytes::of(size_of::<$number>()));
            })*
            if cast!(&sample, &Option<String>).is_ok() {
                return Inbox::Other(Box::new(Text(PlainVec::new())));
            }
            $(if cast!(&sample, &Option<Vec<$number>>).is_ok() {
                return Inbox::Other(Box::new(Numbers::<$number>(PlainVec::new())));
            })*
            Inbox::Other(Box::new(Encoded(PlainVec::new())))
        }

        /// The number whose memory this is.
        fn number<T>(bytes: &[u8]) -> Option<T> {
            let mut result = None::<T>;
            $(if let Ok(slot) = cast!(&mut result, &mut Option<$number>) {
                *slot = bytemuck::try_pod_read_unaligned(bytes).ok();
            })*
            result
        }

        $(impl<T> Opens<T> for Numbers<$number> {
            fn landing(&mut self) -> &mut dyn Landing {
                &mut self.0
            }

            fn open(self: Box<Self>) -> Result<T, String> {
                let numbers = self.0.finish().ok_or("its last number is not whole")?;
                into(numbers, |numbers, result: &mut Option<T>| {
                    cast!(result, &mut Option<Vec<$number>>).map(|slot| *slot = Some(numbers)).ok()
                })
            }
        })*
    };
}

plain_numbers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

#[cfg(test)]
mod tests {
    use super::*;

    fn travels<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, plain: bool) {
        let packed = pack(value).unwrap();
        assert_eq!(matches!(packed, Packed::Plain(_)), plain, "{value:?}");
        rehearse::<T>(&packed).unwrap();
        let mut inbox = inbox::<T>();
        let mut bytes = packed.bytes();
        while !bytes.is_empty() {
            inbox.landing().make_room(bytes.len() as u64).unwrap();
            let taken = inbox.landing().copy_from(bytes);
            bytes = &bytes[taken..];
        }
        assert_eq!(&inbox.open().unwrap(), value);
    }

    #[test]
    fn numbers_and_text_travel_as_their_own_memory() {
        travels(&vec![1u8, 2, 3], true);
        travels(&vec![u128::MAX, 0], true);
        travels(&vec![-1.5f64, f64::INFINITY], true);
        travels(&Vec::<i16>::new(), true);
        travels(&u64::MAX, true);
        travels(&-0.5f32, true);
        travels(&String::from("ahoj, světe"), true);
    }

    #[test]
    fn everything_else_travels_encoded() {
        travels(&vec![true, false], false);
        travels(&Some(vec![1u8]), false);
        travels(&((), 7u8, 'x'), false);
    }

    #[test]
    fn what_is_not_one_number_is_an_error() {
        for bytes in [0, 3, 8] {
            let mut inbox = inbox::<u64>();
            for _ in 0..bytes {
                inbox.landing().make_room(1).unwrap();
                assert_eq!(inbox.landing().copy_from(&[1]), 1);
            }
            assert_eq!(inbox.open().is_ok(), bytes == 8, "{bytes} bytes");
        }
        assert!(inbox::<u64>().landing().make_room(9).is_err());
        assert!(inbox::<u128>().landing().make_room(u64::MAX).is_err());
        assert_eq!(inbox::<u16>().landing().copy_from(&[1; 100]), 2);
    }

    #[test]
    fn text_that_is_none_is_an_error() {
        let mut inbox = inbox::<String>();
        inbox.landing().make_room(1).unwrap();
        inbox.landing().copy_from(&[0xff]);
        assert!(inbox.open().is_err());
    }
}
