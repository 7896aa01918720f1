//! The only place that reads the time. Everything else is given a [`Clock`] (the lint in `clippy.toml` keeps it so).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the time comes from: the machine, or a test that moves it by hand.
#[derive(Clone, Debug)]
pub enum Clock {
    System,
    /// Seconds since the Unix epoch, moved by whoever holds the other end.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `seconds` until it is moved.
    pub fn manual(seconds: i64) -> (Clock, Arc<AtomicI64>) {
        let hand = Arc::new(AtomicI64::new(seconds));
        (Clock::Manual(hand.clone()), hand)
    }

    /// Whole seconds since the Unix epoch, the unit of RFC 7519 section 2 (NumericDate).
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
    pub fn now(&self) -> i64 {
        match self {
            Clock::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64),
            Clock::Manual(hand) => hand.load(Ordering::SeqCst),
        }
    }

    /// A point on the monotonic clock, for deadlines and ages within this process. Steps of the wall clock do not move it.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
    pub fn monotonic() -> Instant {
        Instant::now()
    }

    /// How long ago `then` was on the monotonic clock.
    pub fn since(then: Instant) -> Duration {
        Clock::monotonic().saturating_duration_since(then)
    }
}
