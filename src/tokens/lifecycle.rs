//! The life of keys: made, published, in use, retired, removed; or revoked at once. `countersign keys rotate` and the schedule
//! do the same thing. A key is published for at least as long as anybody may not know it: signing keys for the max-age of the
//! JWKS, sealing keys for the staleness that a node may have.

use std::time::Duration;

use serde_json::json;

use super::jwt::SigningKey;
use super::kek::Kek;
use super::keyring::{KeyState, SEALING, SIGNING, place};
use super::{CLOCK_MARGIN, JWKS_MAX_AGE, TokenError};
use crate::audit::{Event, Record};
use crate::config::{SigningAlgorithm, Tokens};
use crate::oauth2::secret::{fill_random, hex};
use crate::storage::keys::KeyRow;
use crate::storage::{Connection, Storage, StorageError, audit, feed, in_turn, keys, settings};

/// The kind of a feed entry that tells nodes to load the keys again.
pub const FEED_KIND: &str = "keys";

/// The name under which the longest lifetime ever configured is stored, in seconds.
pub const LONGEST_LIFETIME: &str = "longest_lifetime";

/// One line of keys, of which one is in use at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Signing(SigningAlgorithm),
    Sealing,
}

impl Line {
    const ALL: [Line; 4] = [
        Line::Signing(SigningAlgorithm::Es256),
        Line::Signing(SigningAlgorithm::Rs256),
        Line::Signing(SigningAlgorithm::EdDsa),
        Line::Sealing,
    ];

    fn purpose(self) -> &'static str {
        match self {
            Line::Signing(_) => SIGNING,
            Line::Sealing => SEALING,
        }
    }

    fn algorithm(self) -> &'static str {
        match self {
            Line::Signing(algorithm) => algorithm.as_str(),
            Line::Sealing => "A256GCMSIV",
        }
    }

    fn holds(self, row: &KeyRow) -> bool {
        row.purpose == self.purpose() && row.algorithm == self.algorithm()
    }

    /// How long a new key waits before it is used.
    fn lead(self, tokens: &Tokens) -> i64 {
        match self {
            Line::Signing(_) => JWKS_MAX_AGE,
            Line::Sealing => tokens.max_staleness.as_secs() as i64 + 1,
        }
    }

    /// Whether `row` is of this line and in use, or will be.
    fn alive(self, row: &KeyRow, now: i64) -> bool {
        self.holds(row) && matches!(KeyState::of(row, now), KeyState::Published | KeyState::Signing)
    }

    /// The newest key of this line that can still be used.
    fn newest(self, rows: &[KeyRow], now: i64) -> Option<&KeyRow> {
        rows.iter().filter(|row| self.alive(row, now)).max_by_key(|row| row.active_at)
    }

    /// The key of this line that is used at `now`.
    fn in_use(self, rows: &[KeyRow], now: i64) -> Option<&KeyRow> {
        let used = rows.iter().filter(|row| self.holds(row) && KeyState::of(row, now) == KeyState::Signing);
        used.max_by_key(|row| row.active_at)
    }

    /// Sees to it that this line has a key in use, and one that stays: a successor takes over at once where nothing is in use, a
    /// key that was to retire stays where its successor is gone, and with neither `spare` begins.
    fn mend(self, tx: &mut Connection, spare: Option<&KeyRow>, by: &str, now: i64) -> Result<(), StorageError> {
        let rows = keys::all(tx)?;
        let waiting = rows.iter().find(|row| self.holds(row) && KeyState::of(row, now) == KeyState::Published);
        match (self.in_use(&rows, now), waiting, spare) {
            (Some(_), Some(_), _) | (None, None, None) => return Ok(()),
            (Some(current), None, _) if current.retired_at.is_none() => return Ok(()),
            (Some(current), None, _) => {
                keys::keep_in_use(tx, &current.kid)?;
                announce(tx, &current.kid, now)?;
            }
            (None, Some(successor), _) => {
                keys::set_active(tx, &successor.kid, now)?;
                announce(tx, &successor.kid, now)?;
            }
            (None, None, Some(spare)) => {
                add(tx, spare, by, now)?;
                announce(tx, &spare.kid, now)?;
            }
        }
        Ok(())
    }

    /// A new key of this line beside `rows`, not stored yet. An RSA key takes a part of a second: never within a transaction.
    fn make(self, kek: &Kek, rows: &[KeyRow], active_at: i64, now: i64) -> Result<KeyRow, TokenError> {
        let (kid, plain) = match self {
            Line::Signing(algorithm) => (random_hex::<8>(), SigningKey::generate(algorithm)?),
            Line::Sealing => {
                let mut bytes = zeroize::Zeroizing::new(vec![0u8; 32]);
                fill_random(&mut bytes);
                (random_hex::<4>(), bytes)
            }
        };
        let under = kek.name_for_new(sealed_under(rows));
        let sealed = kek.seal(&place(&kid), under, &plain)?;
        Ok(KeyRow {
            purpose: self.purpose().to_owned(),
            algorithm: self.algorithm().to_owned(),
            kek: under.to_owned(),
            sealed,
            created_at: now,
            active_at,
            retired_at: None,
            removed_at: None,
            revoked_at: None,
            kid,
        })
    }
}

fn random_hex<const N: usize>() -> String {
    let mut bytes = [0u8; N];
    fill_random(&mut bytes);
    hex(&bytes)
}

