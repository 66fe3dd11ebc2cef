//! The caller's side of a call: one child from its start to its reaping. Nothing here ever runs in a child.

pub(crate) mod activity;
pub(crate) mod block;
pub(crate) mod flights;
pub(crate) mod host;
pub(crate) mod kin;
pub(crate) mod reaper;
pub(crate) mod sample;
pub(crate) mod stdio;
pub(crate) mod supervise;
pub(crate) mod terminal;
pub(crate) mod tree;
pub(crate) mod worker;
pub(crate) mod zygote;
