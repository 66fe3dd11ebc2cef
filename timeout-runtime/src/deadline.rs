//! A point in time that may lie beyond all time.

use std::time::{Duration, Instant};

/// The moment a limit is over; never, for a limit too long for the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// `limit` after `now`.
    pub(crate) fn after(now: Instant, limit: Duration) -> Deadline {
        Deadline(now.checked_add(limit))
    }

    /// The moment itself; `None` if it never comes.
    pub(crate) fn instant(self) -> Option<Instant> {
        self.0
    }

    /// How long it is until then; `None` if it never comes.
    pub(crate) fn left(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn is_over(self, now: Instant) -> bool {
        self.0.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_over_at_its_moment_and_not_before() {
        let now = Instant::now();
        let deadline = Deadline::after(now, Duration::from_nanos(10));
        assert!(!deadline.is_over(now + Duration::from_nanos(9)));
        assert!(deadline.is_over(now + Duration::from_nanos(10)));
    }

    #[test]
    fn the_longest_limit_is_never_over() {
        let now = Instant::now();
        let deadline = Deadline::after(now, Duration::MAX);
        assert_eq!(deadline.instant(), None);
        assert!(!deadline.is_over(now + Duration::from_secs(1 << 40)));
    }
}
