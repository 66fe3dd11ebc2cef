//! The address of a `&mut` argument, kept while the argument itself is lent to the body.

#![expect(unsafe_code, reason = "two names for one argument, used one after the other")]

/// Remembers where a `&mut` argument lies.
///
/// Only the attribute's expansion makes one, around one call: the argument is held, lent to the body's closure, and not
/// touched by anybody else until the call is over. The body runs in another process or not at all, so that the slot is
/// read after the body there, and written after the unused closure is gone here.
#[derive(Debug)]
pub struct Slot<U: ?Sized> {
    place: *mut U,
}

impl<U: ?Sized> Slot<U> {
    /// Remembers `place`.
    pub fn hold(place: &mut U) -> Slot<U> {
        Slot { place }
    }

    /// Gives the argument to the body. Its lifetime is the body's business: bodies may name their own.
    #[expect(clippy::mut_from_ref, reason = "the slot only remembers the address of what it lends")]
    pub fn lend<'a>(&self) -> &'a mut U {
        // SAFETY: `hold` was given an exclusive reference that outlives the call, and the slot is not used before the
        // closure that gets this one has been consumed.
        unsafe { &mut *self.place }
    }

    /// Looks at the argument after the body.
    pub(crate) fn get(&self) -> &U {
        // SAFETY: the body has returned and its reference with it.
        unsafe { &*self.place }
    }

    /// Gives the argument back to the caller's side, when the call is over.
    pub(crate) fn get_mut(&mut self) -> &mut U {
        // SAFETY: the closure that held the other reference has been dropped without having run.
        unsafe { &mut *self.place }
    }
}
