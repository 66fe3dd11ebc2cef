//! The expansion in the strictest crate there is: no `unsafe`, every warning an error, and nothing left of the prelude.
//!
//! Everything here is written and documented as if the attribute were not there: what a lint wants beyond that would be
//! the attribute's fault.
#![forbid(unsafe_code)]
#![deny(warnings, clippy::all, clippy::pedantic, unused, future_incompatible, nonstandard_style)]
#![deny(missing_docs, missing_debug_implementations, let_underscore_drop, rust_2018_idioms)]
#![deny(unused_qualifications, unused_lifetimes, single_use_lifetimes, unreachable_pub)]

/// Each kind of function once, so that each form of the expansion meets the lints.
pub mod every_form {
    use std::borrow::Cow;
    use std::time::Duration;

    use serde::{Deserialize, Serialize};
    use timeout_runtime::timeout;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Adds.
    #[timeout(20)]
    #[must_use]
    pub fn add(a: u32, b: u32) -> u32 {
        a + b
    }

    /// Adds, and says why to look at the sum.
    #[must_use = "the sum is all there is"]
    #[timeout(20s, grace = 1.5s, panic = "resume", start = fork)]
    pub fn add_with_a_reason(a: u32, b: u32) -> u32 {
        a + b
    }

    /// Does nothing.
    #[timeout("1m 30s")]
    pub fn nothing() {}

    /// Calls another function and that is all.
    #[timeout(LIMIT)]
    pub fn only_a_call() -> String {
        String::new()
    }

    /// Never returns.
    #[timeout(20)]
    pub fn exits() -> ! {
        std::process::exit(3)
    }

    /// Never returns, by a loop.
    #[timeout(20)]
    pub fn spins(log: &mut dyn Iterator<Item = u8>) -> ! {
        loop {
            log.next();
        }
    }

    /// Never returns, by a panic.
    ///
    /// # Panics
    ///
    /// Always.
    #[timeout(20)]
    pub fn panics() -> ! {
        panic!("on purpose")
    }

    /// Fills a list.
    #[timeout(limit)]
    pub fn fill(limit: Duration, mut list: &mut [u8], count: &mut usize, _: &mut u8, _unused: &mut u8) {
        while let [first, rest @ ..] = list {
            *first = 1;
            *count += 1;
            list = rest;
        }
    }

    /// Does not look at its argument.
    #[timeout(20)]
    pub fn ignores(#[expect(unused_variables)] list: &mut Vec<u8>, #[expect(unused_variables)] by_value: u8) -> u8 {
        1
    }

    /// Takes patterns apart.
    #[timeout(20)]
    #[must_use]
    pub fn patterns((a, mut b): (u8, u8), [c, ..]: [u8; 3], mut text: String) -> String {
        b += a + c;
        text.push(char::from(b));
        text
    }

    /// Leaves early in both ways.
    ///
    /// # Errors
    ///
    /// When the text is no number.
    #[timeout(20)]
    pub fn early(text: &str) -> Result<u32, String> {
        if text.is_empty() {
            return Ok(0);
        }
        let number: u32 = text.parse().map_err(|_| "no number")?;
        Ok(number)
    }

    /// Fails with an error that has no serde.
    ///
    /// # Errors
    ///
    /// When the text is no number.
    #[timeout(20)]
    pub fn io(text: &str, calls: &mut u32) -> std::io::Result<u32> {
        *calls += 1;
        text.parse().map_err(std::io::Error::other)
    }

