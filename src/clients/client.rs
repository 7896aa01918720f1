//! A client, ready for use.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::config;
use crate::oauth2::request::GrantType;
use crate::oauth2::secret::Digest;
use crate::oauth2::{ClientId, Scope, Secret, SecretId};
use crate::storage::StorageError;
use crate::storage::clients::{ClientRow, SecretRow};

/// One client of RFC 6749 section 2, as all requests share it.
#[derive(Debug)]
pub struct Client {
    pub id: ClientId,
    /// A stable integer below 2^53, for shapes that want one.
    pub number: i64,
    pub disabled: bool,
    /// Belongs to the configuration file.
    pub declared: bool,
    pub settings: config::Client,
    pub grants: Vec<GrantType>,
    /// All that it may ask for.
    pub scopes: Scope,
    pub secrets: Vec<ClientSecret>,
}

/// One of a client's live secrets.
#[derive(Debug)]
pub struct ClientSecret {
    pub id: SecretId,
    digest: Digest,
    /// Seconds; None lives for ever.
    pub expires_at: Option<i64>,
    /// Seconds; written to the database in batches.
    last_used_at: AtomicI64,
}

impl Client {
    /// Reads what the database holds.
    ///
    /// Errors: settings that this version does not understand.
    pub fn from_rows(row: &ClientRow, secrets: &[SecretRow]) -> Result<Client, StorageError> {
        let invalid = |what: &str| StorageError::Invalid(format!("client {}: {what}", row.id));
        let settings: config::Client = serde_json::from_str(&row.settings).map_err(|reason| invalid(&reason.to_string()))?;
        let secrets = secrets.iter().map(|secret| {
            let digest = Digest::decode(&secret.digest).ok_or_else(|| invalid("a secret's digest is damaged"))?;
            Ok(ClientSecret {
                id: secret.id.as_str().into(),
                digest,
                expires_at: secret.expires_at,
                last_used_at: AtomicI64::new(secret.last_used_at.unwrap_or(0)),
            })
        });
        Ok(Client {
            id: row.id.as_str().into(),
            number: row.number,
            disabled: row.disabled,
            declared: row.declared,
            grants: settings.grants.iter().filter_map(|name| GrantType::parse(name)).collect(),
            scopes: settings.scopes.iter().collect(),
            secrets: secrets.collect::<Result<_, StorageError>>()?,
            settings,
        })
    }

    pub fn may(&self, grant: GrantType) -> bool {
        self.grants.contains(&grant)
    }

    /// The live secret that `presented` is, if any. Every secret is compared, in constant time each.
    pub fn secret_matching(&self, presented: &Secret, now: i64) -> Option<&ClientSecret> {
        let digest = presented.digest();
        let live = self.secrets.iter().filter(|secret| secret.expires_at.is_none_or(|t| now < t));
        live.fold(None, |found, secret| if secret.digest.matches(&digest) { Some(secret) } else { found })
    }

    /// Whether a token meant for `audience` is meant for this client.
    pub fn answers_for(&self, audience: &str) -> bool {
        self.id.as_str() == audience || self.settings.resources.iter().any(|uri| uri == audience)
    }

    /// Whether people of `source` may sign in through this client.
    pub fn admits_source(&self, source: &str) -> bool {
        self.settings.sources.as_ref().is_none_or(|sources| sources.iter().any(|name| name == source))
    }
}

impl ClientSecret {
    /// Notes that it was used.
    pub fn touch(&self, now: i64) {
        if self.last_used_at.load(Ordering::Relaxed) < now {
            self.last_used_at.store(now, Ordering::Relaxed);
        }
    }

    pub fn last_used_at(&self) -> i64 {
        self.last_used_at.load(Ordering::Relaxed)
    }
}
