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
    ensure(&house.storage, &house.kek, "start", house.clock.now()).unwrap();
    house
}

impl House {
    fn pass(&self, seconds: i64) {
        self.hand.fetch_add(seconds, Ordering::SeqCst);
    }

    fn rotate(&self, due: Option<i64>) -> usize {
        let due = due.map(|seconds| Duration::from_secs(seconds as u64));
        rotate(&self.storage, &self.kek, &self.tokens, due, "schedule", self.clock.now()).unwrap().len()
    }

    fn revoke(&self, kid: &str) {
        assert!(revoke(&self.storage, &self.kek, kid, "command line", self.clock.now()).unwrap());
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
    ensure(&house.storage, &house.kek, "start", house.clock.now()).unwrap();
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
    remove_due(&house.storage, "schedule", house.clock.now()).unwrap();
    assert!(house.kids(KeyState::Removed).is_empty(), "a token under it may still live");
    house.pass(1);
    let heard = house.storage.read_blocking(feed::head).unwrap();
    remove_due(&house.storage, "schedule", house.clock.now()).unwrap();
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
    assert!(!revoke(&house.storage, &house.kek, &first, "command line", house.clock.now()).unwrap(), "it was revoked already");
    assert!(!revoke(&house.storage, &house.kek, "nobody", "command line", house.clock.now()).unwrap());

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

/// The events and kids of the trail.
fn trail(storage: &Storage) -> Vec<(Event, String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let records = storage.read_blocking(|c| audit::since(c, "", 100)).unwrap();
    records.iter().map(|record| (record.event, text(&record.detail["kid"]), text(&record.detail["by"]))).collect()
}

#[test]
fn every_change_is_in_the_trail_and_what_was_sealed_goes_with_its_key() {
    let house = house();
    let first = house.signs();
    assert!(trail(&house.storage).contains(&(Event::KeyAdded, first.clone(), "start".to_owned())));
    house.rotate(None);
    let second = house.kids(KeyState::Published).remove(0);
    let seen = trail(&house.storage);
    assert!(seen.contains(&(Event::KeyRetired, first.clone(), "schedule".to_owned())));
    assert!(seen.contains(&(Event::KeyAdded, second.clone(), "schedule".to_owned())));
    house.pass(JWKS_MAX_AGE);
    house.revoke(&second);
    house.pass(40 * DAY);
    remove_due(&house.storage, "schedule", house.clock.now()).unwrap();
    let seen = trail(&house.storage);
    assert!(seen.contains(&(Event::KeyRevoked, second.clone(), "command line".to_owned())));
    assert!(seen.contains(&(Event::KeyRemoved, first.clone(), "schedule".to_owned())));
    assert_eq!(seen.len(), house.rows().len() + 2 * Line::ALL.len() + 1, "added, retired and removed but for the last, revoked");
    for row in house.rows() {
        assert_eq!(row.sealed.is_empty(), row.kid == second || row.removed_at.is_some(), "{}", row.kid);
    }
    // On a node whose clock is late, too.
    assert!(Keyring::build(&house.rows(), &house.kek, "https://issuer.test", house.clock.now() - 60).is_ok());
}

/// Does it on three nodes at once.
fn at_once(nodes: &[Storage], work: impl Fn(&Storage) + Sync) {
    let gate = std::sync::Barrier::new(nodes.len());
    std::thread::scope(|scope| {
        for node in nodes {
            scope.spawn(|| {
                gate.wait();
                work(node);
            });
        }
    });
}

#[test]
fn nodes_that_start_and_rotate_together_make_one_key_a_line() {
    let database = crate::storage::tests::Database::postgres();
    let nodes = [(); 3].map(|()| database.again());
    let kek = house().kek;
    at_once(&nodes, |node| ensure(node, &kek, "start", 1_800_000_000).unwrap());
    let rows = || database.storage.read_blocking(keys::all).unwrap();
    assert_eq!(rows().len(), Line::ALL.len());
    at_once(&nodes, |node| drop(rotate(node, &kek, &Tokens::default(), None, "schedule", 1_800_000_001).unwrap()));
    assert_eq!(rows().len(), 2 * Line::ALL.len());
    assert_eq!(rows().iter().filter(|row| row.retired_at.is_none()).count(), Line::ALL.len());
}
