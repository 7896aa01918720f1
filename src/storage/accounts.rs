//! People: accounts, the identities linked to them, local passwords and roles.

use std::collections::HashMap;

use diesel::prelude::*;

use super::connection::execute_on_either;
use super::schema::{account_links, account_passwords, account_roles, accounts, numbers};
use super::{Connection, StorageError};

/// A person as we keep them.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = accounts)]
pub struct AccountRow {
    pub id: String,
    /// The small integer that some dialects show; see [`next_number`].
    pub number: i64,
    /// Unique.
    pub username: String,
    pub source: String,
    pub email: Option<String>,
    pub name: Option<String>,
    pub disabled: bool,
    pub created_at: i64,
    pub updated_at: i64,
    pub last_sign_in_at: Option<i64>,
}

/// Who the person is at a source. Source, issuer and subject together belong to one account.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = account_links)]
pub struct LinkRow {
    pub source: String,
    /// Empty for sources without one.
    pub issuer: String,
    pub subject: String,
    pub account_id: String,
    pub created_at: i64,
}

/// The password of a local account.
#[derive(Clone, PartialEq, Eq, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = account_passwords)]
pub struct PasswordRow {
    pub account_id: String,
    /// PHC string.
    pub hash: String,
    pub changed_at: i64,
    pub must_change: bool,
    /// Still the one that was generated.
    pub never_changed: bool,
}

impl std::fmt::Debug for PasswordRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordRow").field("account_id", &self.account_id).finish_non_exhaustive()
    }
}

pub fn find(c: &mut Connection, id: &str) -> Result<Option<AccountRow>, StorageError> {
    Ok(accounts::table.find(id).first(c).optional()?)
}

pub fn find_by_username(c: &mut Connection, username: &str) -> Result<Option<AccountRow>, StorageError> {
    Ok(accounts::table.filter(accounts::username.eq(username)).first(c).optional()?)
}

/// The account that this identity was linked to before.
pub fn find_by_link(c: &mut Connection, source: &str, issuer: &str, subject: &str) -> Result<Option<AccountRow>, StorageError> {
    let link = account_links::table.find((source, issuer, subject)).inner_join(accounts::table);
    Ok(link.select(accounts::all_columns).first(c).optional()?)
}

/// Every account, by user name.
pub fn list(c: &mut Connection) -> Result<Vec<AccountRow>, StorageError> {
    Ok(accounts::table.order(accounts::username).load(c)?)
}

pub fn username_taken(c: &mut Connection, username: &str) -> Result<bool, StorageError> {
    let found: Option<String> = accounts::table.filter(accounts::username.eq(username)).select(accounts::id).first(c).optional()?;
    Ok(found.is_some())
}

/// Adds an account. [`StorageError::Conflict`] if its id, number or user name is taken; the transaction can go on after that.
pub fn insert(tx: &mut Connection, row: &AccountRow) -> Result<(), StorageError> {
    match execute_on_either!(tx, diesel::insert_into(accounts::table).values(row).on_conflict_do_nothing())? {
        0 => Err(StorageError::Conflict(format!("an account {} exists already", row.username))),
        _ => Ok(()),
    }
}

/// Links an identity. [`StorageError::Conflict`] if it is linked already; the transaction can go on after that.
pub fn insert_link(tx: &mut Connection, row: &LinkRow) -> Result<(), StorageError> {
    match execute_on_either!(tx, diesel::insert_into(account_links::table).values(row).on_conflict_do_nothing())? {
        0 => Err(StorageError::Conflict(format!("{} of {} is linked to an account already", row.subject, row.source))),
        _ => Ok(()),
    }
}

/// Writes what the source says today; false if there is no such account.
pub fn update_profile(tx: &mut Connection, id: &str, email: Option<&str>, name: Option<&str>, now: i64) -> Result<bool, StorageError> {
    let set = (accounts::email.eq(email), accounts::name.eq(name), accounts::updated_at.eq(now));
    Ok(diesel::update(accounts::table.find(id)).set(set).execute(tx)? > 0)
}

pub fn touch_sign_in(tx: &mut Connection, id: &str, now: i64) -> Result<(), StorageError> {
    diesel::update(accounts::table.find(id)).set(accounts::last_sign_in_at.eq(now)).execute(tx)?;
    Ok(())
}

