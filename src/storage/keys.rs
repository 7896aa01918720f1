//! Signing and sealing keys, sealed under the key-encryption key.

use diesel::prelude::*;

use super::connection::execute_on_either;
use super::schema::keys;
use super::{Connection, StorageError};

/// A key as it is kept. Which state it is in follows from its times.
#[derive(Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = keys)]
pub struct KeyRow {
    pub kid: String,
    /// `signing` or `sealing`.
    pub purpose: String,
    /// `ES256`, `A256GCMSIV` …
    pub algorithm: String,
    /// The name of the key-encryption key that seals it.
    pub kek: String,
    /// base64 of nonce and ciphertext. Empty once the key is removed or revoked.
    pub sealed: String,
    pub created_at: i64,
    /// From when it may be used to sign or seal.
    pub active_at: i64,
    /// From when it is no longer used for anything new.
    pub retired_at: Option<i64>,
    pub removed_at: Option<i64>,
    pub revoked_at: Option<i64>,
}

impl std::fmt::Debug for KeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRow").field("kid", &self.kid).field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

/// Every key there ever was, oldest first.
pub fn all(c: &mut Connection) -> Result<Vec<KeyRow>, StorageError> {
    Ok(keys::table.order((keys::created_at, keys::kid)).load(c)?)
}

/// Adds a key. [`StorageError::Conflict`] if its kid is taken.
pub fn insert(tx: &mut Connection, row: &KeyRow) -> Result<(), StorageError> {
    match execute_on_either!(tx, diesel::insert_into(keys::table).values(row).on_conflict_do_nothing())? {
        0 => Err(StorageError::Conflict(format!("a key {} exists already", row.kid))),
        _ => Ok(()),
    }
}

/// Replaces what was sealed by the same under the key-encryption key named `kek`.
pub fn reseal(tx: &mut Connection, kid: &str, kek: &str, sealed: &str) -> Result<(), StorageError> {
    diesel::update(keys::table.find(kid)).set((keys::kek.eq(kek), keys::sealed.eq(sealed))).execute(tx)?;
    Ok(())
}

/// Retires a key; false if there is none, or it was retired before (the first time stands).
pub fn set_retired(tx: &mut Connection, kid: &str, at: i64) -> Result<bool, StorageError> {
    Ok(diesel::update(keys::table.find(kid).filter(keys::retired_at.is_null())).set(keys::retired_at.eq(at)).execute(tx)? > 0)
}

/// Removes a key from what is published and opened, and with it what was sealed; false as with [`set_retired`].
pub fn set_removed(tx: &mut Connection, kid: &str, at: i64) -> Result<bool, StorageError> {
    let set = (keys::removed_at.eq(at), keys::sealed.eq(""));
    Ok(diesel::update(keys::table.find(kid).filter(keys::removed_at.is_null())).set(set).execute(tx)? > 0)
}

/// Revokes a key and forgets what was sealed; false as with [`set_retired`].
pub fn set_revoked(tx: &mut Connection, kid: &str, at: i64) -> Result<bool, StorageError> {
    let set = (keys::revoked_at.eq(at), keys::sealed.eq(""));
    Ok(diesel::update(keys::table.find(kid).filter(keys::revoked_at.is_null())).set(set).execute(tx)? > 0)
}

/// Brings the first use of a key forward (or puts it off).
pub fn set_active(tx: &mut Connection, kid: &str, at: i64) -> Result<bool, StorageError> {
    Ok(diesel::update(keys::table.find(kid)).set(keys::active_at.eq(at)).execute(tx)? > 0)
}

/// Takes back that a key was to retire.
pub fn keep_in_use(tx: &mut Connection, kid: &str) -> Result<bool, StorageError> {
    Ok(diesel::update(keys::table.find(kid)).set(keys::retired_at.eq(None::<i64>)).execute(tx)? > 0)
}
