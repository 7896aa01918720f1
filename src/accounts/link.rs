//! From an identity to its account.

use serde_json::{Value, json};

use super::{names, new_id};
use crate::audit::{Event, Record};
use crate::identity::Identity;
use crate::identity::local::{ISSUER, login};
use crate::oauth2::AccountId;
use crate::storage::accounts::{self, AccountRow, LinkRow};
use crate::storage::{Connection, StorageError, audit};

/// Why an identity that a source vouched for has no account to sign in to.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the account {0} is disabled")]
    Disabled(AccountId),
    /// A local account that was removed between the password check and now.
    #[error("the account {0} does not exist any more")]
    Gone(AccountId),
    #[error("the username that the source answered cannot be used: {0}")]
    Username(#[from] login::NameError),
    #[error("the subject that the source answered cannot be used: it is empty, longer than {LONGEST} bytes or holds control characters")]
    Subject,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The longest subject, e-mail address or name that is kept, in bytes.
const LONGEST: usize = 1024;

/// Finds the account of `identity`, or makes it at the first sign-in, and notes the sign-in.
///
/// Found by (source, issuer, subject) only. E-mail and name follow the source at each sign-in. The username stays what it was at
/// the first: a person who is renamed keeps it, so that a freed name never leads to somebody else's account.
/// `first_source` is the name of the first configured source, which owns bare names. `now` in seconds.
///
/// Runs inside the caller's write transaction. Errors other than [`LinkError::Storage`] are values to audit, not reasons to roll
/// back: they have written nothing.
pub fn link(tx: &mut Connection, identity: &Identity, first_source: &str, now: i64) -> Result<AccountRow, LinkError> {
    if identity.subject.is_empty() || identity.subject.len() > LONGEST || identity.subject.contains(char::is_control) {
        return Err(LinkError::Subject);
    }
    let mut account = match find(tx, identity)? {
        Some(account) => account,
        None if identity.issuer == ISSUER => return Err(LinkError::Gone(identity.subject.as_str().into())),
        None => {
            let bare = login::normalise(&identity.username)?;
            // Taking the number locks out others who make accounts. Whoever signs in twice at once for the first time, on two nodes,
            // waits here and then finds the account that the other one made.
            let number = accounts::next_number(tx)?;
            match find(tx, identity)? {
                Some(account) => account,
                None => return Ok(create(tx, identity, &bare, number, first_source, now)?),
            }
        }
    };
    if account.disabled {
        return Err(LinkError::Disabled(account.id.into()));
    }
    let (email, name) = (printable(identity.email.as_deref()), printable(identity.name.as_deref()));
    if account.email != email || account.name != name {
        accounts::update_profile(tx, &account.id, email.as_deref(), name.as_deref(), now)?;
        let changed = json!({ "by": "source", "before": profile(&account.email, &account.name), "after": profile(&email, &name) });
        write_down(tx, Event::AccountChanged, &account, changed, now)?;
        account = AccountRow { email, name, updated_at: now, ..account };
    }
    accounts::touch_sign_in(tx, &account.id, now)?;
    account.last_sign_in_at = Some(now);
    Ok(account)
}

fn find(c: &mut Connection, identity: &Identity) -> Result<Option<AccountRow>, StorageError> {
    let source = identity.source.as_str();
    if identity.issuer == ISSUER {
        return Ok(accounts::find(c, &identity.subject)?.filter(|account| account.source == source));
    }
    accounts::find_by_link(c, source, &identity.issuer, &identity.subject)
}

/// What is only shown must not stop a sign-in: without control characters, which PostgreSQL (NUL) and terminals do not take, and
/// not at all if it is too long to be what it says.
fn printable(text: Option<&str>) -> Option<String> {
    let text: String = text?.chars().filter(|c| !c.is_control()).collect();
    (!text.is_empty() && text.len() <= LONGEST).then_some(text)
}

fn create(
    tx: &mut Connection,
    identity: &Identity,
    bare: &str,
    number: i64,
    first_source: &str,
    now: i64,
) -> Result<AccountRow, StorageError> {
    let source = identity.source.as_str();
    let row = AccountRow {
        id: new_id().to_string(),
        number,
        username: String::new(),
        source: source.to_owned(),
        email: printable(identity.email.as_deref()),
        name: printable(identity.name.as_deref()),
        disabled: false,
        created_at: now,
        updated_at: now,
        last_sign_in_at: Some(now),
    };
    let account = names::insert_unique(tx, row, bare, first_source)?
        .ok_or_else(|| StorageError::Conflict(format!("no free username for {bare} of {source}")))?;
    let link = LinkRow {
        source: source.to_owned(),
        issuer: identity.issuer.clone(),
        subject: identity.subject.clone(),
        account_id: account.id.clone(),
        created_at: now,
    };
    accounts::insert_link(tx, &link)?;
    write_down(tx, Event::AccountAdded, &account, Value::Null, now)?;
    write_down(tx, Event::AccountLinked, &account, json!({ "issuer": link.issuer, "subject": link.subject }), now)?;
    Ok(account)
}

fn profile(email: &Option<String>, name: &Option<String>) -> Value {
    json!({ "email": email, "name": name })
}

fn write_down(tx: &mut Connection, event: Event, account: &AccountRow, detail: Value, now: i64) -> Result<(), StorageError> {
    let record = Record::ok(event, now).account(&account.id).username(&account.username).source(&account.source);
    audit::insert(tx, &record.detail(detail))
}
