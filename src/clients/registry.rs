//! All clients in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::Client;
use crate::oauth2::ClientId;
use crate::storage::clients::{ClientRow, SecretRow};
use crate::storage::{Connection, Storage, StorageError, clients};

/// The clients that this node knows. The feed keeps it true.
#[derive(Debug, Default)]
pub struct Registry {
    clients: RwLock<HashMap<ClientId, Arc<Client>>>,
}

impl Registry {
    /// The client named `id`, disabled or not.
    pub fn find(&self, id: &str) -> Option<Arc<Client>> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Loads all clients again.
    pub fn reload(&self, c: &mut Connection) -> Result<(), StorageError> {
        let rows = clients::all(c)?;
        // Requests read on meanwhile. One thread writes, the follower's, so what it read is what it replaces.
        let before = self.clients.read().unwrap_or_else(PoisonError::into_inner).clone();
        let after = rows.iter().map(|(row, secrets)| loaded(&before, row, secrets)).map(|client| (client.id.clone(), client)).collect();
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(())
    }

    /// Takes over what the database holds of one client; None if it is gone.
    pub fn replace(&self, id: &str, rows: Option<(ClientRow, Vec<SecretRow>)>) {
        let mut map = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        match rows.map(|(row, secrets)| loaded(&map, &row, &secrets)) {
            Some(client) => map.insert(client.id.clone(), client),
            None => map.remove(id),
        };
    }

    /// Writes down when secrets were last used, where that has moved. Called now and then: the path of a request never writes for
    /// this.
    pub async fn flush_last_used(&self, storage: &Storage) -> Result<(), StorageError> {
        let all: Vec<_> = self.clients.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let secrets = all.iter().flat_map(|client| &client.secrets);
        let mut used: Vec<_> = secrets.filter_map(|secret| Some((secret, secret.unstored_use()?))).collect();
        if used.is_empty() {
            return Ok(());
        }
        // In one order on all nodes, so that no two wait for one another.
        used.sort_by(|(a, _), (b, _)| a.id.as_str().cmp(b.id.as_str()));
        let rows: Vec<(String, i64)> = used.iter().map(|(secret, at)| (secret.id.as_str().to_owned(), *at)).collect();
        storage.write(move |tx| clients::touch_secrets(tx, &rows)).await?;
        for (secret, at) in used {
            secret.stored_use(at);
        }
        Ok(())
    }
}

fn loaded(before: &HashMap<ClientId, Arc<Client>>, row: &ClientRow, secrets: &[SecretRow]) -> Arc<Client> {
    let mut client = Client::from_rows(row, secrets);
    if let Some(before) = before.get(row.id.as_str()) {
        client.take_over_uses(before);
    }
    Arc::new(client)
}
