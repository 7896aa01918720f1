//! After the restore of a backup. Between the backup and the restore there was a time whose revocations, rotations and single uses
//! the database has forgotten, while its tokens and numbers are still out in the world: the lost time. Nothing of it may ever count
//! again.

use serde_json::json;

use super::{Line, add, announce, longest_lifetime, record};
use crate::audit::{Event, Record};
use crate::storage::{Connection, Storage, StorageError, accounts, audit, feed, grants, in_turn, keys, settings};
use crate::tokens::kek::Kek;
use crate::tokens::keyring::KeyState;
use crate::tokens::revocation::Kind;
use crate::tokens::{CLOCK_MARGIN, TokenError};

/// The setting that holds when the database was last recovered, in seconds: what may be used once and was issued before may have
/// been used in the lost time.
const RECOVERED_AT: &str = "recovered_at";

/// When the database was last recovered, in seconds; None if never.
pub fn recovered_at(c: &mut Connection) -> Result<Option<i64>, StorageError> {
    Ok(settings::get(c, RECOVERED_AT)?.and_then(|at| at.parse().ok()))
}

/// What [`recover`] did.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The new name of the feed.
    pub feed: String,
    /// The keys that were taken out, and those that took their places.
    pub revoked: Vec<String>,
    pub added: Vec<String>,
    /// Refresh families that were alive.
    pub families: usize,
    /// When the newest record of the trail was written before this: the time lost begins there or later.
    pub newest_record: Option<i64>,
}

/// Makes new keys of every line, in use at once, and takes out all others; gives the feed a new name and numbers beyond all that
/// were given in the lost time; ends all grants. One transaction. The key-encryption key need not open what it finds, since all of
/// that is taken out.
pub fn recover(storage: &Storage, kek: &Kek, by: &'static str, now: i64) -> Result<Recovered, TokenError> {
    // An RSA key takes a part of a second: never within a transaction.
    let spares = Line::ALL.map(|line| line.make(kek, &[], now, now)).into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(storage.write_blocking(move |tx| {
        in_turn(tx)?;
        let newest_record = audit::newest(tx)?;
        let until = now + longest_lifetime(tx)? + CLOCK_MARGIN;
        let revoked = take_out_all(tx, by, now)?;
        for spare in &spares {
            add(tx, spare, by, now)?;
        }
        let added: Vec<String> = spares.into_iter().map(|spare| spare.kid).collect();
        accounts::skip_numbers(tx)?;
        settings::put(tx, RECOVERED_AT, &now.to_string())?;
        settings::remove(tx, settings::BACKUP_MADE_AT)?;
        let families = grants::kill_all_families(tx)?;
        // Of the feed last, since its row stays locked until the end.
        let feed = feed::begin_anew(tx)?;
        let detail = json!({ "feed": feed, "keys_revoked": revoked, "keys_added": added, "families": families, "by": by });
        audit::insert(tx, &Record::ok(Event::KeysRecovered, now).detail(detail))?;
        announce(tx, "recover", now)?;
        feed::append(tx, Kind::All.as_str(), "", until, now)?;
        Ok(Recovered { feed, revoked, added, families, newest_record })
    })?)
}

fn take_out_all(tx: &mut Connection, by: &str, now: i64) -> Result<Vec<String>, StorageError> {
    let mut revoked = Vec::new();
    for row in keys::all(tx)? {
        if !matches!(KeyState::of(&row, now), KeyState::Removed | KeyState::Revoked) && keys::set_revoked(tx, &row.kid, now)? {
            record(tx, Event::KeyRevoked, &row, by, now)?;
            revoked.push(row.kid);
        }
    }
    Ok(revoked)
}
