//! Gives the generators of other crates new seeds in a child, for which their features ask; nothing else names these crates.
//!
//! Only the generator of the thread that runs the body exists in a child: those of other threads died with them, and
//! new threads make their own.

/// Seeds the body's thread anew. A kernel that gives no random numbers makes it panic, which ends the child before its body.
pub(super) fn reseed() {
    #[cfg(feature = "rand")]
    if let Err(error) = rand::rng().reseed() {
        panic!("`rand::rng()` could not be reseeded: {error}");
    }
    #[cfg(feature = "fastrand")]
    match crate::sys::random::number() {
        Ok(seed) => fastrand::seed(seed),
        Err(errno) => panic!("`fastrand` could not be reseeded: getrandom: {errno}"),
    }
}
