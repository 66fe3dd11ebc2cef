//! Results whose errors have no serde: each error crosses in a form that has, and the rest by serde as ever.
//!
//! One trait cannot stand both for what has serde and for `Result<T, io::Error>`: the compiler must think that `io::Error`
//! might have serde one day. So the way must be said: the attribute finds out which one it is (`way_home`), everyone else
//! calls [`Call::run_result`].

use std::{error::Error, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{Call, Portable, PortableError, RemoteError, TimedOut, inline, write_back::Slots};

impl Call {
    /// Runs a `body` whose error has no serde, such as [`io::Error`](std::io::Error); else the same as [`Call::run`].
    ///
    /// The outer error is the call's, the inner one the body's. Of that one, texts, sources, kind and OS code survive: see
    /// [`PortableError`].
    ///
    /// # Errors
    /// See [`Reason`](crate::Reason).
    ///
    /// # Panics
    /// When the body panics, after [`resume_panics`](Call::resume_panics).
    ///
    /// # Examples
    /// ```
    /// use std::{fs, io};
    /// use timeout_runtime::Call;
    ///
    /// let text = Call::new(2).run_result(|| fs::read_to_string("/no/such/file")).unwrap();
    /// assert_eq!(text.unwrap_err().kind(), io::ErrorKind::NotFound);
    /// ```
    #[track_caller]
    pub fn run_result<T, E, F>(&self, body: F) -> Result<Result<T, E>, TimedOut>
    where
        T: Portable,
        E: PortableError,
        F: FnOnce() -> Result<T, E>,
    {
        ErrorsApart::<ByTrait>::new(self).run(body)
    }

    /// The same call for a result whose error crosses as its text.
    #[doc(hidden)]
    pub fn errors_as_text(&self) -> ErrorsApart<'_, AsText> {
        ErrorsApart::new(self)
    }
}

/// A call whose body returns errors that have no serde. `W` says where in its result they are.
#[derive(Debug)]
pub struct ErrorsApart<'a, W> {
    call: &'a Call,
    errors: PhantomData<W>,
}

impl<'a, W> ErrorsApart<'a, W> {
    pub(crate) fn new(call: &'a Call) -> ErrorsApart<'a, W> {
        ErrorsApart { call, errors: PhantomData }
    }

    /// As [`Call::run`].
    #[track_caller]
    pub fn run<T: Crossing<W>, F: FnOnce() -> T>(&self, body: F) -> Result<T, TimedOut> {
        if inline::is_on() {
            return self.call.run_inline(body);
        }
        let owned = self.call.run_and_pack::<T::Owned, _, _>(body, |value: T, outbox| {
            outbox.deliver::<T::Owned, _>(&value.view());
        })?;
        Ok(T::home(owned))
    }

    /// As [`Call::run_writing_back`].
    #[track_caller]
    pub fn run_writing_back<T: Crossing<W>, S: Slots, F: FnOnce() -> T>(
        &self,
        slots: S,
        body: F,
    ) -> Result<T, TimedOut> {
        if inline::is_on() {
            return self.call.run_inline(body);
        }
        let owned = self.call.run_and_change::<T::Owned, S, _, _>(slots, body, |value: T, slots, outbox| {
            outbox.deliver::<(T::Owned, S::Owned), _>(&(value.view(), slots.view()));
        })?;
        Ok(T::home(owned))
    }
}

/// A value with errors in it that have no serde.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot come back with its error as text",
    label = "`error = text` needs a `Result<T, E>` here, with serde for `T` and `E: std::error::Error + From<timeout_runtime::RemoteError>`"
)]
pub trait Crossing<W>: Sized {
    /// What is read in the caller.
    type Owned: DeserializeOwned;

    /// What is written in the child.
    fn view(&self) -> impl Serialize;

    /// Gives the value that the body returned.
    fn home(owned: Self::Owned) -> Self;
}

/// `Result<T, E>`, and the error has [`PortableError`].
#[derive(Debug)]
pub struct ByTrait(());

