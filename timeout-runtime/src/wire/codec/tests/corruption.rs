//! Whatever the bytes are, decoding ends soon, without a panic, and makes no more than the bytes are worth.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{decode, encode};

#[derive(Serialize, Deserialize, Clone)]
enum Tree {
    Leaf(u32),
    Fork(Vec<Tree>),
    Named { left: Option<Box<Tree>>, name: String },
}

#[derive(Serialize, Deserialize, Clone)]
struct Everything {
    numbers: Vec<u64>,
    bytes: Vec<u8>,
    texts: Vec<String>,
    map: BTreeMap<String, Option<char>>,
    lookup: HashMap<u8, bool>,
    tree: Tree,
    result: Result<Vec<(f32, i128)>, String>,
    address: IpAddr,
    limit: Duration,
    units: Vec<()>,
    array: [u16; 3],
}

fn everything() -> Everything {
    Everything {
        numbers: vec![1, u64::MAX],
        bytes: vec![1, 2, 3],
        texts: vec!["one".into(), "zwölf".into()],
        map: [("a".into(), Some('ß')), ("b".into(), None)].into(),
        lookup: [(1, true)].into(),
        tree: Tree::Fork(vec![
            Tree::Leaf(1),
            Tree::Named { left: Some(Box::new(Tree::Fork(vec![]))), name: "n".into() },
        ]),
        result: Ok(vec![(1.5, -1)]),
        address: [127, 0, 0, 1].into(),
        limit: Duration::from_millis(1500),
        units: vec![(); 3],
        array: [1, 2, 3],
    }
}

/// Calls `check` with each sample's bytes and its decoder, which says whether they were accepted.
fn for_each_sample(mut check: impl FnMut(&[u8], fn(&[u8]) -> bool)) {
    fn accepts<T: DeserializeOwned>(bytes: &[u8]) -> bool {
        decode::<T>(bytes).is_ok()
    }
    macro_rules! samples {
        ($($sample:ty: $value:expr;)*) => {$({
            let bytes = encode::<$sample>(&$value).unwrap();
            assert!(accepts::<$sample>(&bytes));
            check(&bytes, accepts::<$sample>);
        })*};
    }
    samples! {
        Everything: everything();
        Tree: everything().tree;
        Vec<u8>: vec![7; 40];
        Vec<f64>: vec![1.5; 5];
        Vec<String>: vec!["a".into(), String::new()];
        Vec<()>: vec![(); 5];
        Option<Option<bool>>: Some(Some(true));
        Result<u32, String>: Err("no".into());
        (): ();
    }
}

/// SplitMix64, with a fixed seed: a failure can be run again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[test]
fn a_truncated_value_is_never_accepted() {
    for_each_sample(|bytes, accepts| {
        (0..bytes.len()).for_each(|end| assert!(!accepts(&bytes[..end]), "{end} of {}", bytes.len()));
    });
}

#[test]
fn an_extended_value_is_never_accepted() {
    for_each_sample(|bytes, accepts| {
        (0..=bytes.len()).for_each(|at| assert!(!accepts(&[&bytes[..at], &[0], &bytes[at..]].concat()), "at {at}"));
    });
}

#[test]
fn a_changed_byte_is_survived() {
    for_each_sample(|bytes, accepts| {
        let mut changed = bytes.to_vec();
        for at in 0..bytes.len() {
            for flip in 1..=u8::MAX {
                changed[at] = bytes[at] ^ flip;
                accepts(&changed);
            }
            changed[at] = bytes[at];
        }
    });
}

#[test]
fn a_huge_number_anywhere_is_survived() {
    for_each_sample(|bytes, accepts| {
        for huge in [u64::MAX, u64::MAX / 8, u64::MAX / 16 + 1, 1 << 63, 1 << 40, 1 << 32, 1 << 25] {
            for at in 0..bytes.len().saturating_sub(8) {
                let mut changed = bytes.to_vec();
                changed[at..at + 8].copy_from_slice(&huge.to_le_bytes());
                accepts(&changed);
            }
        }
    });
}

#[test]
fn junk_is_survived() {
    let mut random = Random(42);
    for_each_sample(|bytes, accepts| {
        for _ in 0..5_000 {
            let length = random.next() as usize % 200;
            let junk: Vec<u8> = (0..length).map(|_| random.next() as u8 & random.next() as u8).collect();
            // Junk after a good start gets further in.
            let start = random.next() as usize % bytes.len();
            accepts(&junk);
            accepts(&[&bytes[..start], &junk].concat());
        }
    });
}

#[test]
fn an_endless_list_does_not_overflow_the_stack() {
    #[derive(Serialize, Deserialize, Debug)]
    struct List(Option<Box<List>>);

    let error = decode::<List>(&vec![1; 4 << 20]).unwrap_err();
    assert!(error.to_string().starts_with("the value is nested more than"));
}

/// Some visitors reserve as much as they are told to expect.
#[test]
fn no_visitor_is_told_to_expect_more_than_arrived() {
    struct Hint;

    impl<'de> Deserialize<'de> for Hint {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_seq(Self)
        }
    }

    impl<'de> Visitor<'de> for Hint {
        type Value = Self;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a sequence")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self, A::Error> {
            Err(A::Error::custom(format!("told {}", seq.size_hint().unwrap())))
        }
    }

    fn told(length: usize, claimed: u64) -> String {
        let mut bytes = encode(&vec![0u8; length]).unwrap();
        bytes[..8].copy_from_slice(&claimed.to_le_bytes());
        decode::<Hint>(&bytes).err().unwrap().to_string()
    }

    assert!(told(100, 100).starts_with("told 100 "));
    assert!(told(100, 1_000).starts_with("told 100 "));
    assert!(told(100_000, 100_000).starts_with("told 65536 "));
    assert!(told(100, u64::MAX).starts_with("the bytes end before the value does"));
}
