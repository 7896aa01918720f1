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
