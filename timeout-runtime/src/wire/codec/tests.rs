//! What the codec must carry, what it must refuse, and what it must survive.

mod bulk;
mod corruption;
mod round_trip;
mod traps;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CodecError, decode, encode};

/// Encodes, decodes, and expects the same value; NaN and the like are compared by their text.
#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + Debug>(value: T) {
    let bytes = encode(&value).unwrap_or_else(|e| panic!("encoding {value:?}: {e}"));
    let back: T = decode(&bytes).unwrap_or_else(|e| panic!("decoding {value:?}: {e}"));
    assert_eq!(format!("{back:?}"), format!("{value:?}"));
}

/// The error of the first step that fails; a value that comes back is what must not happen.
#[track_caller]
fn refusal<T: Serialize + DeserializeOwned + Debug>(value: T) -> String {
    let back: Result<T, CodecError> = encode(&value).and_then(|bytes| decode(&bytes));
    back.expect_err("the value must be refused").to_string()
}

/// What bincode alone makes of a value: the negative control of every trap.
fn plain<T: Serialize + DeserializeOwned>(value: &T) -> Option<T> {
    let config = super::CONFIG;
    let bytes = bincode::serde::encode_to_vec(value, config).ok()?;
    let (back, used) = bincode::serde::decode_from_slice(&bytes, config).ok()?;
    (used == bytes.len()).then_some(back)
}
