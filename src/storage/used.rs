//! What may be used once: assertions, codes, exchanged tokens.

use diesel::prelude::*;

use super::connection::execute_on_either;
use super::schema::used;
use super::{Connection, StorageError};

/// Claims (`kind`, `id`) for ever, or at least until `until`. False if anybody did so before, on whatever node. A claim ends with
/// the transaction that made it, should that one roll back; a second claimant waits for it.
pub fn claim(tx: &mut Connection, kind: &str, id: &str, until: i64) -> Result<bool, StorageError> {
    let row = (used::kind.eq(kind), used::id.eq(id), used::until.eq(until));
    Ok(execute_on_either!(tx, diesel::insert_into(used::table).values(row).on_conflict_do_nothing())? > 0)
}

/// Until when (`kind`, `id`) is claimed, if it is.
pub fn until(c: &mut Connection, kind: &str, id: &str) -> Result<Option<i64>, StorageError> {
    Ok(used::table.find((kind, id)).select(used::until).first(c).optional()?)
}

/// Claims (`kind`, `id`) at least until `until`, whether anybody did so before or not.
pub fn extend(tx: &mut Connection, kind: &str, id: &str, until: i64) -> Result<(), StorageError> {
    if !claim(tx, kind, id, until)? {
        let shorter = used::table.find((kind, id)).filter(used::until.lt(until));
        diesel::update(shorter).set(used::until.eq(until)).execute(tx)?;
    }
    Ok(())
}
