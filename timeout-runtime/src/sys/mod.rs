//! Every `unsafe` operation of the crate, behind safe names: descriptors and numbers in, `Errno` out.
//!
//! No policy lives here. Nothing in this folder decides when to wait, whom to kill or what an error means; it only
//! makes one kernel or C-library call each and says why that call is sound. What [`nix`] already wraps safely is used
//! from there directly.

pub(crate) mod alloc_failure;
pub(crate) mod bare;
pub(crate) mod crash;
pub(crate) mod environment;
pub(crate) mod epoll;
pub(crate) mod exit;
pub(crate) mod fault;
pub(crate) mod fd;
pub(crate) mod fdpass;
pub(crate) mod futex;
pub(crate) mod image;
pub(crate) mod in_place;
pub(crate) mod inflow;
pub(crate) mod leaked;
pub(crate) mod lifeline;
pub(crate) mod loan;
pub(crate) mod pidfd;
pub(crate) mod pipe;
pub(crate) mod place;
pub(crate) mod prefault;
pub(crate) mod process;
pub(crate) mod procfs;
#[cfg(feature = "fastrand")]
pub(crate) mod random;
pub(crate) mod raw;
pub(crate) mod rlimit;
pub(crate) mod sampler;
pub(crate) mod sched;
pub(crate) mod shared;
pub(crate) mod sheet;
pub(crate) mod signal;
pub(crate) mod spawn;
pub(crate) mod stack;
pub(crate) mod stdio;
pub(crate) mod stdout;
pub(crate) mod terminate;
pub(crate) mod thread;
pub(crate) mod unwind;
pub(crate) mod waits;
