//! Waiting for what must come true soon.

use std::time::Duration;

use countersign::clock::Clock;

/// Asks again and again until it is so; panics after `limit`.
#[track_caller]
pub fn eventually(limit: Duration, what: &'static str, mut is_so: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let (began, place) = (Clock::monotonic(), std::panic::Location::caller());
    async move {
        while !is_so().await {
            assert!(Clock::since(began) < limit, "{place}: not within {limit:?}: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What every node owes: a revocation or a change is effective within a second.
#[track_caller]
pub fn within_a_second(what: &'static str, is_so: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    eventually(Duration::from_secs(1), what, is_so)
}
