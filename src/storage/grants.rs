//! Sign-ins of people, and the refresh tokens that descend from each.

use diesel::dsl::{exists, not};
use diesel::prelude::*;

use super::causes::{self, Admitted};
use super::connection::execute_on_either;
use super::either::MultiBackend;
use super::schema::{feed_entries, grants, refresh_families};
use super::{Connection, StorageError};

/// One sign-in of a person, and all that was issued because of it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = grants)]
pub struct GrantRow {
    pub id: String,
    pub account_id: String,
    pub client_id: String,
    pub source: String,
    /// Separated by spaces.
    pub scope: String,
    /// JSON: the groups, rules and upstream token that it rests on.
    pub record: String,
    /// The number of the feed that had been applied when the identity was last checked.
    pub rv: i64,
    pub auth_time: i64,
    pub identity_checked_at: i64,
    pub created_at: i64,
    pub expires_at: i64,
}

/// The refresh tokens that descend from one another (RFC 9700 section 4.14): the one generation that is current.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = refresh_families)]
pub struct FamilyRow {
    pub id: String,
    pub grant_id: String,
    pub client_id: String,
    pub scope: String,
    pub audience: String,
    pub generation: i64,
    /// When the current generation replaced the one before.
    pub rotated_at: i64,
    /// Killed by a replay or a revocation.
    pub dead: bool,
    pub created_at: i64,
    pub expires_at: i64,
    pub idle_expires_at: i64,
}

/// Adds a grant and what it rests on. [`StorageError::Conflict`] if its id is taken.
pub fn insert(tx: &mut Connection, row: &GrantRow, rests_on: &Admitted) -> Result<(), StorageError> {
    match execute_on_either!(tx, diesel::insert_into(grants::table).values(row).on_conflict_do_nothing())? {
        0 => Err(StorageError::Conflict(format!("a grant {} exists already", row.id))),
        _ => causes::insert(tx, &row.id, rests_on),
    }
}

pub fn find(c: &mut Connection, id: &str) -> Result<Option<GrantRow>, StorageError> {
    Ok(grants::table.find(id).first(c).optional()?)
}

/// Whose grants.
#[derive(Clone, Debug)]
pub enum Of {
    Grant(String),
    Account(String),
    Client(String),
    Source(String),
    All,
}

/// How many grants of these have not expired at `now` and were not ended one by one.
pub fn count_live(c: &mut Connection, of: &Of, now: i64) -> Result<i64, StorageError> {
    let ended = feed_entries::table.filter(feed_entries::kind.eq("grant_id")).filter(feed_entries::value.eq(grants::id));
    let live = grants::table.filter(grants::expires_at.ge(now)).filter(not(exists(ended))).into_boxed::<MultiBackend>();
    let live = match of {
        Of::Grant(id) => live.filter(grants::id.eq(id)),
        Of::Account(id) => live.filter(grants::account_id.eq(id)),
        Of::Client(id) => live.filter(grants::client_id.eq(id)),
        Of::Source(name) => live.filter(grants::source.eq(name)),
        Of::All => live,
    };
    Ok(live.count().get_result(c)?)
}

/// A person who signed in at a source, as the newest grant there recorded it.
#[derive(Clone, Debug, Queryable)]
pub struct Recorded {
    pub id: String,
    pub account_id: String,
    pub source: String,
    /// JSON.
    pub record: String,
}

/// The grants whose identity was last checked at `since` or later, newest first, older than the one with the id `before`; at most `limit`.
pub fn recorded(c: &mut Connection, since: i64, before: Option<&str>, limit: i64) -> Result<Vec<Recorded>, StorageError> {
    let mut recent = grants::table.filter(grants::identity_checked_at.ge(since)).into_boxed::<MultiBackend>();
    if let Some(before) = before {
        recent = recent.filter(grants::id.lt(before.to_owned()));
    }
    let columns = (grants::id, grants::account_id, grants::source, grants::record);
    Ok(recent.order(grants::id.desc()).limit(limit).select(columns).load(c)?)
}

