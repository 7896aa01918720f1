//! Declared clients belong to the configuration file: they are applied at start, and their secrets again when a
//! secrets file changes. What is
//! there already and equal is left alone, so that ten nodes may do this at once.

use std::fs;
use std::path::Path;

use serde_json::json;
use zeroize::Zeroizing;

use super::{admin, assertion};
use crate::audit::Event;
use crate::config::{self, Problem};
use crate::oauth2::Secret;
use crate::oauth2::secret::hex;
use crate::storage::clients::SecretRow;
use crate::storage::{Connection, StorageError, clients, in_turn};

/// A secret of a declared client is chosen by people, so it must be long.
pub const LEAST_SECRET: usize = 32;

const MAKE_ONE: &str = "such as from: head -c 32 /dev/urandom | base64";

/// A client of the file with its secrets read.
#[derive(Clone, Debug)]
pub struct Declared {
    pub settings: config::Client,
    secrets: Vec<Secret>,
}

/// Reads the secrets files and keys of all declared clients. `allow` is `[outbound] allow`.
pub fn read(declared: &[config::Client], allow: &[String]) -> Result<Vec<Declared>, Vec<Problem>> {
    let (mut read, mut problems) = (Vec::new(), Vec::new());
    for (i, settings) in declared.iter().enumerate() {
        problems.extend(assertion::check(settings, allow).into_iter().map(|p| Problem::new(format!("client[{i}].{}", p.path), p.reason)));
        match settings.secrets_file.as_deref().map(secrets_of).transpose() {
            Ok(secrets) => read.push(Declared { settings: settings.clone(), secrets: secrets.unwrap_or_default() }),
            Err(reason) => problems.push(Problem::new(format!("client[{i}].secrets_file"), reason)),
        }
    }
    if problems.is_empty() { Ok(read) } else { Err(problems) }
}

fn secrets_of(file: &Path) -> Result<Vec<Secret>, String> {
    let text = fs::read_to_string(file).map(Zeroizing::new).map_err(|reason| format!("cannot read {}: {reason}", file.display()))?;
    let mut lines = Vec::new();
    for (i, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        let length = line.len();
        if length < LEAST_SECRET {
            return Err(format!(
                "{}:{}: the secret has {length} characters; take at least {LEAST_SECRET}, {MAKE_ONE}",
                file.display(),
                i + 1
            ));
        }
        // Written twice, it is one.
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    match lines.is_empty() {
        true => Err(format!("{} is empty; write one secret a line, {MAKE_ONE}", file.display())),
        false => Ok(lines.into_iter().map(Secret::new).collect()),
    }
}

/// What [`apply`] did or would do, for `check` and the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    /// Clients of the command line that have an id of the file. Where there is any, nothing is done: it would take over what was
    /// issued to them.
    pub taken: Vec<String>,
}

/// Compares the file with the database.
pub fn difference(c: &mut Connection, declared: &[Declared]) -> Result<Difference, StorageError> {
    let stored = clients::all(c)?;
    let mut difference = Difference::default();
    for client in declared {
        match stored.iter().find(|(row, _)| row.id == client.settings.id) {
            None => difference.added.push(client.settings.id.clone()),
            Some((row, _)) if !row.declared => difference.taken.push(client.settings.id.clone()),
            Some((row, secrets)) => {
                let same_secrets = secrets.len() == client.secrets.len()
                    && client.secrets.iter().all(|s| secrets.iter().any(|row| row.digest == s.digest().encode()));
                if row.settings != admin::to_json(&client.settings)? || !same_secrets {
                    difference.changed.push(client.settings.id.clone());
                }
            }
        }
    }
    let undeclared = stored.iter().filter(|(row, _)| row.declared && declared.iter().all(|client| client.settings.id != row.id));
    difference.removed = undeclared.map(|(row, _)| row.id.clone()).collect();
    Ok(difference)
}

/// Makes the database say what the file says; nothing where an id is [`Difference::taken`].
pub fn apply(tx: &mut Connection, declared: &[Declared], now: i64) -> Result<Difference, StorageError> {
    in_turn(tx)?;
    let difference = difference(tx, declared)?;
    if !difference.taken.is_empty() {
        return Ok(difference);
    }
    for id in &difference.removed {
        admin::remove(tx, id, now)?;
    }
    for client in declared {
        let id = &client.settings.id;
        if difference.added.contains(id) {
            admin::add(tx, &client.settings, true, now)?;
        } else if difference.changed.contains(id) {
            admin::update(tx, &client.settings, true, now)?;
        } else {
            continue;
        }
        replace_secrets(tx, client, now)?;
    }
    Ok(difference)
}

/// Makes the secrets in the database those of the files, and touches nothing else: of a client that is stored otherwise than our
/// file says, a node with a newer file has charge. Answers the ids of the clients whose secrets changed.
pub fn apply_secrets(tx: &mut Connection, declared: &[Declared], now: i64) -> Result<Vec<String>, StorageError> {
    in_turn(tx)?;
    let mut changed = Vec::new();
    for client in declared {
        let ours = admin::to_json(&client.settings)?;
        let stored = clients::find(tx, &client.settings.id)?;
        if stored.is_some_and(|(row, _)| row.declared && row.settings == ours) && replace_secrets(tx, client, now)? {
            changed.push(client.settings.id.clone());
        }
    }
    Ok(changed)
}

/// Whether there was anything to do.
fn replace_secrets(tx: &mut Connection, client: &Declared, now: i64) -> Result<bool, StorageError> {
    let id = &client.settings.id;
    let stored = clients::find(tx, id)?.map(|(_, secrets)| secrets).unwrap_or_default();
    let mut changed = false;
    let wanted: Vec<_> = client.secrets.iter().map(|secret| secret.digest().encode()).collect();
    for gone in stored.iter().filter(|row| !wanted.contains(&row.digest)) {
        clients::remove_secret(tx, id, &gone.id)?;
        admin::changed(tx, id, Event::ClientSecretRemoved, json!({ "secret_id": gone.id }), now)?;
        changed = true;
    }
    for secret in &client.secrets {
        let digest = secret.digest();
        if stored.iter().any(|row| row.digest == digest.encode()) {
            continue;
        }
        // Derived, so that nodes that apply the same file agree; bound to the client, so that two may share a secret.
        let seed = crate::oauth2::secret::Digest::of(&[id.as_bytes(), b"\0", digest.as_bytes()].concat());
        let row = SecretRow {
            id: hex(seed.as_bytes().get(..8).unwrap_or_default()),
            client_id: id.clone(),
            digest: digest.encode(),
            created_at: now,
            expires_at: None,
            last_used_at: None,
        };
        clients::add_secret(tx, &row)?;
        admin::changed(tx, id, Event::ClientSecretAdded, json!({ "secret_id": row.id }), now)?;
        changed = true;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests;
