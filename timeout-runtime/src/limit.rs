//! What can stand for a limit: a `Duration`, or a number of seconds.

use std::time::Duration;

/// A length of time: a [`Duration`], or a number of seconds as an integer or a float.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use timeout_runtime::IntoLimit;
///
/// assert_eq!(2.into_limit(), Duration::from_secs(2));
/// assert_eq!(0.25.into_limit(), Duration::from_millis(250));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a limit",
    label = "a limit is a `Duration` or a number of seconds"
)]
pub trait IntoLimit {
    /// Gives the length of time.
    ///
    /// # Panics
    /// Panics when the number is negative or not a number, naming the caller's line. A float too large for a
    /// [`Duration`] is [`Duration::MAX`], which means "no limit".
    #[track_caller]
    fn into_limit(self) -> Duration;
}

impl IntoLimit for Duration {
    fn into_limit(self) -> Duration {
        self
    }
}

impl IntoLimit for &Duration {
    fn into_limit(self) -> Duration {
        *self
    }
}

macro_rules! seconds {
    (unsigned: $($unsigned:ty)*; signed: $($signed:ty)*; float: $($float:ty)*) => {
        $(impl IntoLimit for $unsigned {
            fn into_limit(self) -> Duration {
                // Lossless: no unsigned integer here is wider than 64 bits.
                Duration::from_secs(self as u64)
            }
        })*
        $(impl IntoLimit for $signed {
            #[track_caller]
            fn into_limit(self) -> Duration {
                match u64::try_from(self) {
                    Ok(seconds) => Duration::from_secs(seconds),
                    Err(_) => panic!("a limit of {self} s: it must not be negative"),
                }
            }
        })*
        $(impl IntoLimit for $float {
            #[track_caller]
            fn into_limit(self) -> Duration {
                assert!(!self.is_nan(), "a limit of NaN s: it must be a number");
                assert!(self >= 0.0, "a limit of {self} s: it must not be negative");
                // What does not fit is longer than any program runs.
                Duration::try_from_secs_f64(self.into()).unwrap_or(Duration::MAX)
            }
        })*
    };
}

seconds! {
    unsigned: u8 u16 u32 u64 usize;
    signed: i8 i16 i32 i64 isize;
    float: f32 f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_seconds() {
        assert_eq!(3u8.into_limit(), Duration::from_secs(3));
        assert_eq!(3i64.into_limit(), Duration::from_secs(3));
        assert_eq!(1.5f32.into_limit(), Duration::from_millis(1500));
        assert_eq!((&Duration::from_millis(7)).into_limit(), Duration::from_millis(7));
    }

    #[test]
    fn endless_is_no_limit() {
        assert_eq!(f64::INFINITY.into_limit(), Duration::MAX);
        assert_eq!(1e300.into_limit(), Duration::MAX);
    }

    #[test]
    #[should_panic(expected = "must not be negative")]
    fn negative_seconds_panic() {
        (-1).into_limit();
    }

    #[test]
    #[should_panic(expected = "must be a number")]
    fn no_number_panics() {
        f64::NAN.into_limit();
    }
}
