//! `&mut` arguments: lent to the body in the child, and changed in the caller only when the call succeeds.
//!
//! Only the attribute's expansion uses this. A slot remembers where an argument lies; the body gets the argument itself.
//! In the child the slot is read after the body has returned; in the caller the body never runs, and the slot is written
//! when the whole answer has been decoded.

use std::any::type_name;

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

    /// Says what is wrong if `changed` cannot take the place of the value.
    fn check(&self, changed: &Self::Owned) -> Result<(), String>;

    /// Puts `changed`, which was checked, in the place of the value.
    fn replace(&mut self, changed: Self::Owned);
}

impl<T: Serialize + DeserializeOwned> WriteBack for T {
    type Owned = T;

    fn view(&self) -> impl Serialize {
        self
    }

    fn check(&self, _changed: &T) -> Result<(), String> {
        Ok(())
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

    fn check(&self, changed: &Vec<T>) -> Result<(), String> {
        match (self.len(), changed.len()) {
            (lent, back) if lent == back => Ok(()),
            (lent, back) => {
                Err(format!("a `&mut [{}]` argument of {lent} items came back with {back}", type_name::<T>()))
            }
        }
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

    /// Says what is wrong if not all of `changed` can be put in place.
    fn check(&self, changed: &Self::Owned) -> Result<(), String>;

    /// Puts all of `changed`, which was checked, in place.
    fn replace(&mut self, changed: Self::Owned);
}

impl Slots for () {
    type Owned = ();

    fn view(&self) -> impl Serialize {}

    fn check(&self, (): &()) -> Result<(), String> {
        Ok(())
    }

    fn replace(&mut self, (): ()) {}
}

impl<U: WriteBack + ?Sized, Rest: Slots> Slots for (Slot<U>, Rest) {
    type Owned = (U::Owned, Rest::Owned);

    fn view(&self) -> impl Serialize {
        (self.0.0.get().view(), self.1.view())
    }

    fn check(&self, (first, rest): &Self::Owned) -> Result<(), String> {
        self.0.0.get().check(first).and_then(|()| self.1.check(rest))
    }

    fn replace(&mut self, (first, rest): Self::Owned) {
        self.0.0.get_mut().replace(first);
        self.1.replace(rest);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::{
        Call, Ran, Reason, RemoteError, TimedOut,
        child::outbox::Outbox,
        crossing::{ByTrait, ErrorsApart},
    };

    #[test]
    fn changes_are_put_in_place_together() {
        let (mut number, mut items) = (1, [1, 2, 3]);
        let mut slots = (Slot::hold(&mut number), (Slot::hold(items.as_mut_slice()), ()));
        assert!(slots.check(&(7, (vec![4, 5], ()))).is_err());
        let changed = (7, (vec![4, 5, 6], ()));
        slots.check(&changed).unwrap();
        slots.replace(changed);
        assert_eq!((number, items), (7, [4, 5, 6]));
    }

    /// What a child sends that has lost its mind: of the right types, but not what it was lent.
    fn send<T: Serialize + DeserializeOwned>(value: T, items: Vec<u8>) -> ! {
        Outbox::current().unwrap().deliver::<(T, (i32, (Vec<u8>, ()))), _>(&(value, (7, (items, ()))))
    }

    #[test]
    fn a_slice_that_comes_back_with_another_length_loses_the_value_and_changes_nothing() {
        type Way<'a> = &'a dyn Fn(&mut i32, &mut [u8], usize) -> Result<u8, TimedOut>;
        let by_serde: Way<'_> = &|number, items, length| {
            let slots = (Slot::hold(number), (Slot::hold(items), ()));
            Call::new(50).run_writing_back(slots, || send(5u8, vec![9; length]))
        };
        let errors_apart: Way<'_> = &|number, items, length| {
            let slots = (Slot::hold(number), (Slot::hold(items), ()));
            let body = || -> io::Result<u8> { send(Ok::<u8, RemoteError>(5), vec![9; length]) };
            ErrorsApart::<ByTrait>::new(&Call::new(50)).run_writing_back(slots, body).map(Result::unwrap)
        };
        for way in [by_serde, errors_apart] {
            for length in [0, 2, 4] {
                let (mut number, mut items) = (1, [1, 2, 3]);
                let error = way(&mut number, &mut items, length).unwrap_err();
                assert!(matches!(error.reason(), Reason::Lost { .. }), "{error:?}");
                assert_eq!(error.ran(), Ran::Yes);
                let expected = format!("a `&mut [u8]` argument of 3 items came back with {length}");
                assert!(error.to_string().contains(&expected), "{error}");
                assert_eq!((number, items), (1, [1, 2, 3]));
            }
            let (mut number, mut items) = (1, [1, 2, 3]);
            assert_eq!(way(&mut number, &mut items, 3).unwrap(), 5);
            assert_eq!((number, items), (7, [9; 3]));
        }
    }
}