    /// Fails with whatever comes, and with the call.
    ///
    /// # Errors
    ///
    /// When the text is no number.
    #[timeout(20, flatten)]
    pub fn flat(text: &str) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
        Ok(text.parse::<u32>()?)
    }

    /// An error that becomes another one on its way.
    #[derive(Debug)]
    pub struct Told(String);

    impl std::fmt::Display for Told {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl std::error::Error for Told {}

    impl From<timeout_runtime::RemoteError> for Told {
        fn from(error: timeout_runtime::RemoteError) -> Self {
            Self(error.to_string())
        }
    }

    /// Fails with a text.
    ///
    /// # Errors
    ///
    /// When the text is no number.
    #[timeout(20, error = text)]
    pub fn told(text: &str) -> Result<u32, Told> {
        text.parse().map_err(|_| Told("no number".to_owned()))
    }

    /// Borrows nothing it does not give back.
    #[timeout(20)]
    pub fn cow<'a>(text: &'a str, _other: &str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }

    /// Is generic in every way.
    #[timeout(20)]
    pub fn generic<T, const N: usize>(value: &T, more: impl IntoIterator<Item = T>) -> Vec<T>
    where
        T: Clone + Serialize + for<'de> Deserialize<'de>,
    {
        #![allow(clippy::extend_with_drain)]
        let mut all = vec![value.clone(); N];
        all.extend(more);
        all
    }

    /// A counter.
    #[derive(Debug, Default, Clone, Serialize, Deserialize)]
    pub struct Counter {
        count: u32,
        limit: Duration,
    }

    impl Counter {
        /// Makes one.
        #[must_use]
        pub fn new(limit: Duration) -> Self {
            Self { count: 0, limit }
        }

        /// Reads.
        #[timeout(self.limit)]
        #[must_use]
        pub fn get(&self) -> u32 {
            self.count
        }

        /// Counts.
        #[timeout(self.limit, grace = self.limit / 2)]
        pub fn increase(&mut self, by: &mut u32) -> u32 {
            self.count += *by;
            *by = 0;
            self.count
        }

        /// Consumes.
        #[timeout(self.limit)]
        #[must_use]
        pub fn into_inner(mut self) -> u32 {
            self.count += 1;
            self.count
        }

        /// Consumes a box.
        #[timeout(self.limit)]
        #[must_use]
        pub fn unbox(self: Box<Self>) -> Self {
            *self
        }
    }

    /// A trait with a body.
    pub trait Greets {
        /// Says who.
        fn name(&self) -> String;

        /// Greets.
        #[timeout(20)]
        fn greet(&self) -> String {
            format!("hello {}", self.name())
        }
    }

    impl Greets for Counter {
        fn name(&self) -> String {
            self.count.to_string()
        }
    }
}

/// The same by the fork server, where every argument travels and the body stands in a closure of its own.
pub mod every_form_served {
    use std::borrow::Cow;
    use std::path::Path;
    use std::time::Duration;

    use serde::{Deserialize, Serialize};
    use timeout_runtime::timeout;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Adds.
    #[timeout(20, start = forkserver)]
    #[must_use]
    pub fn add(a: u32, b: u32) -> u32 {
        a + b
    }

    /// Does nothing.
    #[timeout("1m 30s", start = forkserver)]
    pub fn nothing() {}

    /// Calls another function and that is all.
    #[timeout(LIMIT, start = forkserver, grace = 1.5s)]
    pub fn only_a_call() -> String {
        String::new()
    }

    /// Never returns.
    #[timeout(20, start = forkserver)]
    pub fn exits(code: i32, #[expect(unused_variables)] list: &mut Vec<u8>) -> ! {
        std::process::exit(code)
    }

    /// Never returns, by a panic.
    ///
    /// # Panics
    ///
    /// Always.
    #[timeout(20, start = forkserver)]
    pub fn panics() -> ! {
        panic!("on purpose")
    }

    /// Fills a list.
    #[timeout(limit, start = forkserver)]
    pub fn fill(limit: Duration, mut list: &mut [u8], count: &mut usize, _: &mut u8, _unused: &mut u8) {
        while let [first, rest @ ..] = list {
            *first = 1;
            *count += 1;
            list = rest;
        }
    }

    /// Does not look at its arguments.
    #[timeout(limits.0 * 2, start = forkserver)]
    pub fn ignores(
        #[expect(unused_variables)] list: &mut Vec<u8>,
        #[expect(unused_variables)] by_value: u8,
        #[expect(unused_variables)] borrowed: &str,
        limits: &(u32, u32),
    ) -> u8 {
        1
    }

    /// Takes patterns apart.
    #[timeout(20, start = forkserver)]
    #[must_use]
    pub fn patterns((a, mut b): (u8, u8), [c, ..]: [u8; 3], mut text: String) -> String {
        b += a + c;
        text.push(char::from(b));
        text
    }

    /// Leaves early in both ways.
    ///
    /// # Errors
    ///
    /// When the text is no number.
    #[timeout(20, start = forkserver)]
    pub fn early(text: &str) -> Result<u32, String> {
        if text.is_empty() {
            return Ok(0);
        }
        let number: u32 = text.parse().map_err(|_| "no number")?;
        Ok(number)
    }

