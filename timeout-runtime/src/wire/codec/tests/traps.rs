//! Types that write themselves in one way and read themselves in another. Each is shown to be a trap for bincode alone.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use serde::de::{DeserializeOwned, EnumAccess, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{comes_back, decode, encode, plain, refusal};
use crate::wire::codec::{MAX_DEPTH, MAX_EMPTY_ELEMENTS};

#[test]
fn a_field_left_out_is_refused_by_name() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Skip {
        #[serde(skip_serializing_if = "Option::is_none")]
        a: Option<u8>,
        b: u32,
        c: Vec<u8>,
    }
    let value = Skip { a: None, b: 1, c: vec![0, 0] };
    assert_eq!(plain(&value), Some(Skip { a: Some(0), b: 0x2_0000, c: vec![] }), "the trap");
    assert_eq!(
        refusal(value),
        "field `a` of `Skip` was left out (`skip_serializing_if`), which this encoding cannot carry; remove the \
         attribute or return another type"
    );
    comes_back(Skip { a: Some(1), b: 1, c: vec![] });
}

#[test]
fn a_field_left_out_of_a_variant_or_tuple_is_refused() {
    #[derive(Serialize, Deserialize, Debug)]
    enum E {
        V {
            #[serde(skip_serializing_if = "Option::is_none")]
            a: Option<u8>,
        },
    }
    #[derive(Serialize, Deserialize, Debug)]
    struct P(#[serde(skip_serializing_if = "Option::is_none")] Option<u8>, u8);

    assert!(refusal(E::V { a: None }).contains("field `a` of `E::V` was left out"));
    assert!(refusal(P(None, 1)).starts_with("`P` writes 1 field and reads 2"));
    comes_back((E::V { a: Some(1) }, P(Some(1), 1)));
}

#[test]
fn a_field_skipped_on_one_side_is_refused() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Unwritten {
        #[serde(skip_serializing, default)]
        a: u8,
        b: u8,
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct LastUnwritten {
        a: u8,
        #[serde(skip_serializing, default)]
        b: u8,
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Unread {
        #[serde(skip_deserializing)]
        a: u8,
        b: u8,
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Crossed {
        #[serde(skip_serializing, default)]
        a: u8,
        #[serde(skip_deserializing)]
        b: u8,
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct UnreadItem(u8, #[serde(skip_deserializing)] u8);

    assert_eq!(plain(&Crossed { a: 1, b: 2 }), Some(Crossed { a: 2, b: 0 }), "the trap");
    assert!(refusal(Unwritten { a: 1, b: 2 }).starts_with("`Unwritten` writes 1 field and reads more"));
    assert!(refusal(LastUnwritten { a: 1, b: 2 }).starts_with("`LastUnwritten` writes 1 field and reads more"));
    assert!(refusal(Unread { a: 1, b: 2 }).starts_with("`Unread` writes 2 fields and reads 1"));
    assert!(refusal(Crossed { a: 1, b: 2 }).starts_with("`Crossed` reads its fields under other names"));
    assert!(refusal(UnreadItem(1, 2)).starts_with("`UnreadItem` writes 2 fields and reads 1"));
}

/// derive numbers all variants to write them, and to read them only those that are not skipped.
#[test]
fn a_skipped_variant_does_not_shift_the_others() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    enum Shifted {
        A,
        #[serde(skip)]
        #[expect(dead_code, reason = "it only shifts the others")]
        B,
        C,
        D,
    }
    assert_eq!(plain(&Shifted::C), Some(Shifted::D), "the trap");
    comes_back([Shifted::A, Shifted::C, Shifted::D]);
}

#[test]
fn a_variant_read_under_another_name_is_refused() {
    #[derive(Serialize, Deserialize, Debug)]
    enum E {
        #[serde(rename(serialize = "x", deserialize = "y"))]
        A,
        #[serde(skip_deserializing)]
        B,
        #[serde(skip_serializing)]
        C,
    }
    assert!(refusal(E::A).starts_with("variant `x` of `E` is written but not read back"));
    assert!(refusal(E::B).starts_with("variant `B` of `E` is written but not read back"));
    assert_eq!(
        refusal(E::C),
        format!("the enum variant E::C cannot be serialized (in `{}`)", std::any::type_name::<E>())
    );
}

#[test]
fn a_variant_that_writes_no_value_and_reads_one_is_refused() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    enum E {
        V(#[serde(skip_serializing)] u8),
    }
    assert_eq!(plain(&(E::V(1), 5u8, ())), None);
    assert_eq!(plain(&(E::V(1), [5u8, 6], Hungry(1))), Some((E::V(5), [6, 1], Hungry(0))), "the trap");
    assert!(refusal((E::V(1), 5u8)).starts_with("`E::V` does not read what it writes"));
}

/// Reads nothing, to use up what the trap before it leaves over.
#[derive(Serialize, Debug, PartialEq)]
struct Hungry(u8);

impl<'de> Deserialize<'de> for Hungry {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self(0))
    }
}

#[test]
fn fields_written_in_another_order_are_refused() {
    #[derive(Deserialize, Debug, PartialEq)]
    struct Point {
        x: u8,
        y: u8,
    }
    impl Serialize for Point {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut fields = serializer.serialize_struct("Point", 2)?;
            fields.serialize_field("y", &self.y)?;
            fields.serialize_field("x", &self.x)?;
            fields.end()
        }
    }
    assert_eq!(plain(&Point { x: 1, y: 2 }), Some(Point { x: 2, y: 1 }), "the trap");
    assert!(
        refusal(Point { x: 1, y: 2 }).starts_with("`Point` reads its fields under other names or in another order")
    );
}

#[test]
fn a_struct_that_miscounts_its_fields_is_refused() {
    #[derive(Deserialize, Debug)]
    struct One {
        #[expect(dead_code, reason = "only read")]
        a: u8,
    }
    impl Serialize for One {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut fields = serializer.serialize_struct("One", 2)?;
            fields.serialize_field("a", &1u8)?;
            fields.end()
        }
    }
    assert_eq!(refusal(One { a: 1 }), "`One` announces 2 fields and writes 1; correct its `Serialize`");
}

