//! Small things that all nodes of a database agree on.

use diesel::prelude::*;

use super::connection::execute_on_either;
use super::schema::settings;
use super::{Connection, StorageError};

pub fn get(c: &mut Connection, name: &str) -> Result<Option<String>, StorageError> {
    Ok(settings::table.find(name).select(settings::value).first(c).optional()?)
}

/// All of them, by name.
pub fn all(c: &mut Connection) -> Result<Vec<(String, String)>, StorageError> {
    Ok(settings::table.select((settings::name, settings::value)).order(settings::name).load(c)?)
}

/// Sets or replaces.
pub fn put(tx: &mut Connection, name: &str, value: &str) -> Result<(), StorageError> {
    let row = (settings::name.eq(name), settings::value.eq(value));
    let replaced = settings::value.eq(value);
    execute_on_either!(tx, diesel::insert_into(settings::table).values(row).on_conflict(settings::name).do_update().set(replaced))?;
    Ok(())
}

/// The setting that `countersign backup` writes into the copy it makes: when that was, in seconds. `keys recover` takes it away.
pub const BACKUP_MADE_AT: &str = "backup_made_at";

pub fn remove(tx: &mut Connection, name: &str) -> Result<(), StorageError> {
    diesel::delete(settings::table.find(name)).execute(tx)?;
    Ok(())
}

/// Replaces a value that is still `before` (none: is not there); false if it is not, and then nothing is changed.
pub fn replace(tx: &mut Connection, name: &str, before: Option<&str>, value: &str) -> Result<bool, StorageError> {
    let rows = match before {
        Some(before) => {
            let same = settings::table.find(name).filter(settings::value.eq(before));
            diesel::update(same).set(settings::value.eq(value)).execute(tx)?
        }
        None => {
            let row = (settings::name.eq(name), settings::value.eq(value));
            execute_on_either!(tx, diesel::insert_into(settings::table).values(row).on_conflict_do_nothing())?
        }
    };
    Ok(rows > 0)
}

/// Raises a number to `value` and answers what stands then: the greater of the two, whatever order the nodes come in.
/// [`StorageError::Invalid`] if what stands is no number.
pub fn raise(tx: &mut Connection, name: &str, value: i64) -> Result<i64, StorageError> {
    let row = (settings::name.eq(name), settings::value.eq(value.to_string()));
    // Writing the row, even unchanged, locks it until the end of the transaction: what is read below cannot be outrun.
    let unchanged = settings::value.eq(settings::value);
    let inserted = execute_on_either!(tx, diesel::insert_into(settings::table).values(row).on_conflict_do_nothing())?;
    if inserted > 0 {
        return Ok(value);
    }
    let found: String = diesel::update(settings::table.find(name)).set(unchanged).returning(settings::value).get_result(tx)?;
    let stands: i64 = found.parse().map_err(|_| StorageError::Invalid(format!("the setting {name} is {found:?}, not a number")))?;
    if stands < value {
        put(tx, name, &value.to_string())?;
    }
    Ok(stands.max(value))
}
