//! How often a password was tried, from where somebody signed in before, and which passwords are known to be wrong: what all nodes
//! must agree on so that nobody can be locked out. Whom and what a row is about cannot be read from it: its key is a keyed hash.

use diesel::prelude::*;

use super::connection::execute_on_either;
use super::schema::{shield_marks, shield_tries};
use super::{Connection, StorageError};

/// The tries for one person. What the numbers mean is said where they are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = shield_tries, primary_key(subject))]
pub struct TriesRow {
    pub subject: String,
    /// Tries that were wrong, since the last that was right.
    pub failed: i64,
    /// Tries whose end is not known yet, or never will be.
    pub in_flight: i64,
    /// Tries from networks that the person never signed in from.
    pub guesses: i64,
    /// Changes whenever `failed` falls.
    pub epoch: i64,
    /// Of the last try.
    pub number: i64,
    pub last_try: i64,
    pub last_guess: i64,
    /// From when the row means nothing any more.
    pub until: i64,
}

/// The row of `subject`, made if there is none. Nobody else reads it so until the transaction ends.
pub fn lock(tx: &mut Connection, subject: &str) -> Result<TriesRow, StorageError> {
    let fresh = TriesRow { subject: subject.to_owned(), ..TriesRow::default() };
    loop {
        // Writing the row, even unchanged, locks it until the end of the transaction. It may be purged between the two.
        let unchanged = shield_tries::until.eq(shield_tries::until);
        let locked = diesel::update(shield_tries::table.find(subject)).set(unchanged).returning(shield_tries::all_columns);
        if let Some(row) = locked.get_result(tx).optional()? {
            return Ok(row);
        }
        execute_on_either!(tx, diesel::insert_into(shield_tries::table).values(&fresh).on_conflict_do_nothing())?;
    }
}

/// Replaces the row that [`lock`] answered.
pub fn put(tx: &mut Connection, row: &TriesRow) -> Result<(), StorageError> {
    diesel::update(shield_tries::table.find(&row.subject)).set(row).execute(tx)?;
    Ok(())
}

/// Until when each of `marks` is remembered; those that are not, or no longer at `now`, are left out.
pub fn remembered(c: &mut Connection, marks: &[String], now: i64) -> Result<Vec<(String, i64)>, StorageError> {
    let mut found = Vec::new();
    for mark in marks {
        let until = shield_marks::table.find(mark).select(shield_marks::until).first::<i64>(c).optional()?;
        found.extend(until.filter(|until| *until > now).map(|until| (mark.clone(), until)));
    }
    Ok(found)
}

/// Remembers `mark` until then.
pub fn remember(tx: &mut Connection, mark: &str, until: i64) -> Result<(), StorageError> {
    let row = (shield_marks::mark.eq(mark), shield_marks::until.eq(until));
    let longer = shield_marks::until.eq(until);
    execute_on_either!(tx, diesel::insert_into(shield_marks::table).values(row).on_conflict(shield_marks::mark).do_update().set(longer))?;
    Ok(())
}
