//! Sign-ins of people, and the refresh tokens that descend from each.

use diesel::prelude::*;

use super::connection::execute_on_either;
use super::schema::{grants, refresh_families};
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

/// Adds a grant. [`StorageError::Conflict`] if its id is taken.
pub fn insert(tx: &mut Connection, row: &GrantRow) -> Result<(), StorageError> {
    match execute_on_either!(tx, diesel::insert_into(grants::table).values(row).on_conflict_do_nothing())? {
        0 => Err(StorageError::Conflict(format!("a grant {} exists already", row.id))),
        _ => Ok(()),
    }
}

pub fn find(c: &mut Connection, id: &str) -> Result<Option<GrantRow>, StorageError> {
    Ok(grants::table.find(id).first(c).optional()?)
}

/// Writes what a new look at the person's source found; false if the grant is gone.
pub fn update_checked(
    tx: &mut Connection,
    id: &str,
    record: &str,
    rv: i64,
    identity_checked_at: i64,
    expires_at: i64,
) -> Result<bool, StorageError> {
    let set = (
        grants::record.eq(record),
        grants::rv.eq(rv),
        grants::identity_checked_at.eq(identity_checked_at),
        grants::expires_at.eq(expires_at),
    );
    Ok(diesel::update(grants::table.find(id)).set(set).execute(tx)? > 0)
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