/// Makes the keys that are missing, in use at once: those of an empty database, or of a line that lost its key. `by` names whoever
/// does it, for the audit, as in all that follows: `start`, `schedule`, `command line`.
pub fn ensure(storage: &Storage, kek: &Kek, by: &'static str, now: i64) -> Result<(), TokenError> {
    let rows = storage.read_blocking(keys::all)?;
    for line in Line::ALL.into_iter().filter(|line| line.in_use(&rows, now).is_none()) {
        let spare = line.make(kek, &rows, now, now)?;
        storage.write_blocking(move |tx| {
            in_turn(tx)?;
            line.mend(tx, Some(&spare), by, now)
        })?;
    }
    Ok(())
}

/// Publishes a successor for each line, or for those whose key has been in use for `due`. A line whose successor is already
/// waiting is left alone. Answers the new kids.
pub fn rotate(
    storage: &Storage,
    kek: &Kek,
    tokens: &Tokens,
    due: Option<Duration>,
    by: &'static str,
    now: i64,
) -> Result<Vec<String>, TokenError> {
    let rows = storage.read_blocking(keys::all)?;
    let mut made = Vec::new();
    for line in Line::ALL {
        let Some(current) = line.newest(&rows, now) else { continue };
        let waiting = current.active_at > now;
        let fresh = due.is_some_and(|due| now < current.active_at + due.as_secs() as i64 - line.lead(tokens));
        if waiting || fresh {
            continue;
        }
        let key = line.make(kek, &rows, now + line.lead(tokens), now)?;
        let (kid, current) = (key.kid.clone(), current.kid.clone());
        let published = storage.write_blocking(move |tx| {
            in_turn(tx)?;
            let rows = keys::all(tx)?;
            if line.newest(&rows, now).is_none_or(|newest| newest.kid != current) {
                return Ok(false);
            }
            for row in rows.iter().filter(|row| line.alive(row, now)) {
                if keys::set_retired(tx, &row.kid, key.active_at)? {
                    record(tx, Event::KeyRetired, row, by, now)?;
                }
            }
            add(tx, &key, by, now)?;
            announce(tx, &key.kid, now)?;
            Ok(true)
        })?;
        if published {
            made.push(kid);
        }
    }
    Ok(made)
}

/// Takes a key out at once: it is no longer published, and everything under it is dead. In the same moment its line has another key
/// in use. False if there is no such key.
pub fn revoke(storage: &Storage, kek: &Kek, kid: &str, by: &'static str, now: i64) -> Result<bool, TokenError> {
    let rows = storage.read_blocking(keys::all)?;
    let row = rows.iter().find(|row| row.kid == kid);
    let Some((row, line)) = row.and_then(|row| Some((row, Line::ALL.into_iter().find(|line| line.holds(row))?))) else { return Ok(false) };
    let others: Vec<KeyRow> = rows.iter().filter(|row| row.kid != kid).cloned().collect();
    let spare = if line.newest(&others, now).is_none() { Some(line.make(kek, &rows, now, now)?) } else { None };
    let row = row.clone();
    let found = storage.write_blocking(move |tx| {
        in_turn(tx)?;
        let found = keys::set_revoked(tx, &row.kid, now)?;
        if found {
            record(tx, Event::KeyRevoked, &row, by, now)?;
            line.mend(tx, spare.as_ref(), by, now)?;
            announce(tx, &row.kid, now)?;
        }
        Ok(found)
    })?;
    // For the key that took over in our plan and was revoked meanwhile.
    ensure(storage, kek, by, now)?;
    Ok(found)
}

/// Removes retired keys when the last thing they protected has expired.
pub fn remove_due(storage: &Storage, by: &'static str, now: i64) -> Result<(), TokenError> {
    storage.write_blocking(move |tx| {
        in_turn(tx)?;
        let longest = longest_lifetime(tx)?;
        for row in keys::all(tx)? {
            let dead =
                row.removed_at.is_none() && row.revoked_at.is_none() && row.retired_at.is_some_and(|t| t + longest + CLOCK_MARGIN <= now);
            if dead && keys::set_removed(tx, &row.kid, now)? {
                record(tx, Event::KeyRemoved, &row, by, now)?;
                announce(tx, &row.kid, now)?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// The longest lifetime that was ever configured, in seconds: until then an old token may still turn up.
pub fn longest_lifetime(c: &mut Connection) -> Result<i64, StorageError> {
    Ok(settings::get(c, LONGEST_LIFETIME)?.and_then(|text| text.parse().ok()).unwrap_or(30 * 86_400))
}

/// The names of the key-encryption keys that living rows are sealed under: one, but for what an older version left behind.
fn sealed_under(rows: &[KeyRow]) -> impl Iterator<Item = &str> {
    rows.iter().filter(|row| !row.sealed.is_empty()).map(|row| row.kek.as_str())
}

/// Adds a key, sealed as the others are: should those have been sealed again since it was made, nothing is added, and whoever
/// wanted it asks again.
fn add(tx: &mut Connection, key: &KeyRow, by: &str, now: i64) -> Result<(), StorageError> {
    if sealed_under(&keys::all(tx)?).any(|kek| kek != key.kek) {
        return Err(StorageError::Conflict("the key-encryption key was changed just now; try again".to_owned()));
    }
    keys::insert(tx, key)?;
    record(tx, Event::KeyAdded, key, by, now)
}

fn record(tx: &mut Connection, event: Event, row: &KeyRow, by: &str, now: i64) -> Result<(), StorageError> {
    let detail = json!({ "kid": row.kid, "purpose": row.purpose, "algorithm": row.algorithm, "by": by });
    audit::insert(tx, &Record::ok(event, now).detail(detail))
}

fn announce(tx: &mut Connection, kid: &str, now: i64) -> Result<i64, StorageError> {
    feed::append(tx, FEED_KIND, kid, now + 86_400, now)
}

mod recover;
mod rewrap;

pub use recover::{Recovered, recover, recovered_at};
pub use rewrap::rewrap;

#[cfg(test)]
mod tests;
