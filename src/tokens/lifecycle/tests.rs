//! The life of keys by a clock that the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::clock::Clock;
use crate::config::{Config, Database};
use crate::oauth2::Secret;
use crate::tokens::Keyring;

const DAY: i64 = 86_400;

struct House {
    storage: Storage,
    kek: Kek,
    tokens: Tokens,
    clock: Clock,
    hand: Arc<AtomicI64>,
    _folder: tempfile::TempDir,
}

fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let database = Database { url: Secret::new(format!("sqlite:{}", folder.path().join("test.db").display())), ..Database::default() };
    let config = Config { database, ..Config::default() };
    let storage = Storage::open(&config.database).unwrap();
    storage.migrate().unwrap();
    let (clock, hand) = Clock::manual(1_800_000_000);
    let house = House { kek: Kek::load(&config, true).unwrap(), storage, tokens: Tokens::default(), clock, hand, _folder: folder };
    ensure(&house.storage, &house.kek, house.clock.now()).unwrap();
    house
}

impl House {
    fn pass(&self, seconds: i64) {
        self.hand.fetch_add(seconds, Ordering::SeqCst);
    }

    fn rotate(&self, due: Option<i64>) -> usize {
        let due = due.map(|seconds| Duration::from_secs(seconds as u64));
        rotate(&self.storage, &self.kek, &self.tokens, due, self.clock.now()).unwrap().len()
    }

    fn revoke(&self, kid: &str) {
        assert!(revoke(&self.storage, &self.kek, kid, self.clock.now()).unwrap());
    }

    fn rows(&self) -> Vec<KeyRow> {
        self.storage.read_blocking(keys::all).unwrap()
    }

    /// The kid in use, by the memory of a node that loaded the keys now.
    fn signs(&self) -> String {
        let now = self.clock.now();
        let ring = Keyring::build(&self.rows(), &self.kek, "https://issuer.test", now).unwrap();
        ring.sealing_key(now).unwrap();
        ring.signing_key(SigningAlgorithm::Es256, now).unwrap().kid.clone()
    }

    /// The kids of the ES256 line in a state.
    fn kids(&self, state: KeyState) -> Vec<String> {
        let of_line = |row: &KeyRow| row.algorithm == "ES256" && KeyState::of(row, self.clock.now()) == state;
        self.rows().into_iter().filter(of_line).map(|row| row.kid).collect()
    }
}

#[test]
fn the_first_keys_are_in_use_at_once_and_made_once() {
    let house = house();
    assert_eq!(house.rows().len(), Line::ALL.len());
    assert!(house.rows().iter().all(|row| KeyState::of(row, house.clock.now()) == KeyState::Signing));
    let kid = house.signs();
    ensure(&house.storage, &house.kek, house.clock.now()).unwrap();
    assert_eq!((house.rows().len(), house.signs()), (Line::ALL.len(), kid));
}

#[test]
fn a_key_is_published_used_retired_and_removed() {
    let house = house();
    let first = house.signs();
    assert_eq!(house.rotate(None), Line::ALL.len());
    assert_eq!(house.rotate(None), 0, "a successor waits already");
    let second = house.kids(KeyState::Published).remove(0);
    house.pass(JWKS_MAX_AGE - 1);
    assert_eq!(house.signs(), first, "the JWKS that somebody keeps may not have the new one yet");
    house.pass(1);
    assert_eq!((house.signs(), house.kids(KeyState::Retired)), (second.clone(), vec![first.clone()]));

    let longest = house.storage.read_blocking(longest_lifetime).unwrap();
    house.pass(longest + CLOCK_MARGIN - 1);
    remove_due(&house.storage, house.clock.now()).unwrap();
    assert!(house.kids(KeyState::Removed).is_empty(), "a token under it may still live");
    house.pass(1);
    let heard = house.storage.read_blocking(feed::head).unwrap();
    remove_due(&house.storage, house.clock.now()).unwrap();
    assert_eq!((house.kids(KeyState::Removed), house.signs()), (vec![first.clone()], second));
    let ring = Keyring::build(&house.rows(), &house.kek, "https://issuer.test", house.clock.now()).unwrap();
    assert!(ring.verifying_key(&first).is_none());
    assert!(house.storage.read_blocking(feed::head).unwrap() > heard, "nodes are told");
}

#[test]
fn the_schedule_begins_early_enough_that_no_key_is_used_longer() {
    let house = house();
    let first = house.signs();
    house.pass(90 * DAY - JWKS_MAX_AGE - 1);
    assert_eq!(house.rotate(Some(90 * DAY)), 0);
    house.pass(1);
    assert_eq!(house.rotate(Some(90 * DAY)), 3, "the signing keys; a sealing key needs less time to be known");
    assert_eq!(house.rotate(Some(90 * DAY)), 0);
    house.pass(JWKS_MAX_AGE);
    assert_eq!(house.rotate(Some(90 * DAY)), 1, "the sealing key");
    assert_ne!(house.signs(), first);
}

#[test]
fn a_line_never_is_without_a_key_whichever_is_revoked() {
    let house = house();
    let first = house.signs();
    house.revoke(&first);
    let second = house.signs();
    assert_ne!(first, second);
    assert!(!revoke(&house.storage, &house.kek, &first, house.clock.now()).unwrap(), "it was revoked already");
    assert!(!revoke(&house.storage, &house.kek, "nobody", house.clock.now()).unwrap());

    house.rotate(None);
    let third = house.kids(KeyState::Published).remove(0);
    house.revoke(&second);
    assert_eq!(house.signs(), third, "the successor takes over at once");

    house.rotate(None);
    house.revoke(&house.kids(KeyState::Published).remove(0));
    house.pass(2 * JWKS_MAX_AGE);
    assert_eq!(house.signs(), third, "with its successor gone a key stays");
    assert_eq!(house.rotate(None), Line::ALL.len(), "and gets another successor");
    house.pass(JWKS_MAX_AGE);
    house.revoke(&third);
    assert_eq!(house.kids(KeyState::Signing).len(), 1, "a retired key is revoked without any change of the one in use");
}
