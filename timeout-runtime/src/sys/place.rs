//! The address of a `&mut` argument, kept while the argument itself is lent to the body.

#![expect(unsafe_code, reason = "two names for one argument, used one after the other")]

/// Where a `&mut` argument lies.
///
/// One is made around one call: the argument is held, lent to the body's closure, and not touched by anybody else until
/// the call is over. A body that runs in another process has its place read after it there, and written after the unused
/// closure is gone here. After a body that ran here the place is not used at all.
#[derive(Debug)]
pub(crate) struct Place<U: ?Sized>(*mut U);

impl<U: ?Sized> Place<U> {
    pub(crate) fn of(argument: &mut U) -> Place<U> {
        Place(argument)
    }

    /// The same, and the argument for the body, which may keep it no longer than it was borrowed for.
    pub(crate) fn lend(argument: &mut U) -> (Place<U>, &mut U) {
        let place = Place::of(argument);
        // SAFETY: the reference given stands for `argument`, which nobody uses any more, and the place is not used before
        // the closure that gets this one has been consumed.
        let argument = unsafe { &mut *place.0 };
        (place, argument)
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
