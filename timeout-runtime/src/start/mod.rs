//! Start methods: how a child that runs one call comes to be.

pub(crate) mod fork;
pub(crate) mod forkserver;
mod zygote;

use std::io;

use crate::{child::outbox::Outbox, deadline::Deadline};

/// What a child is to do: run the body and deliver what comes of it.
pub(crate) type Job<'a> = &'a mut dyn FnMut(&Outbox);

/// Why there is no child.
#[derive(Debug)]
pub(crate) enum NoChild {
    /// The limit was over while others were being started.
    Late,
    /// Somebody cancelled the call before the child had all that it needs.
    Cancelled,
    Failed(io::Error),
}

impl NoChild {
    fn failed(step: &str, errno: nix::errno::Errno) -> NoChild {
        let cause = io::Error::from(errno);
        NoChild::Failed(io::Error::new(cause.kind(), format!("{step}: {cause}")))
    }
}

/// Whether there is still time to start.
fn in_time(deadline: Deadline) -> Result<(), NoChild> {
    if deadline.is_over(std::time::Instant::now()) { Err(NoChild::Late) } else { Ok(()) }
}
