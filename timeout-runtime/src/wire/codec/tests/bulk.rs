//! The short cut for plain numbers leaves the same bytes and the same values as one call a number.

use std::collections::{LinkedList, VecDeque};
use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{comes_back, decode, encode, refusal};

/// `VecDeque` goes one number at a time.
#[track_caller]
fn goes_both_ways<T: Serialize + DeserializeOwned + Debug + Clone + PartialEq>(numbers: Vec<T>) {
    let one_by_one: VecDeque<T> = numbers.clone().into();
    let bytes = encode(&numbers).unwrap();
    assert_eq!(bytes, encode(&one_by_one).unwrap());
    assert_eq!(decode::<Vec<T>>(&bytes).unwrap(), numbers);
    assert_eq!(decode::<VecDeque<T>>(&bytes).unwrap(), one_by_one);
}

#[test]
fn the_bytes_are_those_of_one_call_a_number() {
    macro_rules! check {
        ($($number:ty)*) => {$(
            for length in [0, 1, 2, 255, 256, 257, 1000] {
                goes_both_ways((0..length).map(|i| <$number>::MAX / 200 as $number * (i % 200) as $number).collect());
            }
        )*};
    }
    check!(u8 u16 u32 u64 u128 usize i16 i32 i64 i128 isize f32 f64);
    goes_both_ways((i8::MIN..=i8::MAX).collect());
}

#[test]
fn other_elements_are_not_mistaken_for_numbers() {
    goes_both_ways(vec![true, false]);
    goes_both_ways(vec!['a', '🦀']);
    goes_both_ways(vec!["a".to_owned()]);
    goes_both_ways(vec![(1u8, 2u8)]);
    goes_both_ways(vec![std::num::NonZeroU64::MIN]);
}

#[test]
fn numbers_are_found_wherever_they_are() {
    #[derive(Serialize, Deserialize, Debug)]
    struct Raw(Vec<u8>);
    #[derive(Serialize, Deserialize, Debug)]
    #[serde(transparent)]
    struct Clear(Vec<u16>);

    comes_back((Raw(vec![1, 2]), Clear(vec![1, 2]), Some(vec![1.5f32]), Box::new(vec![1u64])));
    comes_back((Ok::<_, ()>(vec![1i64]), vec![vec![1u8], vec![2]], LinkedList::from([vec![1.0f64]])));
}

#[test]
fn a_type_may_write_bytes_and_read_numbers() {
    #[derive(Debug)]
    struct Blob(Vec<u8>);

    impl Serialize for Blob {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&self.0)
        }
    }

    impl<'de> Deserialize<'de> for Blob {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Vec::deserialize(deserializer).map(Self)
        }
    }

    comes_back((Blob(vec![]), Blob(vec![1, 2, 3]), Blob(vec![7; 1000])));
}

/// Not even where the result is the very type that goes in bulk.
#[test]
fn a_visitor_of_its_own_is_not_bypassed() {
    fn doubled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
        struct Doubling;

        impl<'de> serde::de::Visitor<'de> for Doubling {
            type Value = Vec<u64>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("numbers")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u64>, A::Error> {
                let mut all = Vec::new();
                while let Some(number) = seq.next_element::<u64>()? {
                    all.push(2 * number);
                }
                Ok(all)
            }
        }

        deserializer.deserialize_seq(Doubling)
    }

    fn halved<S: Serializer>(numbers: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(numbers.iter().map(|number| number / 2))
    }

    #[derive(Serialize, Deserialize, Debug)]
    struct Even {
        #[serde(serialize_with = "halved", deserialize_with = "doubled")]
        numbers: Vec<u64>,
    }

    assert_eq!(encode(&Even { numbers: vec![2, 4] }).unwrap()[13], 1, "what is written is the half");
    comes_back(Even { numbers: vec![2, 4, 6] });
}

#[test]
fn numbers_of_another_width_are_refused() {
    #[derive(Debug)]
    struct Narrow(Vec<u64>);

    impl Serialize for Narrow {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.0.iter().map(|number| *number as u32))
        }
    }

    impl<'de> Deserialize<'de> for Narrow {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Vec::deserialize(deserializer).map(Self)
        }
    }

    comes_back(Narrow(vec![]));
    assert!(refusal(Narrow(vec![1, 2])).starts_with("the bytes end before the value does"));
}
