//! Arguments on their way to a worker of the fork server: what travels, and what the body then gets.
//!
//! Only the attribute's expansion and [`Call::run_in_server`](crate::Call::run_in_server) use this. Each argument is
//! wrapped by the way it is taken; in the worker the same type is made again, around an owned copy. That copy is never
//! freed, as a worker runs one call and ends: so it lives as long as any lifetime that the function may name.

use std::{
    borrow::Cow,
    ffi::{CStr, CString, OsStr, OsString},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Call, Portable, TimedOut,
    call::{Origin, Route, function_of},
    child::outbox::Outbox,
    start::forkserver::Order,
    sys::image,
    wire::{
        codec,
        message::Kind,
        stage::Stage,
        value::{self, Packed},
    },
};

/// A type whose values, or borrows of them, can be sent to the fork server.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel to the fork server",
    label = "this argument needs `serde::Serialize` and `serde::Deserialize`, and must own what it holds; or use `start = fork`",
    note = "with `start = fork` a call takes arguments of any type"
)]
pub trait Travel {
    /// What arrives.
    type Owned: DeserializeOwned;

    /// What is sent; or why it cannot be.
    #[doc(hidden)]
    fn pack(&self) -> Result<Cow<'_, [u8]>, String>;

    /// Makes room for what has arrived, for good.
    fn settle<'a>(owned: Self::Owned) -> &'a mut Self
    where
        Self: 'a;
}

impl<T: Portable> Travel for T {
    type Owned = T;

    fn pack(&self) -> Result<Cow<'_, [u8]>, String> {
        value::pack(self).map(Packed::into_bytes)
    }

    fn settle<'a>(owned: T) -> &'a mut T
    where
        T: 'a,
    {
        Box::leak(Box::new(owned))
    }
}

impl<T: Portable> Travel for [T] {
    type Owned = Vec<T>;

    fn pack(&self) -> Result<Cow<'_, [u8]>, String> {
        value::pack_items(self).map(Packed::into_bytes)
    }

    fn settle<'a>(owned: Vec<T>) -> &'a mut [T]
    where
        T: 'a,
    {
        owned.leak()
    }
}

macro_rules! borrowed_texts {
    ($($borrowed:ty, $owned:ty, $into:ident, |$it:ident| $pack:expr;)*) => {
        $(impl Travel for $borrowed {
            type Owned = $owned;

            fn pack(&self) -> Result<Cow<'_, [u8]>, String> {
                let $it = self;
                $pack
            }

            fn settle<'a>(owned: $owned) -> &'a mut $borrowed {
                Box::leak(owned.$into())
            }
        })*
    };
}

borrowed_texts! {
    str, String, into_boxed_str, |it| Ok(Cow::Borrowed(it.as_bytes()));
    Path, PathBuf, into_boxed_path, |it| encode(it);
    OsStr, OsString, into_boxed_os_str, |it| encode(it);
    CStr, CString, into_boxed_c_str, |it| encode(it);
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Cow<'static, [u8]>, String> {
    codec::encode(value).map(Cow::Owned).map_err(|error| error.to_string())
}

/// An argument that is passed by value.
#[derive(Debug)]
pub struct Val<T>(pub T);

/// An argument that is borrowed.
#[derive(Debug)]
pub struct Ref<'a, T: ?Sized>(pub &'a T);

/// An argument that is borrowed to be changed. The change comes back as under every start method.
#[derive(Debug)]
pub struct Mut<'a, T: ?Sized>(pub &'a mut T);

impl<T: Travel> Val<T> {
    /// Wraps an argument; here a type that cannot travel is told.
    pub fn of(argument: T) -> Val<T> {
        Val(argument)
    }
}

impl<'a, T: Travel + ?Sized> Ref<'a, T> {
    /// Wraps an argument; here a type that cannot travel is told.
    pub fn of(argument: &'a T) -> Ref<'a, T> {
        Ref(argument)
    }
}

impl<'a, T: Travel + ?Sized> Mut<'a, T> {
    /// Wraps an argument; here a type that cannot travel is told.
    pub fn of(argument: &'a mut T) -> Mut<'a, T> {
        Mut(argument)
    }
}

/// The arguments of one call, as nested pairs that end in `()`. Each travels with its length before it.
pub trait Arguments: Sized {
    /// Puts them behind what is there; says what cannot travel otherwise.
    #[doc(hidden)]
    fn pack(&self, bytes: &mut Vec<u8>) -> Result<(), String>;

    /// Makes the arguments again from what has arrived, and takes it off the front.
    #[doc(hidden)]
    fn settle(bytes: &mut &[u8]) -> Result<Self, String>;
}

impl Arguments for () {
    fn pack(&self, _: &mut Vec<u8>) -> Result<(), String> {
        Ok(())
    }

    fn settle(bytes: &mut &[u8]) -> Result<Self, String> {
        if bytes.is_empty() { Ok(()) } else { Err(format!("{} bytes are left over", bytes.len())) }
    }
}

impl<T: Portable, Rest: Arguments> Arguments for (Val<T>, Rest) {
    fn pack(&self, bytes: &mut Vec<u8>) -> Result<(), String> {
        put(&self.0.0, bytes)?;
        self.1.pack(bytes)
    }