#[test]
fn a_value_read_as_another_kind_is_refused() {
    fn as_text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }
    fn as_number<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(text.len() as u64)
    }
    fn signed<S: Serializer>(number: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(*number as i32)
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Crossed {
        #[serde(serialize_with = "as_number")]
        text: String,
        #[serde(serialize_with = "as_text")]
        number: u64,
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Signed {
        #[serde(serialize_with = "signed")]
        number: u32,
    }
    let crossed = || Crossed { text: "1".into(), number: 7 };
    assert_eq!(plain(&crossed()), Some(Crossed { text: "\u{1}".into(), number: 0x3700_0000_0000_0000 }), "the trap");
    assert!(refusal(crossed()).starts_with("the type reads other kinds of values than it writes"));
    assert_eq!(
        plain(&Signed { number: 1 << 31 }),
        Some(Signed { number: 1 << 31 }),
        "harmless here, but not known to be"
    );
    assert!(refusal(Signed { number: 1 << 31 }).starts_with("the type reads other kinds of values than it writes"));
}

#[test]
fn types_that_need_a_self_describing_format_are_refused() {
    #[derive(Serialize, Deserialize, Debug)]
    #[serde(untagged)]
    enum Untagged {
        A(u8),
    }
    #[derive(Serialize, Deserialize, Debug)]
    #[serde(tag = "t")]
    enum Internal {
        A { a: u8 },
    }
    #[derive(Serialize, Deserialize, Debug)]
    #[serde(tag = "t", content = "c")]
    enum Adjacent {
        A(u8),
    }
    #[derive(Serialize, Deserialize, Debug)]
    struct Holder {
        any: Dynamic,
    }
    /// As `serde_json::Value` and its like do.
    #[derive(Serialize, Debug)]
    struct Dynamic(u8);
    impl<'de> Deserialize<'de> for Dynamic {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(IgnoredAny).map(|_| Self(0))
        }
    }
    #[derive(Serialize, Deserialize, Debug)]
    struct Outer {
        a: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }
    let cause = "the type must be told what the bytes hold (an `untagged` or `tag = …` enum";
    assert!(refusal(Untagged::A(1)).starts_with(cause));
    assert!(refusal(Internal::A { a: 1 }).starts_with(cause));
    assert!(refusal(Adjacent::A(1)).starts_with(cause));
    let text = refusal(Holder { any: Dynamic(1) });
    assert!(text.starts_with(cause) && text.ends_with("(in `Holder`)"), "{text}");
    let text = refusal(Outer { a: 1, rest: BTreeMap::new() });
    assert!(text.starts_with("a map does not know its length (`flatten`"), "{text}");
}

#[test]
fn a_sequence_need_not_know_its_length() {
    struct Odd;
    impl Serialize for Odd {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(None)?;
            (1u8..6).filter(|n| n % 2 == 1).try_for_each(|n| seq.serialize_element(&n))?;
            seq.end()
        }
    }
    assert_eq!(decode::<Vec<u8>>(&encode(&Odd).unwrap()).unwrap(), [1, 3, 5]);
}

#[test]
fn a_wrong_length_is_corrected() {
    struct Liar;
    impl Serialize for Liar {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(7))?;
            map.serialize_entry("a", &1u8)?;
            map.end()
        }
    }
    assert_eq!(decode::<BTreeMap<String, u8>>(&encode(&Liar).unwrap()).unwrap(), [("a".to_owned(), 1)].into());
}

#[derive(Serialize, Deserialize, Debug)]
struct List {
    next: Option<Box<List>>,
}

fn list(depth: u32) -> List {
    (1..depth).fold(List { next: None }, |list, _| List { next: Some(Box::new(list)) })
}