/// Disables or enables; false if there is no such account.
pub fn set_disabled(tx: &mut Connection, id: &str, disabled: bool, now: i64) -> Result<bool, StorageError> {
    let set = (accounts::disabled.eq(disabled), accounts::updated_at.eq(now));
    Ok(diesel::update(accounts::table.find(id)).set(set).execute(tx)? > 0)
}

/// Removes an account with its links, password and roles; false if there is none. Its grants stay until they expire: revoke them.
pub fn remove(tx: &mut Connection, id: &str) -> Result<bool, StorageError> {
    Ok(diesel::delete(accounts::table.find(id)).execute(tx)? > 0)
}

pub fn password(c: &mut Connection, id: &str) -> Result<Option<PasswordRow>, StorageError> {
    Ok(account_passwords::table.find(id).first(c).optional()?)
}

/// The user names of those whose password is still the one that was generated, and is in use.
pub fn with_generated_passwords(c: &mut Connection) -> Result<Vec<String>, StorageError> {
    let joined = account_passwords::table.inner_join(accounts::table).filter(account_passwords::never_changed.eq(true));
    Ok(joined.filter(accounts::disabled.eq(false)).select(accounts::username).order(accounts::username).load(c)?)
}

/// How many people have a password of ours.
pub fn count_passwords(c: &mut Connection) -> Result<i64, StorageError> {
    Ok(account_passwords::table.count().get_result(c)?)
}

/// Sets or replaces the password.
pub fn put_password(tx: &mut Connection, row: &PasswordRow) -> Result<(), StorageError> {
    execute_on_either!(
        tx,
        diesel::insert_into(account_passwords::table).values(row).on_conflict(account_passwords::account_id).do_update().set(row)
    )?;
    Ok(())
}

/// The roles given to this account by name, sorted.
pub fn roles(c: &mut Connection, id: &str) -> Result<Vec<String>, StorageError> {
    let of_account = account_roles::table.filter(account_roles::account_id.eq(id));
    Ok(of_account.select(account_roles::role).order(account_roles::role).load(c)?)
}

/// The same for many accounts; those without roles are left out.
pub fn roles_of(c: &mut Connection, ids: &[String]) -> Result<HashMap<String, Vec<String>>, StorageError> {
    let mut roles: HashMap<String, Vec<String>> = HashMap::new();
    for some in ids.chunks(500) {
        let found = account_roles::table.filter(account_roles::account_id.eq_any(some)).order(account_roles::role);
        for (id, role) in found.load::<(String, String)>(c)? {
            roles.entry(id).or_default().push(role);
        }
    }
    Ok(roles)
}

/// Replaces the roles.
pub fn put_roles(tx: &mut Connection, id: &str, roles: &[String]) -> Result<(), StorageError> {
    diesel::delete(account_roles::table.filter(account_roles::account_id.eq(id))).execute(tx)?;
    for role in roles {
        let row = (account_roles::account_id.eq(id), account_roles::role.eq(role));
        execute_on_either!(tx, diesel::insert_into(account_roles::table).values(row).on_conflict_do_nothing())?;
    }
    Ok(())
}

/// The next integer for an account or a client: from 1, never given twice, far below 2^53 (what JSON can carry). The row stays
/// locked until the transaction ends.
pub fn next_number(tx: &mut Connection) -> Result<i64, StorageError> {
    let row = numbers::table.find("accounts_and_clients");
    Ok(diesel::update(row).set(numbers::last.eq(numbers::last + 1)).returning(numbers::last).get_result(tx)?)
}

/// Waits for whoever is making an account or a client, and keeps others from it until the transaction ends.
pub fn lock_numbers(tx: &mut Connection) -> Result<(), StorageError> {
    diesel::update(numbers::table.find("accounts_and_clients")).set(numbers::last.eq(numbers::last)).execute(tx)?;
    Ok(())
}

/// Numbers that a recovery skips: more accounts and clients than were ever made in the time that a restored backup has forgotten.
const SKIPPED: i64 = 1_000_000;

/// Sees to it that no number which was given in a forgotten time is given to somebody else.
pub fn skip_numbers(tx: &mut Connection) -> Result<(), StorageError> {
    diesel::update(numbers::table).set(numbers::last.eq(numbers::last + SKIPPED)).execute(tx)?;
    Ok(())
}
