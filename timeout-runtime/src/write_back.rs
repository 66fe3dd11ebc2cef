//! `&mut` arguments: lent to the body in the child, and changed in the caller only when the call succeeds.
//!
//! Only the attribute's expansion uses this. A slot remembers where an argument lies; the body gets the argument itself.
//! In the child the slot is read after the body has returned; in the caller the body never runs, and the slot is written
//! when the whole answer has been decoded.

use serde::{Serialize, de::DeserializeOwned};

use crate::sys::place::Place;

/// A type that can be written back through a `&mut` argument.
#[diagnostic::on_unimplemented(
    message = "changes to `{Self}` cannot be brought back from the child process",
    label = "a `&mut` argument needs `serde::Serialize` and `serde::Deserialize`, and must own what it holds",
    note = "derive both for your own types, or take the argument by `&` and return what changes"
)]
pub trait WriteBack {
    /// The changed value on its way.
    type Owned: DeserializeOwned;

    /// What is sent from the child.
    fn view(&self) -> impl Serialize;

    /// Whether `changed` can take the place of the value.
    fn fits(&self, changed: &Self::Owned) -> bool;

    /// Puts `changed`, which fits, in the place of the value.
    fn replace(&mut self, changed: Self::Owned);
}

impl<T: Serialize + DeserializeOwned> WriteBack for T {
    type Owned = T;

    fn view(&self) -> impl Serialize {
        self
    }

    fn fits(&self, _changed: &T) -> bool {
        true
    }

    fn replace(&mut self, changed: T) {
        *self = changed;
    }
}

impl<T: Serialize + DeserializeOwned> WriteBack for [T] {
    type Owned = Vec<T>;

    fn view(&self) -> impl Serialize {
        self
    }

    fn fits(&self, changed: &Vec<T>) -> bool {
        self.len() == changed.len()
    }

    fn replace(&mut self, changed: Vec<T>) {
        for (item, changed) in self.iter_mut().zip(changed) {
            *item = changed;
        }
    }
}

/// A `&mut` argument of one call.
#[derive(Debug)]
pub struct Slot<U: ?Sized>(Place<U>);

impl<U: WriteBack + ?Sized> Slot<U> {
    /// Remembers where the argument lies.
    pub fn hold(argument: &mut U) -> Slot<U> {
        Slot(Place::of(argument))
    }

    /// Remembers where the argument lies, and gives it to the body, for no longer than it was borrowed.
    pub fn lend(argument: &mut U) -> (Slot<U>, &mut U) {
        let (place, argument) = Place::lend(argument);
        (Slot(place), argument)
    }
}

/// The `&mut` arguments of one call, as nested pairs that end in `()`.
pub trait Slots {
    /// The changed values on their way.
    type Owned: DeserializeOwned;

    /// What is sent from the child.
    fn view(&self) -> impl Serialize;

    /// Whether all of `changed` can be put in place.
    fn fits(&self, changed: &Self::Owned) -> bool;

    /// Puts all of `changed` in place.
    fn replace(&mut self, changed: Self::Owned);
}

impl Slots for () {
    type Owned = ();

    fn view(&self) -> impl Serialize {}

    fn fits(&self, (): &()) -> bool {
        true
    }

    fn replace(&mut self, (): ()) {}
}

impl<U: WriteBack + ?Sized, Rest: Slots> Slots for (Slot<U>, Rest) {
    type Owned = (U::Owned, Rest::Owned);

    fn view(&self) -> impl Serialize {
        (self.0.0.get().view(), self.1.view())
    }

    fn fits(&self, (first, rest): &Self::Owned) -> bool {
        self.0.0.get().fits(first) && self.1.fits(rest)
    }

    fn replace(&mut self, (first, rest): Self::Owned) {
        self.0.0.get_mut().replace(first);
        self.1.replace(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_put_in_place_together() {
        let (mut number, mut items) = (1, [1, 2, 3]);
        let mut slots = (Slot::hold(&mut number), (Slot::hold(items.as_mut_slice()), ()));
        assert!(!slots.fits(&(7, (vec![4, 5], ()))));
        let changed = (7, (vec![4, 5, 6], ()));
        assert!(slots.fits(&changed));
        slots.replace(changed);
        assert_eq!((number, items), (7, [4, 5, 6]));
    }
}
