//! What crosses the pipe: the only ground on which the caller and its child meet.

#[cfg_attr(not(test), allow(dead_code))]
pub(crate) mod codec;
pub(crate) mod frame;
pub(crate) mod message;
pub(crate) mod order;
pub(crate) mod parcel;
pub(crate) mod stage;
pub(crate) mod trace;
pub(crate) mod value;
pub(crate) mod zygote;
