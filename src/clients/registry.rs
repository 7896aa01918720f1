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
        let loaded: HashMap<_, _> = clients::all(c)?
            .iter()
            .map(|(row, secrets)| Client::from_rows(row, secrets).map(|client| (client.id.clone(), Arc::new(client))))
            .collect::<Result<_, _>>()?;
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Takes over what the database holds of one client; None if it is gone.
    pub fn replace(&self, id: &str, rows: Option<(ClientRow, Vec<SecretRow>)>) -> Result<(), StorageError> {
        let client = rows.map(|(row, secrets)| Client::from_rows(&row, &secrets)).transpose()?;
        let mut map = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        match client {
            Some(client) => map.insert(client.id.clone(), Arc::new(client)),
            None => map.remove(id),
        };
        Ok(())
    }

    /// Writes down when each secret was last used. Called now and then: the path of a request never writes for this.
    pub async fn flush_last_used(&self, storage: &Storage) -> Result<(), StorageError> {
        let used: Vec<(String, i64)> = {
            let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
            let secrets = clients.values().flat_map(|client| &client.secrets);
            secrets.filter(|s| s.last_used_at() > 0).map(|s| (s.id.as_str().to_owned(), s.last_used_at())).collect()
        };
        if used.is_empty() {
            return Ok(());
        }
        storage.write(move |tx| clients::touch_secrets(tx, &used)).await
    }
}