    /// Fails with an error that has no serde.
    ///
    /// # Errors
    ///
    /// When the text is no number.
    #[timeout(20, start = forkserver)]
    pub fn io(text: &str, calls: &mut u32) -> std::io::Result<u32> {
        *calls += 1;
        text.parse().map_err(std::io::Error::other)
    }

    /// Fails with whatever comes, and with the call.
    ///
    /// # Errors
    ///
    /// When the file cannot be looked at.
    #[timeout(20, flatten, start = forkserver)]
    pub fn flat(path: &Path) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        Ok(std::fs::metadata(path)?.len())
    }

    /// Fails with a text.
    ///
    /// # Errors
    ///
    /// When the text is no number.
    #[timeout(20, error = text, start = forkserver)]
    pub fn told(text: &str) -> Result<u32, super::every_form::Told> {
        text.parse().map_err(|_| timeout_runtime::RemoteError::of(&std::fmt::Error).into())
    }

    /// Borrows nothing it does not give back.
    #[timeout(20, start = forkserver)]
    pub fn cow<'a>(text: &'a str, _other: &str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }

    /// Is generic in every way.
    #[timeout(20, start = forkserver)]
    pub fn generic<T, const N: usize>(value: &T, more: Vec<T>) -> Vec<T>
    where
        T: Clone + Serialize + for<'de> Deserialize<'de>,
    {
        #![allow(clippy::extend_with_drain)]
        let mut all = vec![value.clone(); N];
        all.extend(more);
        all
    }

    /// A counter.
    #[derive(Debug, Default, Clone, Serialize, Deserialize)]
    pub struct Counter {
        count: u32,
        limit: Duration,
    }

    impl Counter {
        /// Makes one.
        #[must_use]
        pub fn new(limit: Duration) -> Self {
            Self { count: 0, limit }
        }

        /// Does not look at itself.
        #[timeout(self.limit, start = forkserver)]
        #[must_use]
        pub fn limited(&self) -> u32 {
            7
        }

        /// Reads.
        #[timeout(self.limit, start = forkserver)]
        #[must_use]
        pub fn get(&self) -> u32 {
            self.count
        }

        /// Counts.
        #[timeout(self.limit, grace = self.limit / 2, start = forkserver)]
        pub fn increase(&mut self, by: &mut u32) -> u32 {
            self.count += *by;
            *by = 0;
            self.count
        }

        /// Consumes.
        #[timeout(self.limit, start = forkserver)]
        #[must_use]
        pub fn into_inner(mut self) -> u32 {
            self.count += 1;
            self.count
        }

        /// Consumes a box.
        #[timeout(self.limit, start = forkserver)]
        #[must_use]
        pub fn unbox(self: Box<Self>) -> Self {
            *self
        }
    }
}

/// A crate whose author has other ideas about the usual names.
mod shadows {
    #![allow(dead_code, unused_macros, non_camel_case_types, unused_imports)]

    use ::timeout_runtime as rt;

    mod std {}
    mod core {}
    mod alloc {}
    mod timeout_runtime {}
    struct Result;
    struct Option;
    struct Ok;
    struct Err;
    struct Some;
    struct None;
    struct Box;
    struct Vec;
    struct String;
    struct Duration;
    struct Infallible;
    struct TimedOut;
    struct Call;
    struct Slot;
    trait Fn {}
    trait FnOnce {}
    trait Send {}
    trait Sized {}
    trait Drop {}
    trait Into {}
    macro_rules! panic {
        () => {};
    }
    macro_rules! vec {
        () => {};
    }
    fn drop() {}

    #[rt::timeout(20, grace = 1)]
    pub(super) fn plain(a: u8) -> u8 {
        a
    }

    #[rt::timeout(20)]
    pub(super) fn writes_back(__slot0: &mut u8, __call: &mut u8) {
        ::core::mem::swap(__slot0, __call);
    }

    #[rt::timeout(__call)]
    pub(super) fn uses_our_names(__call: u64, __slot0: u8) -> u8 {
        __slot0
    }

    #[rt::timeout(20)]
    pub(super) fn never() -> ! {
        ::std::process::exit(0)
    }

    #[rt::timeout(20)]
    pub(super) fn io(code: i32) -> ::std::io::Result<u8> {
        ::core::result::Result::Err(::std::io::Error::from_raw_os_error(code))
    }

