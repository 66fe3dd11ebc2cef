//! The attribute of `timeout-runtime`, which re-exports it: depend on that crate, not on this one.
//!
//! [`macro@timeout`] is the reference of the attribute. This crate only rewrites the function; what a call does is told
//! where it is done, in `timeout_runtime`.
//!
//! One attribute goes through four steps, each in its file: `args` and `function` take apart what was written, `check`
//! holds every rule and reports all that are broken, `expand` writes one call into the runtime. Only this file touches
//! `proc_macro`, so that everything else runs in unit tests.

#![deny(missing_docs)]

mod args;
mod check;
mod duration;
mod errors;
mod expand;
mod function;
mod memory;
mod quantity;

use proc_macro::TokenStream;

/// Makes a function come back within a limit, whatever its body does.
///
/// Each call runs the body in a child process and brings its value home. The function returns
/// `Result<T, TimedOut>`, where `T` is the whole type it is written with.
///
/// ```text
/// use timeout_runtime::timeout;
///
/// #[timeout(2)]
/// fn factor(n: u64) -> Vec<u64> { /* may take for ever */ }
///
/// match factor(n) {
///     Ok(factors) => println!("{factors:?}"),
///     Err(error) => println!("{error}"), // `app::factor` did not return within 2 s: it was in …
/// }
/// ```
///
/// # What stays in the child
///
/// The body sees all of the caller's memory, but it changes a copy. **Changes through [`Cell`](std::cell::Cell),
/// `Mutex`, atomics, raw pointers and statics are lost**, and no rule below can find them. Two kinds of change come back:
/// the value, and what the body does to its `&mut` arguments and `&mut self`.
///
/// # The limit
///
/// ```text
/// #[timeout(LIMIT)]
/// #[timeout(LIMIT, option = value, …)]
/// ```
///
/// | `LIMIT` | is |
/// |---|---|
/// | `2`, `0.25`, `2u64`, `1e3` | seconds |
/// | `250ms`, `1.5s`, `5min` | a number with a unit |
/// | `"1m 30s"`, `"1.5 s"` | a sum of them; blanks do not matter |
/// | `LIMIT`, `limit`, `self.limit`, `cfg.limit()`, … | any expression that gives a `Duration`, or a number of seconds |
///
/// Units are `ns`, `us`, `ms`, `s`, `m` or `min`, `h`, `d`. Literals are read exactly, never through a float, rounded up
/// to a whole nanosecond, and checked when the crate is compiled. An expression sees the function's arguments; it is
/// evaluated once per call, in the caller, and lets go of what it borrowed before the body starts. At run time zero is an
/// immediate failure without a child, `Duration::MAX` is no limit, and what is negative or not a number panics.
///
/// The clock starts at the call: making the child, running, sending the value and reading it are inside the limit.
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `grace = LIMIT` | at the limit the body is asked to end (`SIGTERM`), and killed when the grace is over. It is a maximum. Without it, the body is killed at the limit |
/// | `cpu = LIMIT` | the CPU time that the body may use; beyond it the failure is `Reason::OutOf(Resource::Cpu)`. See `Call::cpu` |
/// | `memory = "256MiB"` | what the body may take on top of its caller's memory; beyond it the failure is `Reason::OutOf(Resource::Memory)`. See `Call::memory` |
/// | `panic = "resume"` | a panic of the body is raised again in the caller, its message kept. Without it, it is a `TimedOut` |
/// | `cancel = &token` | a `Cancel` that ends the call from elsewhere, as `Reason::Cancelled` |
/// | `flatten` | the signature stays `Result<T, E>` as it is written, and a failed call becomes an error: `E: From<TimedOut>` |
/// | `error = text` | the error comes back as its texts and those of its sources: `E: Error + From<RemoteError>` |
/// | `start = fork` | the child is a copy of the caller. This is the default |
/// | `start = forkserver` | the child is a fresh process that a server has forked, at the same price whatever the caller's size. The arguments travel by serde. `timeout_runtime::forkserver` says when to choose it |
/// | `crate = path` | the path of `timeout_runtime`, when it is renamed or re-exported |
///
/// Memory is a number with a unit, as a string or not (`"1.5GiB"`, `256MiB`), or any expression that gives a `u64` of
/// bytes. Units are `B`, `KiB`, `MiB`, `GiB`, `TiB`, which are powers of 1024, and `kB`, `MB`, `GB`, `TB`, powers of 1000.
///
/// Known but not built yet, and refused: `async`, `each`, `latest`.
///
/// # The function
///
/// It may be free, nested or recursive; a method with any receiver, of a type, of a trait's implementation, or with a
/// default body in a trait; generic over types, lifetimes and constants; take `impl Trait`, borrows and patterns; be
/// `unsafe`; return early with `return` or `?`. Attributes, docs and visibility stay as they are.
///
/// * **Arguments** need nothing: the child has the caller's memory. One that is passed by value is dropped in both
///   processes, so pass guards such as a temporary directory by reference.
/// * **`&mut` arguments and `&mut self`** are written back, all of them together, only when the call returns `Ok`. A call
///   that fails leaves them untouched. They need serde. A `&mut` that a type hides from the attribute, such as a type
///   alias or a generic `T` that stands for one, is not seen, and its change is lost.
/// * **The result** needs `Serialize` and `Deserialize`, and owns what it holds.
/// * **An error** in a result `Result<T, E>` may do without: `io::Error`, `Box<dyn Error>`, and by features of the runtime
///   `anyhow::Error` and `eyre::Report`, come back with kind, OS code, texts and all sources; your own by its serde, by
///   `PortableError`, or with `error = text`. So do errors in an `Option<Result<T, E>>` or `Vec<Result<T, E>>`, and in the
///   `Ok` of another result.
/// * **`-> !`** becomes `Result<Infallible, TimedOut>`; nothing is written back.
///
/// In a trait's implementation the trait declares `Result<T, TimedOut>` and the function is written with `T`; or it has
/// `flatten`, and both are the same.
///
/// The function gets `#[track_caller]`, so that the error can name the line of the call; called through a function
/// pointer it names the function itself. `Location::caller()` in the body names the body.
///
/// # Tests
///
/// `#[timeout]` goes above or below `#[test]`, `#[tokio::test]` and the like, with or without `#[should_panic]`. A
/// failure fails the test with the body's own message. An `async` test runs with its executor in the child. With `flatten` a
/// failure is the error that the test returns.
///
/// # Errors
///
/// The function returns `TimedOut` when there is no value: the body was late, panicked, crashed, ended its process, or
/// could not be started, or its value could not be sent. `TimedOut::reason` tells which. With `flatten` it returns the error
/// that `E` makes of that.
///
/// # Panics
///
/// With `panic = "resume"`, and in tests. Also when a time is an expression and comes out negative or not a number.
///
/// # Refusals
///
/// All of one attribute are reported at once, each with a way out:
///
/// * a limit that is missing, zero, negative, below 1 ns, above 300 years, in an unknown unit, or no time at all;
/// * memory that is zero, negative, below 4 KiB, above 128 TiB, in an unknown unit, or no size at all;
/// * an option that is unknown, given twice, without its value, or not supported yet;
/// * what is not a function, or has no body; `const fn`; `extern fn`; `async fn` that is not a test;
/// * a result that borrows, or is `impl Trait`; with `flatten` or `error = text`, one that is no `Result`;
/// * a `&mut dyn Trait` argument, a `&mut` inside another type, a `&mut` behind a pattern.
///
/// The compiler itself refuses a result, or a `&mut` argument, whose type has no serde, and an error that has no way home.
#[proc_macro_attribute]
pub fn timeout(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::timeout(&attribute.into(), &item.into()).into()
}
