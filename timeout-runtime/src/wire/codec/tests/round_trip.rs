//! Everything that serde can describe without a self-describing format comes back as it was.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::ffi::{CString, OsString};
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU64, Wrapping};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Mutex, atomic::AtomicU32};
use std::time::{Duration, UNIX_EPOCH};

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{comes_back, decode, encode};
use crate::wire::codec::MAX_EMPTY_ELEMENTS;

#[derive(Serialize, Deserialize, Debug)]
struct Nothing;

#[derive(Serialize, Deserialize, Debug)]
struct Braces {}

#[derive(Serialize, Deserialize, Debug)]
struct Meters(f64);

#[derive(Serialize, Deserialize, Debug)]
#[serde(transparent)]
struct Clear {
    pixels: Vec<u8>,
}

#[derive(Serialize, Deserialize, Debug)]
struct Pair(u8, String);

#[derive(Serialize, Deserialize, Debug)]
struct Named<T> {
    #[serde(rename = "a field with a name of more than eight bytes")]
    a: T,
    #[serde(alias = "old_b", alias = "older_b")]
    b: Option<T>,
    #[serde(skip)]
    #[expect(dead_code, reason = "only skipped")]
    cache: u32,
    #[serde(default)]
    c: Vec<T>,
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
enum Choice<T> {
    Unit,
    NewType(T),
    Tuple(T, #[serde(skip)] u8, T),
    #[serde(rename = "a", alias = "b")]
    Renamed {
        left: T,
        #[serde(alias = "rechts")]
        right: Option<T>,
    },
    EmptyTuple(),
    EmptyStruct {},
    SkippedInside(#[serde(skip)] u8),
}

#[derive(Serialize, Deserialize, Debug)]
enum Tree {
    Leaf(u32),
    Fork(Box<Tree>, Box<Tree>),
}

#[derive(Serialize, Deserialize, Debug, Clone)]
#[serde(into = "(u32, u32)", from = "Both")]
struct Asymmetric {
    left: u32,
    right: u32,
}

#[derive(Deserialize)]
struct Both {
    left: u32,
    right: u32,
}

impl From<Asymmetric> for (u32, u32) {
    fn from(both: Asymmetric) -> Self {
        (both.left, both.right)
    }
}

impl From<Both> for Asymmetric {
    fn from(both: Both) -> Self {
        Self { left: both.left, right: both.right }
    }
}

#[test]
fn numbers_come_back_to_the_last_bit() {
    comes_back((u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX));
    comes_back((i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN));
    comes_back((f32::MIN, f64::MAX, f64::INFINITY, -0.0f64, f64::EPSILON, f32::NAN));
    comes_back((true, false, 'a', 'ß', '€', '🦀', '\0', char::MAX));
    comes_back((NonZeroU8::MAX, NonZeroU64::MIN, Wrapping(7i8), AtomicU32::new(7)));

    let odd_nan = f64::from_bits(0x7ff8_0000_dead_beef);
    let back: f64 = decode(&encode(&odd_nan).unwrap()).unwrap();
    assert_eq!(back.to_bits(), odd_nan.to_bits());
}

#[test]
fn texts_bytes_and_paths_come_back() {
    comes_back(String::new());
    comes_back("ein Text, τι 🦀\0".to_owned());
    comes_back((Cow::Borrowed("borrowed") as Cow<'static, str>, Box::<str>::from("boxed")));
    comes_back((CString::new("c").unwrap(), OsString::from("os"), PathBuf::from("/a/b")));
}

#[test]
fn nothing_comes_back_as_nothing() {
    comes_back(());
    comes_back((Nothing, Braces {}, PhantomData::<String>, [0u8; 0]));
    comes_back(vec![(); 1000]);
    comes_back(vec![Nothing, Nothing]);
    comes_back(vec![(); MAX_EMPTY_ELEMENTS as usize]);
    comes_back((None::<()>, Some(()), Some(None::<()>), Some(Some(()))));
}

#[test]
fn products_come_back() {
    comes_back((1u8,));
    comes_back((1u8, 2u16, 3u32, 4u64, 'a', 'b', "c".to_owned(), 8, 9, 10, 11, 12));
    comes_back([1u64; 32]);
    comes_back([[1.5f32; 3]; 3]);
    comes_back((Meters(1.5), Pair(1, "x".into()), Clear { pixels: vec![1, 2] }));
    comes_back(Named { a: 1, b: Some(2), cache: 0, c: vec![3] });
    comes_back(Named { a: "a".to_owned(), b: None, cache: 0, c: vec![] });
    comes_back(vec![Asymmetric { left: 1, right: 2 }; 3]);
    comes_back((1..5, 1..=5, ..5, Reverse(1), Cell::new(1), RefCell::new(1), Mutex::new(1)));
    comes_back((Duration::new(5, 7), UNIX_EPOCH + Duration::new(1_700_000_000, 1)));
}

#[test]
fn collections_come_back() {
    comes_back(Vec::<u32>::new());
    comes_back(vec![vec![1u16], vec![], vec![2, 3]]);
    comes_back((Box::<[u64]>::from([1, 2]), VecDeque::from([1u8, 2]), LinkedList::from([1.5f32])));
    comes_back((BTreeSet::from(['a', 'b']), HashSet::from([1u8]), BinaryHeap::from([1])));
    comes_back(BTreeMap::from([("a".to_owned(), vec![1u64]), ("b".to_owned(), vec![])]));
    comes_back(HashMap::from([((1u8, 2u8), Some("x".to_owned()))]));
    comes_back(BTreeMap::from([((), ())]));
}

#[test]
fn enums_come_back() {
    comes_back(vec![Ok(1u8), Err("no".to_owned())]);
    comes_back((Bound::Included(1), Bound::Excluded('x'), Bound::<u8>::Unbounded));
    comes_back([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    comes_back((SocketAddr::from(([127, 0, 0, 1], 80)), SocketAddr::from(([0; 16], 80))));
    comes_back(vec![
        Choice::Unit,
        Choice::NewType(1u8),
        Choice::Tuple(1, 0, 2),
        Choice::Renamed { left: 1, right: Some(2) },
        Choice::EmptyTuple(),
        Choice::EmptyStruct {},
        Choice::SkippedInside(0),
    ]);
    comes_back(Tree::Fork(
        Box::new(Tree::Leaf(1)),
        Box::new(Tree::Fork(Box::new(Tree::Leaf(2)), Box::new(Tree::Leaf(3)))),
    ));
}

#[test]
fn a_count_over_254_takes_the_long_form() {
    /// serde's own arrays end at 32.
    #[derive(Debug)]
    struct Long([u8; 300]);

    impl Serialize for Long {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut tuple = serializer.serialize_tuple(self.0.len())?;
            self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
            tuple.end()
        }
    }

    impl<'de> Deserialize<'de> for Long {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Gather;

            impl<'de> Visitor<'de> for Gather {
                type Value = Long;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("300 bytes")
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Long, A::Error> {
                    let mut all = Vec::new();
                    while let Some(byte) = seq.next_element()? {
                        all.push(byte);
                    }
                    all.try_into().map(Long).map_err(|_| A::Error::custom("not 300 bytes"))
                }
            }

            deserializer.deserialize_tuple(300, Gather)
        }
    }

    comes_back(Long([7; 300]));
}

#[test]
fn borrowed_values_are_written_like_owned_ones() {
    assert_eq!(encode("text").unwrap(), encode(&"text".to_owned()).unwrap());
    assert_eq!(encode(&[1u8, 2][..]).unwrap(), encode(&vec![1u8, 2]).unwrap());
    assert_eq!(encode(&(&1u8, &Some(&"x"))).unwrap(), encode(&(1u8, Some("x".to_owned()))).unwrap());
}
