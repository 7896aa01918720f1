//! Fuzzing: parsers meet bytes that are nearly right, for a stated time. For the tests of the rooms above.
//!
//! A target is a unit test whose name begins with `fuzz_`. It runs a second in every test run; `tests/fuzz.sh` gives each of them
//! minutes. A failure prints the shortest bytes that still fail.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

use crate::clock::Clock;

/// Seconds for each target, when not the one of an ordinary run.
const SECONDS: &str = "COUNTERSIGN_FUZZ_SECONDS";

/// Tries `check` on values of `strategy` until the time is over.
#[track_caller]
pub fn survives<S: Strategy>(strategy: S, check: impl Fn(S::Value) -> TestCaseResult) {
    let seconds = std::env::var(SECONDS).ok().map_or(1, |text| text.parse().unwrap());
    let (began, mut tried) = (Clock::monotonic(), 0u64);
    while Clock::since(began) < Duration::from_secs(seconds) {
        let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
        TestRunner::new(config).run(&strategy, &check).unwrap_or_else(|failure| panic!("{failure}"));
        tried += 64;
    }
    eprintln!("tried {tried} cases");
}

/// Bytes of one of the seeds, with up to eight changes: bits, bytes, cuts, repetitions, a piece of another seed.
pub fn mangled(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let donor = select(seeds.clone());
    let change = (0u8..7, any::<Index>(), any::<Index>(), any::<u8>(), donor);
    (select(seeds), vec(change, 0..8)).prop_map(|(mut bytes, changes)| {
        for (kind, at, to, byte, donor) in changes {
            apply(&mut bytes, kind, at, to, byte, &donor);
        }
        bytes
    })
}

/// Nearly right, or nothing like it.
pub fn hostile(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => mangled(seeds), 1 => vec(any::<u8>(), 0..300)]
}

/// The same as text; what is no UTF-8 is replaced.
pub fn hostile_text(seeds: &[&str]) -> impl Strategy<Value = String> {
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    prop_oneof![8 => mangled(seeds).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()), 1 => ".{0,120}"]
}

fn apply(bytes: &mut Vec<u8>, kind: u8, at: Index, to: Index, byte: u8, donor: &[u8]) {
    let (here, there) = (at.index(bytes.len() + 1), to.index(bytes.len() + 1));
    let (from, until) = (here.min(there), here.max(there));
    match kind {
        0 if here < bytes.len() => bytes[here] ^= 1 << (byte % 8),
        1 if here < bytes.len() => bytes[here] = byte,
        2 => bytes.insert(here, byte),
        3 => drop(bytes.drain(from..until.min(from + 16))),
        4 => bytes.truncate(here),
        5 => {
            let piece = bytes[from..until].to_vec();
            bytes.splice(here..here, piece);
        }
        6 => drop(bytes.splice(here..here, donor[to.index(donor.len() + 1)..].iter().copied())),
        _ => {}
    }
}
