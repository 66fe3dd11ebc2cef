//! The address of a `&mut` argument, kept while the argument itself is lent to the body.

#![expect(unsafe_code, reason = "two names for one argument, used one after the other")]

/// Where a `&mut` argument lies.
///
/// One is made around one call: the argument is held, lent to the body's closure, and not touched by anybody else until
/// the call is over. The body runs in another process or not at all, so the place is read after the body there, and
/// written after the unused closure is gone here.
#[derive(Debug)]
pub(crate) struct Place<U: ?Sized>(*mut U);

impl<U: ?Sized> Place<U> {
    pub(crate) fn of(argument: &mut U) -> Place<U> {
        Place(argument)
    }

    /// Gives the argument to the body. Its lifetime is the body's business: bodies may name their own.
    pub(crate) fn lend<'a>(&self) -> &'a mut U {
        // SAFETY: `of` was given an exclusive reference that outlives the call, and the place is not used before the
        // closure that gets this one has been consumed.
        unsafe { &mut *self.0 }
    }

    /// Looks at the argument after the body.
    pub(crate) fn get(&self) -> &U {
        // SAFETY: the body has returned and its reference with it.
        unsafe { &*self.0 }
    }

    /// Gives the argument back to the caller's side, when the call is over.
    pub(crate) fn get_mut(&mut self) -> &mut U {
        // SAFETY: the closure that held the other reference has been dropped without having run.
        unsafe { &mut *self.0 }
    }
}
