//! Accounts with passwords of ours, and what an administrator does to any account. Used by the command line and the first start.
//!
//! What takes rights away also appends to the revocation feed, in the same transaction: every token of the account dies with it.

use serde_json::json;

use super::{names, new_id};
use crate::audit::{Event, Record};
use crate::identity::local::{ISSUER, login};
use crate::oauth2::AccountId;
use crate::roles::is_role;
use crate::storage::accounts::{self, AccountRow, LinkRow, PasswordRow};
use crate::storage::{Connection, StorageError, audit, feed};

/// A local account to be made.
#[derive(Clone, Debug)]
pub struct NewLocal {
    /// The name of the local source that it belongs to.
    pub source: String,
    /// Shown as written; as a login, upper and lower case do not matter.
    pub username: String,
    pub email: Option<String>,
    /// Roles of this account, those that begin `countersign:` included.
    pub roles: Vec<String>,
    /// The password as an argon2id PHC string.
    pub hash: String,
    /// To be changed at the next sign-in on a page.
    pub must_change: bool,
    /// Generated, not chosen.
    pub never_changed: bool,
}

/// An administrative act: who does it, when, and until when what it revokes must be remembered.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// For the audit: `command line`, `first start`.
    pub by: &'a str,
    /// Seconds.
    pub now: i64,
    /// `now` + the longest life of anything issued + 120, in seconds.
    pub until: i64,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("there is an account {0} already; choose another name, or set its password with user set-password")]
    Taken(String),
    #[error("{0:?} cannot be a username: {1}")]
    Username(String, login::NameError),
    #[error("{0:?} cannot be a username: 32 hex digits are the form of an account id")]
    LooksLikeId(String),
    #[error("{0:?} cannot be a role: a role has 1 to 128 bytes, without spaces, control or invisible characters")]
    Role(String),
    #[error("the account {0} does not exist any more")]
    Gone(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Makes a local account. Its username is the one asked for, or `name@source` where another source has that.
pub fn create(tx: &mut Connection, new: &NewLocal, first_source: &str, act: Act<'_>) -> Result<AccountRow, AccountError> {
    let refused = |reason| AccountError::Username(new.username.clone(), reason);
    let username = login::normalise(&new.username).map_err(refused)?;
    let folded = login::fold(&new.username).map_err(refused)?;
    if AccountId::has_form(&folded) {
        return Err(AccountError::LooksLikeId(username));
    }
    if let Some(bad) = new.roles.iter().find(|role| !is_role(role)) {
        return Err(AccountError::Role(bad.clone()));
    }
    if accounts::find_by_link(tx, &new.source, ISSUER, &folded)?.is_some() {
        return Err(AccountError::Taken(username));
    }
    let row = AccountRow {
        id: new_id().to_string(),
        number: accounts::next_number(tx)?,
        username: String::new(),
        source: new.source.clone(),
        email: new.email.clone(),
        name: None,
        disabled: false,
        created_at: act.now,
        updated_at: act.now,
        last_sign_in_at: None,
    };
    let account = names::insert_unique(tx, row, &username, first_source)?.ok_or(AccountError::Taken(username))?;
    accounts::insert_link(
        tx,
        &LinkRow {
            source: new.source.clone(),
            issuer: ISSUER.to_owned(),
            subject: folded,
            account_id: account.id.clone(),
            created_at: act.now,
        },
    )?;
    accounts::put_roles(tx, &account.id, &new.roles)?;
    put_password(tx, &account, &new.hash, (new.must_change, new.never_changed), act)?;
    write_down(tx, Event::AccountAdded, &account, json!({ "by": act.by, "roles": new.roles }), act)?;
    Ok(account)
}

/// Gives a local account another password. Tokens that were issued stay good; [`sign_out`] ends them.
pub fn set_password(
    tx: &mut Connection,
    account: &AccountRow,
    hash: &str,
    must_change: bool,
    never_changed: bool,
    act: Act<'_>,
) -> Result<(), AccountError> {
    if accounts::find(tx, &account.id)?.is_none() {
        return Err(AccountError::Gone(account.username.clone()));
    }
    put_password(tx, account, hash, (must_change, never_changed), act)?;
    Ok(write_down(tx, Event::PasswordChanged, account, json!({ "by": act.by }), act)?)
}

/// Disabled, an account cannot sign in or refresh, and its tokens die. Enabled again, it can sign in; the tokens stay dead.
pub fn set_disabled(tx: &mut Connection, account: &AccountRow, disabled: bool, act: Act<'_>) -> Result<(), AccountError> {
    if !accounts::set_disabled(tx, &account.id, disabled, act.now)? {
        return Err(AccountError::Gone(account.username.clone()));
    }
    if disabled {
        revoke(tx, account, act)?;
    }
    let event = if disabled { Event::AccountDisabled } else { Event::AccountEnabled };
    Ok(write_down(tx, event, account, json!({ "by": act.by }), act)?)
}

/// Ends everything that was issued to the account.
pub fn sign_out(tx: &mut Connection, account: &AccountRow, act: Act<'_>) -> Result<(), AccountError> {
    revoke(tx, account, act)?;
    Ok(write_down(tx, Event::Revoked, account, json!({ "by": act.by }), act)?)
}

/// Removes the account with its links, password and roles, and ends what was issued to it. Its id is never used again: a person
/// from a directory who signs in later gets a new account.
pub fn remove(tx: &mut Connection, account: &AccountRow, act: Act<'_>) -> Result<(), AccountError> {
    if !accounts::remove(tx, &account.id)? {
        return Err(AccountError::Gone(account.username.clone()));
    }
    revoke(tx, account, act)?;
    Ok(write_down(tx, Event::AccountRemoved, account, json!({ "by": act.by }), act)?)
}

fn put_password(
    tx: &mut Connection,
    account: &AccountRow,
    hash: &str,
    (must_change, never_changed): (bool, bool),
    act: Act<'_>,
) -> Result<(), StorageError> {
    let row = PasswordRow { account_id: account.id.clone(), hash: hash.to_owned(), changed_at: act.now, must_change, never_changed };
    accounts::put_password(tx, &row)
}

fn revoke(tx: &mut Connection, account: &AccountRow, act: Act<'_>) -> Result<(), StorageError> {
    feed::append(tx, "sub", &account.id, act.until, act.now).map(drop)
}

fn write_down(
    tx: &mut Connection,
    event: Event,
    account: &AccountRow,
    detail: serde_json::Value,
    act: Act<'_>,
) -> Result<(), StorageError> {
    let record = Record::ok(event, act.now).account(&account.id).username(&account.username).source(&account.source);
    audit::insert(tx, &record.detail(detail))
}
