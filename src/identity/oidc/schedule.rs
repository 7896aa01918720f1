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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn keys(kid: &str) -> KeySet {
        let jwk = serde_json::json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": "AAAA"}]});
        KeySet::parse(jwk.to_string().as_bytes()).unwrap()
    }

    fn failure(temporary: bool, retry_after: Option<u64>) -> Failure {
        Failure { reason: "down".to_owned(), temporary, retry_after: retry_after.map(at) }
    }

    /// Keys `a`, fetched at 0 for a known kid.
    fn holding(max_age: Option<u64>) -> Schedule {
        let mut schedule = Schedule::default();
        schedule.begin(at(0));
        schedule.end(Ok((keys("a"), max_age.map(at))), Some("a"), at(0));
        schedule
    }

    fn word(next: &Next) -> &'static str {
        match next {
            Next::Use(_) => "use",
            Next::Unknown => "unknown",
            Next::Fetch => "fetch",
            Next::Unavailable(_) => "unavailable",
        }
    }

    #[track_caller]
    fn expect(schedule: &Schedule, kid: &str, seconds: u64, expected: &str) {
        assert_eq!(word(&schedule.next(Some(kid), at(seconds))), expected);
    }

    #[test]
    fn freshness_follows_cache_control_within_bounds() {
        expect(&Schedule::default(), "a", 0, "fetch");
        for (max_age, fresh) in [(None, 600), (Some(300), 300), (Some(0), 60), (Some(5_000_000), 3_600)] {
            let schedule = holding(max_age);
            expect(&schedule, "a", fresh - 1, "use");
            expect(&schedule, "a", fresh, "fetch");
        }
    }

    #[test]
    fn a_missing_kid_is_remembered_for_a_minute() {
        let mut schedule = holding(None);
        expect(&schedule, "b", 1, "fetch");
        schedule.begin(at(1));
        schedule.end(Ok((keys("a"), None)), Some("b"), at(1));
        expect(&schedule, "b", 60, "unknown");
        expect(&schedule, "b", 61, "fetch");
        expect(&schedule, "a", 60, "use");
    }

    #[test]
    fn three_fetches_then_one_a_minute() {
        let mut schedule = holding(Some(3_600));
        let mut fetches = 1;
        for second in 1..=600 {
            let kid = format!("k{second}");
            if word(&schedule.next(Some(&kid), at(second))) == "fetch" {
                fetches += 1;
                schedule.begin(at(second));
                schedule.end(Ok((keys("a"), Some(at(3_600)))), Some(&kid), at(second));
            }
        }
        assert_eq!(fetches, 3 + 10);
    }

    #[test]
    fn an_outage_does_not_use_up_the_fetches_after_it() {
        let mut schedule = holding(Some(60));
        for second in (60..7_200).step_by(30) {
            expect(&schedule, "a", second, "fetch");
            schedule.begin(at(second));
            schedule.end(Err(failure(true, None)), Some("a"), at(second));
            assert_eq!(word(&schedule.settle(Some("a"), at(second))), "use");
            expect(&schedule, "b", second, "unavailable");
        }
        schedule.begin(at(7_200));
        schedule.end(Ok((keys("a"), Some(at(3_600)))), Some("a"), at(7_200));
        expect(&schedule, "b", 7_260, "fetch");
    }

    #[test]
    fn stale_keys_serve_for_a_day_and_no_longer() {
        let mut schedule = holding(None);
        schedule.end(Err(failure(true, Some(1_000_000))), Some("a"), at(86_200));
        assert_eq!(word(&schedule.settle(Some("a"), at(86_399))), "use");
        expect(&schedule, "a", 86_399, "use");
        assert_eq!(word(&schedule.settle(Some("a"), at(86_400))), "unavailable");
        expect(&schedule, "a", 86_400, "unavailable");
        expect(&schedule, "a", 86_500, "fetch");
    }

    #[test]
    fn a_definite_answer_ends_the_keys_and_is_not_asked_for_at_once() {
        let mut schedule = holding(None);
        schedule.end(Err(failure(false, None)), Some("a"), at(600));
        expect(&schedule, "a", 604, "unavailable");
        expect(&schedule, "a", 605, "fetch");
    }

    /// Who waited for the fetch of another does not call its own kid missing: the fetch may be older than the key.
    #[test]
    fn a_fetch_for_one_kid_says_nothing_lasting_of_another() {
        let mut schedule = holding(None);
        schedule.begin(at(1));
        schedule.end(Ok((keys("a"), None)), Some("b"), at(1));
        assert_eq!(word(&schedule.settle(Some("c"), at(1))), "unknown");
        expect(&schedule, "c", 2, "fetch");
    }
}