    #[rt::timeout(20, flatten)]
    pub(super) fn flat(calls: &mut u8) -> ::std::io::Result<u8> {
        *calls += 1;
        ::core::result::Result::Ok(*calls)
    }

    #[rt::timeout(20, start = forkserver)]
    pub(super) fn served(a: u8, b: &mut u8, c: &str) -> u8 {
        *b = a;
        a + u8::from(c.is_empty())
    }

    #[rt::timeout(__call, start = forkserver)]
    pub(super) fn served_with_our_names(__call: u64, __slot0: &mut u8, __arg2: u8, __self: u8) -> u8 {
        *__slot0 = __arg2;
        __self
    }

    #[rt::timeout(20, flatten, start = forkserver)]
    pub(super) fn served_flat(calls: &mut u8) -> ::std::io::Result<u8> {
        *calls += 1;
        ::core::result::Result::Ok(*calls)
    }

    #[rt::timeout(20)]
    #[test]
    fn a_test() {}

    #[rt::timeout(20, start = forkserver)]
    #[test]
    fn a_served_test() {}

    #[test]
    #[rt::timeout(20)]
    fn a_test_in_the_other_order() {}
}

/// The attribute on functions that a macro writes.
mod from_a_macro {
    use timeout_runtime::timeout;

    macro_rules! function {
        ($(#[$attr:meta])* $name:ident, $limit:expr, $grace:literal, $list:pat => $arg:ty, $result:ty, $body:block) => {
            $(#[$attr])*
            #[timeout($limit, grace = $grace)]
            pub(super) fn $name($list: $arg) -> $result $body
        };
    }

    macro_rules! served {
        ($(#[$attr:meta])* $name:ident, $limit:expr, $list:pat => $arg:ty, $result:ty, $body:block) => {
            $(#[$attr])*
            #[timeout($limit, start = forkserver)]
            pub(super) fn $name($list: $arg) -> $result $body
        };
    }

    served!(served_by_macro, 20, list => &mut Vec<u8>, usize, { list.len() });
    served!(#[inline] served_at_run_time, 2 * u64::from(10_u8), [first, ..] => [u8; 2], Vec<u8>, { vec![first] });

    function!(by_macro, 20s, 1, list => &mut Vec<u8>, usize, { list.len() });
    function!(io_by_macro, 20s, 1, path => &str, std::io::Result<u64>, { Ok(std::fs::metadata(path)?.len()) });
    function!(#[inline] at_run_time, 2 * u64::from(10_u8), 250ms, [first, ..] => [u8; 2], Vec<u8>, { vec![first] });
}

#[test]
fn the_strict_crate_also_runs() {
    use std::time::Duration;

    use every_form::{Counter, Greets};

    assert_eq!(every_form::add(1, 2).ok(), Some(3));
    assert_eq!(every_form::add_with_a_reason(1, 2).ok(), Some(3));
    assert_eq!(every_form::nothing().ok(), Some(()));
    assert_eq!(every_form::only_a_call().ok(), Some(String::new()));
    let (mut list, mut count) = ([0; 3], 0);
    assert!(every_form::fill(Duration::from_secs(20), &mut list, &mut count, &mut 0, &mut 0).is_ok());
    assert_eq!((list, count), ([1; 3], 3));
    assert_eq!(every_form::ignores(&mut vec![], 0).ok(), Some(1));
    assert_eq!(every_form::patterns((60, 1), [4, 0, 0], "x".to_owned()).ok().as_deref(), Some("xA"));
    assert_eq!(every_form::early("12").ok(), Some(Ok(12)));
    assert_eq!(every_form::early("").ok(), Some(Ok(0)));
    let mut calls = 0;
    assert_eq!(every_form::io("12", &mut calls).ok().and_then(Result::ok), Some(12));
    assert!(every_form::io("x", &mut calls).ok().is_some_and(|result| result.is_err()));
    assert_eq!(calls, 2);
    assert_eq!(every_form::flat("12").ok(), Some(12));
    assert!(every_form::flat("x").is_err_and(|error| error.to_string().contains("invalid digit")));
    assert!(every_form::told("x").is_ok_and(|result| result.is_err_and(|error| error.to_string() == "no number")));
    assert_eq!(every_form::cow("text", "").ok().as_deref(), Some("text"));
    assert_eq!(every_form::generic::<_, 2>(&1, [2, 3]).ok(), Some(vec![1, 1, 2, 3]));
    let mut counter = Counter::new(Duration::from_secs(20));
    assert_eq!(counter.increase(&mut 2).ok(), Some(2));
    assert_eq!(counter.get().ok(), Some(2));
    assert_eq!(counter.greet().ok().as_deref(), Some("hello 2"));
    assert_eq!(Box::new(counter.clone()).unbox().ok().map(|counter| counter.get().ok()), Some(Some(2)));
    assert_eq!(counter.into_inner().ok(), Some(3));

    assert_eq!(shadows::plain(1).ok(), Some(1));
    let (mut a, mut b) = (1, 2);
    assert!(shadows::writes_back(&mut a, &mut b).is_ok());
    assert_eq!((a, b), (2, 1));
    assert_eq!(shadows::uses_our_names(20, 5).ok(), Some(5));

    assert_eq!(shadows::io(2).ok().and_then(|result| result.err()?.raw_os_error()), Some(2));
    assert_eq!(shadows::flat(&mut 1).ok(), Some(2));

    assert_eq!(from_a_macro::by_macro(&mut vec![5]).ok(), Some(1));
    assert!(from_a_macro::io_by_macro("/no/such/file").ok().is_some_and(|result| result.is_err()));
    assert_eq!(from_a_macro::at_run_time([1, 2]).ok(), Some(vec![1]));

    assert!(every_form::exits().is_err());
    assert!(every_form::panics().is_err());
    assert!(shadows::never().is_err());
}

#[test]
fn the_strict_crate_also_runs_by_the_fork_server() {
    use std::{path::Path, time::Duration};

    use every_form_served::Counter;

    assert_eq!(every_form_served::add(1, 2).ok(), Some(3));
    assert_eq!(every_form_served::nothing().ok(), Some(()));
    assert_eq!(every_form_served::only_a_call().ok(), Some(String::new()));
    let (mut list, mut count) = ([0; 3], 0);
    assert!(every_form_served::fill(Duration::from_secs(20), &mut list, &mut count, &mut 0, &mut 0).is_ok());
    assert_eq!((list, count), ([1; 3], 3));
    assert_eq!(every_form_served::ignores(&mut vec![], 0, "", &(20, 0)).ok(), Some(1));
    assert_eq!(every_form_served::patterns((60, 1), [4, 0, 0], "x".to_owned()).ok().as_deref(), Some("xA"));
    assert_eq!(every_form_served::early("12").ok(), Some(Ok(12)));
    assert_eq!(every_form_served::early("").ok(), Some(Ok(0)));
    let mut calls = 0;
    assert_eq!(every_form_served::io("12", &mut calls).ok().and_then(Result::ok), Some(12));
    assert!(every_form_served::io("x", &mut calls).ok().is_some_and(|result| result.is_err()));
    assert_eq!(calls, 2);
    assert_eq!(every_form_served::flat(Path::new("/dev/null")).ok(), Some(0));
    assert!(every_form_served::flat(Path::new("/no/such/file")).is_err());
    assert!(every_form_served::told("x").is_ok_and(|result| result.is_err()));
    assert_eq!(every_form_served::cow("text", "").ok().as_deref(), Some("text"));
    assert_eq!(every_form_served::generic::<_, 2>(&1, vec![2, 3]).ok(), Some(vec![1, 1, 2, 3]));
    let mut counter = Counter::new(Duration::from_secs(20));
    assert_eq!(counter.increase(&mut 2).ok(), Some(2));
    assert_eq!((counter.get().ok(), counter.limited().ok()), (Some(2), Some(7)));
    assert_eq!(Box::new(counter.clone()).unbox().ok().map(|counter| counter.get().ok()), Some(Some(2)));
    assert_eq!(counter.into_inner().ok(), Some(3));

    let mut b = 0;
    assert_eq!((shadows::served(1, &mut b, "").ok(), b), (Some(2), 1));
    assert_eq!((shadows::served_with_our_names(20, &mut b, 5, 6).ok(), b), (Some(6), 5));
    assert_eq!(shadows::served_flat(&mut 1).ok(), Some(2));
    assert_eq!(from_a_macro::served_by_macro(&mut vec![5]).ok(), Some(1));
    assert_eq!(from_a_macro::served_at_run_time([1, 2]).ok(), Some(vec![1]));
    assert!(every_form_served::exits(3, &mut vec![]).is_err());
    assert!(every_form_served::panics().is_err());
}
