//! Registered clients and the digests of their secrets.

use diesel::prelude::*;

use super::connection::execute_on_either;
use super::schema::{client_secrets, clients};
use super::{Connection, StorageError, accounts};

/// A client as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = clients)]
pub struct ClientRow {
    pub id: String,
    /// The small integer that some dialects show; shared with accounts and never reused.
    pub number: i64,
    /// Belongs to the configuration file.
    pub declared: bool,
    pub disabled: bool,
    /// JSON: the keys of `[[client]]`.
    pub settings: String,
    pub created_at: i64,
    pub updated_at: i64,
}

/// A secret of a client: looked up by its id, compared by its digest.
#[derive(Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = client_secrets)]
pub struct SecretRow {
    pub id: String,
    pub client_id: String,
    /// SHA-256 or a PHC string, see `clients`.
    pub digest: String,
    pub created_at: i64,
    pub expires_at: Option<i64>,
    pub last_used_at: Option<i64>,
}

impl std::fmt::Debug for SecretRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretRow").field("id", &self.id).field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// A client to be registered.
#[derive(Clone, Debug)]
pub struct NewClient {
    pub id: String,
    pub declared: bool,
    pub settings: String,
    pub created_at: i64,
}

/// Every client with its secrets, by id.
pub fn all(c: &mut Connection) -> Result<Vec<(ClientRow, Vec<SecretRow>)>, StorageError> {
    let rows: Vec<ClientRow> = clients::table.order(clients::id).load(c)?;
    let mut secrets: std::collections::HashMap<String, Vec<SecretRow>> = std::collections::HashMap::new();
    for secret in client_secrets::table.order(client_secrets::id).load::<SecretRow>(c)? {
        secrets.entry(secret.client_id.clone()).or_default().push(secret);
    }
    Ok(rows.into_iter().map(|row| (secrets.remove(&row.id).unwrap_or_default(), row)).map(|(secrets, row)| (row, secrets)).collect())
}

/// One client with its secrets, oldest first.
pub fn find(c: &mut Connection, id: &str) -> Result<Option<(ClientRow, Vec<SecretRow>)>, StorageError> {
    let Some(row) = clients::table.find(id).first::<ClientRow>(c).optional()? else { return Ok(None) };
    let secrets = client_secrets::table.filter(client_secrets::client_id.eq(id)).order(client_secrets::id).load(c)?;
    Ok(Some((row, secrets)))
}

/// Registers a client, enabled, and gives it its number. [`StorageError::Conflict`] if the id is taken.
pub fn insert(tx: &mut Connection, new: &NewClient) -> Result<ClientRow, StorageError> {
    let row = ClientRow {
        id: new.id.clone(),
        number: accounts::next_number(tx)?,
        declared: new.declared,
        disabled: false,
        settings: new.settings.clone(),
        created_at: new.created_at,
        updated_at: new.created_at,
    };
    match execute_on_either!(tx, diesel::insert_into(clients::table).values(&row).on_conflict_do_nothing())? {
        0 => Err(StorageError::Conflict(format!("a client {} exists already", new.id))),
        _ => Ok(row),
    }
}

/// Replaces the settings; false if there is no such client.
pub fn update_settings(tx: &mut Connection, id: &str, settings: &str, declared: bool, now: i64) -> Result<bool, StorageError> {
    let set = (clients::settings.eq(settings), clients::declared.eq(declared), clients::updated_at.eq(now));
    Ok(diesel::update(clients::table.find(id)).set(set).execute(tx)? > 0)
}

/// Removes a client and its secrets; false if there is no such client.
pub fn remove(tx: &mut Connection, id: &str) -> Result<bool, StorageError> {
    Ok(diesel::delete(clients::table.find(id)).execute(tx)? > 0)
}

/// Adds a secret. [`StorageError::Conflict`] if its id is taken.
pub fn add_secret(tx: &mut Connection, row: &SecretRow) -> Result<(), StorageError> {
    match execute_on_either!(tx, diesel::insert_into(client_secrets::table).values(row).on_conflict_do_nothing())? {
        0 => Err(StorageError::Conflict(format!("a client secret {} exists already", row.id))),
        _ => Ok(()),
    }
}

/// Removes one secret of this client; false if it has no such secret.
pub fn remove_secret(tx: &mut Connection, client_id: &str, secret_id: &str) -> Result<bool, StorageError> {
    let secret = client_secrets::table.find(secret_id).filter(client_secrets::client_id.eq(client_id));
    Ok(diesel::delete(secret).execute(tx)? > 0)
}

/// Records when secrets were last used. A time only moves forward, whatever order the nodes write in.
pub fn touch_secrets(tx: &mut Connection, uses: &[(String, i64)]) -> Result<(), StorageError> {
    for (id, at) in uses {
        let older = client_secrets::table.find(id).filter(client_secrets::last_used_at.is_null().or(client_secrets::last_used_at.lt(at)));
        diesel::update(older).set(client_secrets::last_used_at.eq(at)).execute(tx)?;
    }
    Ok(())
}
