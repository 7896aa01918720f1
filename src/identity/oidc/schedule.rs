//! When a provider's keys are fetched again. Pure: the time is a parameter, counted from the start of the source on the
//! monotonic clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::keys::KeySet;

/// Bounds on what Cache-Control says: an emergency rotation that removes a key is noticed within the hour.
const FRESH_AT_LEAST: Duration = Duration::from_secs(60);
const FRESH_AT_MOST: Duration = Duration::from_secs(3_600);
const FRESH_BY_DEFAULT: Duration = Duration::from_secs(600);
/// How long keys serve while the provider does not answer.
const STALE_AT_MOST: Duration = Duration::from_secs(24 * 3_600);
/// One fetch for unknown kids in this time, after a burst of [`BURST`].
const REFILL: Duration = Duration::from_secs(60);
const BURST: u32 = 3;
/// How long a kid that a refetch did not find is remembered, and how many of them.
const REMEMBER: Duration = Duration::from_secs(60);
const REMEMBER_AT_MOST: usize = 256;
/// After a failure nothing is fetched for this long: short while there are no keys at all.
const PAUSE_WITHOUT_KEYS: Duration = Duration::from_secs(5);
const PAUSE_WITH_KEYS: Duration = Duration::from_secs(30);
const PAUSE_AT_MOST: Duration = Duration::from_secs(300);

/// The keys of one issuer and what is known about their age.
#[derive(Debug, Default)]
pub struct Schedule {
    held: Option<Held>,
    /// Why the last fetch failed; None if it did not.
    failure: Option<String>,
    paused_until: Duration,
    /// The bucket for unknown kids: it has room while this is less than BURST - 1 refills ahead of now.
    spent_until: Duration,
    missing: BTreeMap<String, Duration>,
    /// Fetches that have ended.
    ended: u64,
}

#[derive(Debug)]
struct Held {
    keys: Arc<KeySet>,
    fetched_at: Duration,
    fresh_until: Duration,
}

/// What to do about a token.
#[derive(Debug)]
pub enum Next {
    /// These keys hold its kid, or it has none.
    Use(Arc<KeySet>),
    /// No key has its kid, and asking again is not worth it.
    Unknown,
    Fetch,
    /// The keys cannot be had, for this reason.
    Unavailable(String),
}

/// A fetch that brought no keys.
#[derive(Debug)]
pub struct Failure {
    pub reason: String,
    /// The provider is down, slow or overloaded (429, 5xx): the keys it had published still serve. Anything else is its answer.
    pub temporary: bool,
    pub retry_after: Option<Duration>,
}

impl Schedule {
    pub fn ended(&self) -> u64 {
        self.ended
    }

    pub fn next(&self, kid: Option<&str>, now: Duration) -> Next {
        let Some(held) = self.usable(now) else {
            return if now < self.paused_until { self.unavailable() } else { Next::Fetch };
        };
        if now >= held.fresh_until && now >= self.paused_until {
            return Next::Fetch;
        }
        let unknown = match kid {
            Some(kid) if !held.keys.contains(kid) => kid,
            _ => return Next::Use(held.keys.clone()),
        };
        if self.missing.get(unknown).is_some_and(|until| now < *until) {
            Next::Unknown
        } else if self.failure.is_some() && now < self.paused_until {
            self.unavailable()
        } else if self.spent_until <= now + REFILL * (BURST - 1) {
            Next::Fetch
        } else {
            self.unknown()
        }
    }

    /// Called when a fetch begins: every fetch takes from the bucket, and leaves it empty at worst.
    pub fn begin(&mut self, now: Duration) {
        self.spent_until = (self.spent_until.max(now) + REFILL).min(now + REFILL * BURST);
    }

    /// Called when a fetch, made for `kid`, has ended.
    pub fn end(&mut self, outcome: Result<(KeySet, Option<Duration>), Failure>, kid: Option<&str>, now: Duration) {
        self.ended += 1;
        match outcome {
            Ok((keys, max_age)) => {
                let fresh = max_age.unwrap_or(FRESH_BY_DEFAULT).clamp(FRESH_AT_LEAST, FRESH_AT_MOST);
                if let Some(kid) = kid.filter(|kid| !keys.contains(kid)) {
                    self.remember_missing(kid, now);
                }
                self.held = Some(Held { keys: Arc::new(keys), fetched_at: now, fresh_until: now + fresh });
                self.failure = None;
                self.paused_until = now;
            }
            Err(failure) => {
                if !failure.temporary {
                    self.held = None;
                }
                let pause = if self.usable(now).is_some() { PAUSE_WITH_KEYS } else { PAUSE_WITHOUT_KEYS };
                self.paused_until = now + failure.retry_after.unwrap_or(pause).clamp(PAUSE_WITHOUT_KEYS, PAUSE_AT_MOST);
                self.failure = Some(failure.reason);
            }
        }
    }

    /// What to do after a fetch has ended, this caller's own or one that it waited for: everything but fetching again.
    pub fn settle(&self, kid: Option<&str>, now: Duration) -> Next {
        match (self.usable(now), kid) {
            (None, _) => self.unavailable(),
            (Some(held), Some(kid)) if !held.keys.contains(kid) => self.unknown(),
            (Some(held), _) => Next::Use(held.keys.clone()),
        }
    }

    fn usable(&self, now: Duration) -> Option<&Held> {
        self.held.as_ref().filter(|held| now < held.fetched_at + STALE_AT_MOST)
    }

    /// A kid that stale keys do not hold may well be a new one.
    fn unknown(&self) -> Next {
        if self.failure.is_some() { self.unavailable() } else { Next::Unknown }
    }

    fn unavailable(&self) -> Next {
        Next::Unavailable(self.failure.clone().unwrap_or_else(|| "the keys of the provider are too old".to_owned()))
    }

    fn remember_missing(&mut self, kid: &str, now: Duration) {
        self.missing.retain(|_, until| now < *until);
        // The bucket lets a few through in a minute, so this is reached by nobody; it bounds the memory all the same.
        if self.missing.len() < REMEMBER_AT_MOST {
            self.missing.insert(kid.to_owned(), now + REMEMBER);
        }
    }
}
