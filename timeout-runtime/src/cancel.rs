//! A token that ends calls from elsewhere.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{
    sys::eventfd::{EfdFlags, EventFd},
    unistd::{self, Pid, getpid},
};

use crate::sys::fd;

/// Ends calls from another thread. Clones end the same calls.
///
/// # Examples
/// ```
/// use std::{thread, time::Duration};
/// use timeout_runtime::{Call, Cancel, Reason};
///
/// let cancel = Cancel::new();
/// let elsewhere = cancel.clone();
/// let canceller = thread::spawn(move || {
///     thread::sleep(Duration::from_millis(20));
///     elsewhere.cancel();
/// });
/// let result = Call::new(60).cancel(&cancel).run(|| thread::sleep(Duration::from_secs(60)));
/// assert!(matches!(result.unwrap_err().reason(), Reason::Cancelled));
/// # canceller.join().unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Token>);

#[derive(Debug, Default)]
struct Token {
    is_cancelled: AtomicBool,
    /// Readable once cancelled, and never read: it wakes every call that waits on it. Made by the first call.
    bell: OnceLock<Bell>,
}

/// A descriptor that a fork shares, and the process that may ring it: a body that uses its copy of the token must not
/// end calls out there.
#[derive(Debug)]
struct Bell {
    maker: Pid,
    event: OwnedFd,
}

impl Bell {
    fn ring(&self) {
        if self.maker == getpid() {
            // Fails only at 2^64 - 1 rings, when it is readable anyway.
            let _ = unistd::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}

impl Cancel {
    /// Makes a token that ends nothing yet.
    #[must_use]
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Ends every call made with this token, now and in the future, with [`Reason::Cancelled`](crate::Reason::Cancelled).
    /// A call with a grace gets it.
    pub fn cancel(&self) {
        // In this order: a call that makes the bell after our look at it will see the flag.
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        if let Some(bell) = self.0.bell.get() {
            bell.ring();
        }
    }

    /// Whether the token has been used.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::SeqCst)
    }

    /// Something that becomes readable when the token is used.
    pub(crate) fn bell(&self) -> io::Result<BorrowedFd<'_>> {
        if let Some(bell) = self.0.bell.get() {
            return Ok(bell.event.as_fd());
        }
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let event = fd::above_stdio(event.into())?;
        let bell = self.0.bell.get_or_init(|| Bell { maker: getpid(), event });
        if self.is_cancelled() {
            bell.ring();
        }
        Ok(bell.event.as_fd())
    }
}