/// `Result<T, E>`, and the error can be made from [`RemoteError`].
#[derive(Debug)]
pub struct AsText(());

/// `Option<R>`, `Vec<R>`, or `Result<R, E>` whose error has [`PortableError`], and `W` tells of `R`.
#[derive(Debug)]
pub struct Inside<W>(PhantomData<W>);

/// `Result<R, E>` whose error has serde, and `W` tells of `R`.
#[derive(Debug)]
pub struct InsideOk<W>(PhantomData<W>);

impl<T: Portable, E: PortableError> Crossing<ByTrait> for Result<T, E> {
    type Owned = Result<T, Home<E>>;

    fn view(&self) -> impl Serialize {
        self.as_ref().map_err(|error| Told(|| error.to_wire()))
    }

    fn home(owned: Self::Owned) -> Self {
        owned.map_err(|Home(error)| error)
    }
}

// Or the compiler would complain of each bound, and list whatever `E` can be made of.
#[diagnostic::do_not_recommend]
impl<T: Portable, E: Error + From<RemoteError> + 'static> Crossing<AsText> for Result<T, E> {
    type Owned = Result<T, Home<Text<E>>>;

    fn view(&self) -> impl Serialize {
        self.as_ref().map_err(|error| Told(|| RemoteError::of(error)))
    }

    fn home(owned: Self::Owned) -> Self {
        owned.map_err(|Home(Text(error))| error)
    }
}

impl<W, R: Crossing<W>, E: PortableError> Crossing<Inside<W>> for Result<R, E> {
    type Owned = Result<R::Owned, Home<E>>;

    fn view(&self) -> impl Serialize {
        self.as_ref().map(R::view).map_err(|error| Told(|| error.to_wire()))
    }

    fn home(owned: Self::Owned) -> Self {
        owned.map(R::home).map_err(|Home(error)| error)
    }
}

impl<W, R: Crossing<W>, E: Portable> Crossing<InsideOk<W>> for Result<R, E> {
    type Owned = Result<R::Owned, E>;

    fn view(&self) -> impl Serialize {
        self.as_ref().map(R::view)
    }

    fn home(owned: Self::Owned) -> Self {
        owned.map(R::home)
    }
}

impl<W, R: Crossing<W>> Crossing<Inside<W>> for Option<R> {
    type Owned = Option<R::Owned>;

    fn view(&self) -> impl Serialize {
        self.as_ref().map(R::view)
    }

    fn home(owned: Self::Owned) -> Self {
        owned.map(R::home)
    }
}

impl<W, R: Crossing<W>> Crossing<Inside<W>> for Vec<R> {
    type Owned = Vec<R::Owned>;

    fn view(&self) -> impl Serialize {
        self.iter().map(R::view).collect::<Vec<_>>()
    }

    fn home(owned: Self::Owned) -> Self {
        owned.into_iter().map(R::home).collect()
    }
}

/// An error on its way. What travels is made while it is written, so that an error that panics or never ends in there is
/// told as a value that could not be written.
struct Told<M>(M);

impl<T: Serialize, M: Fn() -> T> Serialize for Told<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0)().serialize(serializer)
    }
}

/// An error that has arrived. It is made while it is read, so that the child's rehearsal makes one, too.
#[derive(Debug)]
pub struct Home<E>(E);

impl<'de, E: PortableError> Deserialize<'de> for Home<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Home<E>, D::Error> {
        E::Wire::deserialize(deserializer).map(|wire| Home(E::from_wire(wire)))
    }
}

/// An error that crosses as its text.
#[derive(Debug)]
pub struct Text<E>(E);

#[diagnostic::do_not_recommend]
impl<E: Error + From<RemoteError> + 'static> PortableError for Text<E> {
    type Wire = RemoteError;

    fn to_wire(&self) -> RemoteError {
        RemoteError::of(&self.0)
    }

    fn from_wire(wire: RemoteError) -> Text<E> {
        Text(wire.into())
    }
}