    fn settle(bytes: &mut &[u8]) -> Result<Self, String> {
        Ok((Val(take::<T>(bytes)?), Rest::settle(bytes)?))
    }
}

impl<'a, T: Travel + ?Sized, Rest: Arguments> Arguments for (Ref<'a, T>, Rest) {
    fn pack(&self, bytes: &mut Vec<u8>) -> Result<(), String> {
        put(self.0.0, bytes)?;
        self.1.pack(bytes)
    }

    fn settle(bytes: &mut &[u8]) -> Result<Self, String> {
        Ok((Ref(T::settle(take::<T>(bytes)?)), Rest::settle(bytes)?))
    }
}

impl<'a, T: Travel + ?Sized, Rest: Arguments> Arguments for (Mut<'a, T>, Rest) {
    fn pack(&self, bytes: &mut Vec<u8>) -> Result<(), String> {
        put(self.0.0, bytes)?;
        self.1.pack(bytes)
    }

    fn settle(bytes: &mut &[u8]) -> Result<Self, String> {
        Ok((Mut(T::settle(take::<T>(bytes)?)), Rest::settle(bytes)?))
    }
}

fn put<T: Travel + ?Sized>(argument: &T, bytes: &mut Vec<u8>) -> Result<(), String> {
    let packed = argument.pack()?;
    let room = bytes.try_reserve(size_of::<u64>() + packed.len());
    room.map_err(|error| format!("there is no room for {} bytes: {error}", packed.len()))?;
    // A length in memory fits into 64 bits.
    bytes.extend_from_slice(&(packed.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&packed);
    Ok(())
}

fn take<T: Travel + ?Sized>(bytes: &mut &[u8]) -> Result<T::Owned, String> {
    let cut = || "they were cut short".to_owned();
    let (length, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| cut())?;
    let (argument, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
    *bytes = rest;
    value::unpack(argument)
}

impl Call {
    /// Runs `body` with `arguments` in a worker of the [fork server](crate::forkserver), and gives its value.
    ///
    /// It is a function, or a closure that captures nothing, and gets its arguments as owned values. What it needs travels
    /// with them: the worker has nothing of the caller's memory.
    ///
    /// # Errors
    /// See [`Reason`](crate::Reason). An argument that cannot be encoded, or a fork server that cannot be had, is
    /// [`NotStarted`](crate::Reason::NotStarted).
    ///
    /// # Panics
    /// When the body panics, after [`resume_panics`](Call::resume_panics).
    ///
    /// # Examples
    /// ```
    /// use timeout_runtime::Call;
    ///
    /// fn repeat((text, times): (String, usize)) -> String {
    ///     text.repeat(times)
    /// }
    ///
    /// let call = Call::new(10);
    /// assert_eq!(call.run_in_server(("ab".to_string(), 3), repeat).unwrap(), "ababab");
    /// assert_eq!(call.run_in_server(41, |n: i32| n + 1).unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn run_in_server<A, T, F>(&self, arguments: A, _body: F) -> Result<T, TimedOut>
    where
        A: Portable,
        T: Portable,
        F: Fn(A) -> T + Copy,
    {
        let body = |call: Call, (Val(arguments), ())| call.run(|| image::conjure::<F>()(arguments));
        serve_as(function_of::<F>(), self.clone(), (Val(arguments), ()), body)
    }

    /// The same call by the fork server: `enter` is what a worker does with the arguments that it decodes.
    #[track_caller]
    fn served<A: Arguments>(self, function: &'static str, arguments: &A, enter: image::Thunk) -> Call {
        let origin = Origin::here(function);
        let pack = || {
            let mut bytes = Vec::new();
            arguments.pack(&mut bytes).map(|()| bytes)
        };
        let arguments = catch_unwind(AssertUnwindSafe(pack)).unwrap_or_else(|_| Err("its `Serialize` panicked".into()));
        let order = Arc::new(Order { thunk: enter, arguments });
        self.by(Route::Server { order, origin })
    }
}

/// Makes a call by the fork server: here `body` goes the way of every call, whose own body never runs; in the worker it
/// is entered once more, with arguments made from what has arrived.
#[track_caller]
pub fn serve<A: Arguments, Out, F: Fn(Call, A) -> Out + Copy>(call: Call, arguments: A, body: F) -> Out {
    serve_as(function_of::<F>(), call, arguments, body)
}

#[track_caller]
fn serve_as<A, Out, F>(function: &'static str, call: Call, arguments: A, body: F) -> Out
where
    A: Arguments,
    F: Fn(Call, A) -> Out + Copy,
{
    let call = call.served(function, &arguments, enter::<A, Out, F>);
    body(call, arguments)
}

/// What a worker does for [`serve`].
fn enter<A: Arguments, Out, F: Fn(Call, A) -> Out + Copy>(bytes: Vec<u8>) {
    let outbox = Outbox::current();
    if let Some(outbox) = outbox {
        outbox.enter(Stage::Arguments);
    }
    match (A::settle(&mut &*bytes), outbox) {
        (Ok(arguments), _) => {
            drop(bytes);
            let _ = image::conjure::<F>()(Call::new(Duration::MAX).by(Route::Here), arguments);
        }
        // The body has not begun.
        (Err(why), Some(outbox)) => {
            outbox.end_with(Kind::Lost, format!("its arguments could not be decoded: {why}").as_bytes())
        }
        (Err(_), None) => {}
    }
}
