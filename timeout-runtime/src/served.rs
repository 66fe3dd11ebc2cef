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
    inline,
    start::forkserver::Order,
    sys::{image, inflow::Inflow},
    wire::{
        codec,
        message::Kind,
        parcel::{self, Packing},
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

/// The arguments of one call, as nested pairs that end in `()`, of which some may be borrowed for `'p`.
pub trait Arguments<'p>: Sized {
    /// Puts them behind what is there; says what cannot travel otherwise. Large plain values are moved out.
    #[doc(hidden)]
    fn pack(&mut self, packing: &mut Packing<'p>) -> Result<(), String>;

    /// Makes the arguments again from what arrives, and takes it off the front.
    #[doc(hidden)]
    fn settle(inflow: &mut Inflow) -> Result<Self, String>;
}

impl Arguments<'_> for () {
    fn pack(&mut self, _: &mut Packing<'_>) -> Result<(), String> {
        Ok(())
    }

    fn settle(inflow: &mut Inflow) -> Result<Self, String> {
        match inflow.left() {
            0 => Ok(()),
            left => Err(format!("{left} bytes are left over")),
        }
    }
}

impl<'p, T: Portable, Rest: Arguments<'p>> Arguments<'p> for (Val<T>, Rest) {
    fn pack(&mut self, packing: &mut Packing<'p>) -> Result<(), String> {
        // The body has it in the worker; here nobody looks at it any more.
        match value::take_plain(&mut self.0.0) {
            Some(plain) => packing.put_plain(plain)?,
            None => match self.0.0.pack()? {
                Cow::Owned(bytes) => packing.put(Cow::Owned(bytes))?,
                Cow::Borrowed(bytes) => packing.copy(bytes)?,
            },
        }
        self.1.pack(packing)
    }

    fn settle(inflow: &mut Inflow) -> Result<Self, String> {
        Ok((Val(parcel::take(inflow)?), Rest::settle(inflow)?))
    }
}

impl<'p, 'a: 'p, T: Travel + ?Sized, Rest: Arguments<'p>> Arguments<'p> for (Ref<'a, T>, Rest) {
    fn pack(&mut self, packing: &mut Packing<'p>) -> Result<(), String> {
        let argument: &'a T = self.0.0;
        packing.put(argument.pack()?)?;
        self.1.pack(packing)
    }

    fn settle(inflow: &mut Inflow) -> Result<Self, String> {
        Ok((Ref(T::settle(parcel::take(inflow)?)), Rest::settle(inflow)?))
    }
}

impl<'p, T: Travel + ?Sized, Rest: Arguments<'p>> Arguments<'p> for (Mut<'_, T>, Rest) {
    fn pack(&mut self, packing: &mut Packing<'p>) -> Result<(), String> {
        // Its place must be free for the change that comes back.
        match self.0.0.pack()? {
            Cow::Owned(bytes) => packing.put(Cow::Owned(bytes))?,
            Cow::Borrowed(bytes) => packing.copy(bytes)?,
        }
        self.1.pack(packing)
    }

    fn settle(inflow: &mut Inflow) -> Result<Self, String> {
        Ok((Mut(T::settle(parcel::take(inflow)?)), Rest::settle(inflow)?))
    }
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
    /// A closure that captures something is refused when the program is built; `cargo check` alone does not see it.
    /// ```compile_fail
    /// let more = 1;
    /// let _ = timeout_runtime::Call::new(10).run_in_server(41, |n: i32| n + more);
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
}

/// Makes a call by the fork server: here `body` goes the way of every call, whose own body never runs; in the worker it
/// is entered once more, with arguments made from what has arrived.
#[track_caller]
pub fn serve<'p, A: Arguments<'p>, Out, F: Fn(Call, A) -> Out + Copy>(call: Call, arguments: A, body: F) -> Out {
    serve_as(function_of::<F>(), call, arguments, body)
}

#[track_caller]
fn serve_as<'p, A, Out, F>(function: &'static str, call: Call, mut arguments: A, body: F) -> Out
where
    A: Arguments<'p>,
    F: Fn(Call, A) -> Out + Copy,
{
    let origin = Origin::here(function);
    if inline::is_on() {
        return body(call, arguments);
    }
    let pack = || {
        let mut packing = Packing::default();
        arguments.pack(&mut packing).map(|()| packing)
    };
    let packed = catch_unwind(AssertUnwindSafe(pack)).unwrap_or_else(|_| Err("its `Serialize` panicked".into()));
    let send = |parcel| {
        let order = Arc::new(Order { thunk: enter::<A, Out, F>, arguments: parcel });
        body(call.by(Route::Server { order, origin }), arguments)
    };
    match packed {
        Ok(packing) => packing.lend(|parcel| send(Ok(parcel))),
        Err(why) => send(Err(why)),
    }
}

/// What a worker does for [`serve`].
fn enter<'p, A: Arguments<'p>, Out, F: Fn(Call, A) -> Out + Copy>(mut inflow: Inflow) {
    let outbox = Outbox::current();
    if let Some(outbox) = outbox {
        outbox.enter(Stage::Arguments);
    }
    match (A::settle(&mut inflow), outbox) {
        (Ok(arguments), _) => {
            // What the body starts must not have an end of it.
            drop(inflow);
            let _ = image::conjure::<F>()(Call::new(Duration::MAX).by(Route::Here), arguments);
        }
        // The body has not begun.
        (Err(why), Some(outbox)) => {
            outbox.end_with(Kind::Lost, format!("its arguments could not be decoded: {why}").as_bytes())
        }
        (Err(_), None) => {}
    }
}
