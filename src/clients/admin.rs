//! Adding, changing and removing clients. Every function works within a write transaction, tells the other nodes by the feed
//! and leaves an audit record.

use serde_json::{Map, Value, json};

use crate::audit::{Event, Record};
use crate::config;
use crate::oauth2::Secret;
use crate::oauth2::secret::{fill_random, hex};
use crate::storage::clients::{NewClient, SecretRow};
use crate::storage::{Connection, StorageError, audit, clients, feed};
use crate::tokens::CLOCK_MARGIN;
use crate::tokens::lifecycle::longest_lifetime;
use crate::tokens::revocation::Kind;

/// What every generated client secret begins with.
pub const SECRET_PREFIX: &str = "cs_sec_";

/// A secret that was just made. It is shown once.
#[derive(Debug)]
pub struct NewSecret {
    pub id: String,
    pub secret: Secret,
}

/// Adds a client. `Conflict` if there is one of that name.
pub fn add(tx: &mut Connection, settings: &config::Client, declared: bool, now: i64) -> Result<(), StorageError> {
    let new = NewClient { id: settings.id.clone(), declared, settings: to_json(settings)?, created_at: now };
    clients::insert(tx, &new)?;
    changed(tx, &settings.id, Event::ClientAdded, Value::Null, now)
}

/// Replaces the settings of a client.
pub fn update(tx: &mut Connection, settings: &config::Client, declared: bool, now: i64) -> Result<(), StorageError> {
    let before = clients::find(tx, &settings.id)?.map(|(row, _)| row.settings);
    let after = to_json(settings)?;
    clients::update_settings(tx, &settings.id, &after, declared, now)?;
    let keys = keys_that_differ(before.as_deref().unwrap_or_default(), &after);
    changed(tx, &settings.id, Event::ClientChanged, json!({ "keys": keys }), now)
}

/// Removes a client and kills everything issued to it. False if there is none.
pub fn remove(tx: &mut Connection, id: &str, now: i64) -> Result<bool, StorageError> {
    let found = clients::remove(tx, id)?;
    if found {
        // A client of the same name may come later; it must not inherit what this one was given.
        let until = now + longest_lifetime(tx)? + CLOCK_MARGIN;
        feed::append(tx, Kind::Client.as_str(), id, until, now)?;
        changed(tx, id, Event::ClientRemoved, Value::Null, now)?;
    }
    Ok(found)
}

/// Gives the client one more secret of ours.
pub fn add_secret(tx: &mut Connection, client_id: &str, expires_at: Option<i64>, now: i64) -> Result<NewSecret, StorageError> {
    let new = generate();
    let row = SecretRow {
        id: new.id.clone(),
        client_id: client_id.to_owned(),
        digest: new.secret.digest().encode(),
        created_at: now,
        expires_at,
        last_used_at: None,
    };
    clients::add_secret(tx, &row)?;
    changed(tx, client_id, Event::ClientSecretAdded, json!({ "secret_id": new.id }), now)?;
    Ok(new)
}

/// Takes a secret away. False if the client has none of that id.
pub fn remove_secret(tx: &mut Connection, client_id: &str, secret_id: &str, now: i64) -> Result<bool, StorageError> {
    let found = clients::remove_secret(tx, client_id, secret_id)?;
    if found {
        changed(tx, client_id, Event::ClientSecretRemoved, json!({ "secret_id": secret_id }), now)?;
    }
    Ok(found)
}

fn generate() -> NewSecret {
    let mut id = [0u8; 8];
    fill_random(&mut id);
    NewSecret { id: hex(&id), secret: Secret::generate(SECRET_PREFIX) }
}

pub(super) fn to_json(settings: &config::Client) -> Result<String, StorageError> {
    serde_json::to_string(settings).map_err(|reason| StorageError::Invalid(reason.to_string()))
}

/// The names of the keys whose values are not the same in two stored settings.
fn keys_that_differ(before: &str, after: &str) -> Vec<String> {
    let read = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    let (before, after) = (read(before), read(after));
    let mut keys: Vec<_> = before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key)).cloned().collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Tells the nodes and the audit.
pub(super) fn changed(tx: &mut Connection, id: &str, event: Event, detail: Value, now: i64) -> Result<(), StorageError> {
    feed::append(tx, super::FEED_KIND, id, now + 86_400, now)?;
    audit::insert(tx, &Record::ok(event, now).client(id).detail(detail))
}