/// Writes what a new look at the person's source found; false if the grant is gone. Where a newer look was written meanwhile, its record
/// and time stand, and only the end of the grant and what it rests on are written.
pub fn update_checked(
    tx: &mut Connection,
    id: &str,
    record: &str,
    rests_on: &Admitted,
    rv: i64,
    identity_checked_at: i64,
    expires_at: i64,
) -> Result<bool, StorageError> {
    let issued = (grants::rv.eq(rv), grants::expires_at.eq(expires_at));
    let found = (grants::record.eq(record), grants::identity_checked_at.eq(identity_checked_at));
    let not_newer = grants::table.find(id).filter(grants::identity_checked_at.le(identity_checked_at));
    let there = diesel::update(not_newer).set((found, issued)).execute(tx)? > 0
        || diesel::update(grants::table.find(id)).set(issued).execute(tx)? > 0;
    if there {
        causes::replace(tx, id, rests_on, identity_checked_at)?;
    }
    Ok(there)
}

/// Writes what a look between two refreshes found, unless one that is as new did (a refresh may share the look, and its record says
/// more); false then, or if the grant is gone. Neither `rv` nor the
/// end of the grant moves: what was revoked stays so.
pub fn update_rechecked(tx: &mut Connection, id: &str, record: &str, identity_checked_at: i64) -> Result<bool, StorageError> {
    let older = grants::table.find(id).filter(grants::identity_checked_at.lt(identity_checked_at));
    let set = (grants::record.eq(record), grants::identity_checked_at.eq(identity_checked_at));
    Ok(diesel::update(older).set(set).execute(tx)? > 0)
}

/// Writes the roles of a refresh without a look at the source; false if somebody looked after `identity_checked_at`, whose record
/// then stands, or if the grant is gone.
pub fn update_stale(
    tx: &mut Connection,
    id: &str,
    record: &str,
    rests_on: &Admitted,
    identity_checked_at: i64,
    now: i64,
) -> Result<bool, StorageError> {
    let same = grants::table.find(id).filter(grants::identity_checked_at.eq(identity_checked_at));
    let there = diesel::update(same).set(grants::record.eq(record)).execute(tx)? > 0;
    if there {
        causes::replace(tx, id, rests_on, now)?;
    }
    Ok(there)
}

/// Adds a family. [`StorageError::Conflict`] if its id is taken.
pub fn insert_family(tx: &mut Connection, row: &FamilyRow) -> Result<(), StorageError> {
    match execute_on_either!(tx, diesel::insert_into(refresh_families::table).values(row).on_conflict_do_nothing())? {
        0 => Err(StorageError::Conflict(format!("a refresh family {} exists already", row.id))),
        _ => Ok(()),
    }
}

pub fn family(c: &mut Connection, id: &str) -> Result<Option<FamilyRow>, StorageError> {
    Ok(refresh_families::table.find(id).first(c).optional()?)
}

/// Rotates: the generation after `from_generation` becomes current. False if another was current, or the family is dead or gone;
/// of many callers with the same generation one hears true.
pub fn advance(tx: &mut Connection, id: &str, from_generation: i64, now: i64, idle_expires_at: i64) -> Result<bool, StorageError> {
    let current =
        refresh_families::table.find(id).filter(refresh_families::generation.eq(from_generation)).filter(refresh_families::dead.eq(false));
    let set = (
        refresh_families::generation.eq(from_generation + 1),
        refresh_families::rotated_at.eq(now),
        refresh_families::idle_expires_at.eq(idle_expires_at),
    );
    Ok(diesel::update(current).set(set).execute(tx)? > 0)
}

/// Kills every family and answers how many there were.
pub fn kill_all_families(tx: &mut Connection) -> Result<usize, StorageError> {
    Ok(diesel::update(refresh_families::table.filter(refresh_families::dead.eq(false))).set(refresh_families::dead.eq(true)).execute(tx)?)
}

/// Kills a family; false if it is gone or was dead before.
pub fn kill_family(tx: &mut Connection, id: &str) -> Result<bool, StorageError> {
    let alive = refresh_families::table.find(id).filter(refresh_families::dead.eq(false));
    Ok(diesel::update(alive).set(refresh_families::dead.eq(true)).execute(tx)? > 0)
}

/// Kills every family of a grant; answers how many were alive.
pub fn kill_families_of(tx: &mut Connection, grant_id: &str) -> Result<usize, StorageError> {
    let alive = refresh_families::table.filter(refresh_families::grant_id.eq(grant_id)).filter(refresh_families::dead.eq(false));
    Ok(diesel::update(alive).set(refresh_families::dead.eq(true)).execute(tx)?)
}