#[test]
fn the_deepest_value_fits_half_of_a_thread() {
    let run = || {
        let deepest = encode(&list(MAX_DEPTH + 1)).unwrap();
        assert_eq!(encode(&decode::<List>(&deepest).unwrap()).unwrap(), deepest);
        let error = encode(&list(MAX_DEPTH + 2)).unwrap_err().to_string();
        assert!(error.starts_with("the value is nested more than 256 levels deep"), "{error}");
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
}

/// Else a value would be sent that cannot be read.
#[test]
fn both_sides_count_the_levels_alike() {
    #[derive(Serialize, Deserialize, Debug)]
    enum Chain {
        Unit,
        Newtype(Box<Chain>),
        Tuple(Box<Chain>, u8),
        Struct { next: Box<Chain>, all: Vec<Chain>, map: BTreeMap<u8, Chain>, maybe: Option<Box<Chain>> },
    }
    let (mut accepted, mut refused) = (0, 0);
    for depth in 1..MAX_DEPTH {
        let chain = (0..depth).fold(Chain::Unit, |next, level| {
            let (mut all, mut map, mut maybe) = (vec![], BTreeMap::new(), None);
            match level % 5 {
                0 => return Chain::Newtype(next.into()),
                1 => return Chain::Tuple(next.into(), 1),
                2 => all.push(next),
                3 => drop(map.insert(1, next)),
                _ => maybe = Some(next.into()),
            }
            Chain::Struct { next: Chain::Unit.into(), all, map, maybe }
        });
        match encode(&chain) {
            Ok(bytes) => {
                assert!(decode::<Chain>(&bytes).is_ok(), "depth {depth}");
                accepted += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(accepted > 100 && refused > 50, "{accepted}, {refused}");
}

#[test]
fn neighbours_are_not_levels() {
    let one = (Some(Some(1u8)), Ok::<_, ()>(vec![true]), BTreeMap::from([(1u8, 'a')]), Bound::<u8>::Unbounded);
    comes_back(vec![(one, Choice::Tuple(1, 2), Choice::Struct { a: 1 }); 2 * MAX_DEPTH as usize]);

    #[derive(Serialize, Deserialize, Debug, Clone)]
    enum Choice {
        Tuple(u8, u8),
        Struct { a: u8 },
    }
}

#[test]
fn many_elements_without_bytes_are_refused() {
    let many = MAX_EMPTY_ELEMENTS as usize + 1;
    assert!(refusal(vec![(); many]).starts_with("a sequence of 1048577 elements that take no bytes is too long"));
}

/// Hand-written visitors that stop early, or take a map's keys and values out of turn.
#[test]
fn parts_that_are_not_read_in_turn_are_refused() {
    #[derive(Debug, Clone, Copy)]
    enum Visit {
        FirstElement,
        FirstEntry,
        OnlyKeys,
        OnlyValues,
        OnlyTheName,
    }

    impl<'de> Visitor<'de> for Visit {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
            seq.next_element::<u8>().map(drop)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            match self {
                Self::FirstEntry => map.next_entry::<u8, u8>().map(drop),
                Self::OnlyKeys => {
                    while map.next_key::<u8>()?.is_some() {}
                    Ok(())
                }
                _ => map.next_value::<u8>().map(drop),
            }
        }

        fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<(), A::Error> {
            data.variant::<String>().map(drop)
        }
    }

    struct Read<const VISIT: u8>;

    macro_rules! reads {
        ($($number:literal: $method:ident($($argument:expr),*) $visit:ident;)*) => {$(
            impl<'de> Deserialize<'de> for Read<$number> {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    deserializer.$method($($argument,)* Visit::$visit).map(|()| Self)
                }
            }
        )*};
    }

    reads! {
        0: deserialize_seq() FirstElement;
        1: deserialize_map() FirstEntry;
        2: deserialize_map() OnlyKeys;
        3: deserialize_map() OnlyValues;
        4: deserialize_enum("Result", &["Ok"]) OnlyTheName;
        5: deserialize_tuple(2) FirstElement;
    }

    #[track_caller]
    fn refuses<T: DeserializeOwned>(written: &impl Serialize, beginning: &str) {
        let text = decode::<T>(&encode(written).unwrap()).err().unwrap().to_string();
        assert!(text.starts_with(beginning), "{text}");
    }

    let map = BTreeMap::from([(1u8, 2u8), (3, 4)]);
    refuses::<Read<0>>(&vec![1u8, 2], "not every part of a sequence was read");
    refuses::<Read<1>>(&map, "not every part of a map was read");
    refuses::<Read<2>>(&map, "not every part of a map was read");
    refuses::<Read<3>>(&map, "not every part of a map was read");
    refuses::<Read<3>>(&BTreeMap::<u8, u8>::new(), "not every part of a map was read");
    refuses::<Read<4>>(&Ok::<u8, ()>(1), "not every part of a variant was read");
    refuses::<Read<5>>(&(1u8, 2u8), "`tuple` writes 2 fields and reads 1");
}

#[test]
fn bytes_left_over_are_refused() {
    let text = refusal(Hungry(1));
    assert!(text.starts_with("the value ends 1 bytes before the bytes do"), "{text}");
}
