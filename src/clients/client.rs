//! A client, ready for use.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::assertion;
use crate::config;
use crate::identity::oidc::keys::KeySet;
use crate::oauth2::request::GrantType;
use crate::oauth2::secret::Digest;
use crate::oauth2::{ClientId, Scope, Secret, SecretId};
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
    /// The public keys of its settings, for `private_key_jwt`.
    pub keys: Option<Arc<KeySet>>,
}

/// One of a client's live secrets.
#[derive(Debug)]
pub struct ClientSecret {
    pub id: SecretId,
    digest: Digest,
    /// Seconds; None lives for ever.
    pub expires_at: Option<i64>,
    last_use: Arc<LastUse>,
}

/// When a secret was last used, in seconds; 0 for never. Shared with what replaces the client in memory, so that no use is lost.
#[derive(Debug)]
struct LastUse {
    at: AtomicI64,
    /// What of it the database has; written in batches.
    stored: AtomicI64,
}

impl Client {
    /// Reads what the database holds. Settings that this version does not understand, those of a newer one, make a disabled client,
    /// and such a secret is left out: one row must not stop a node.
    pub fn from_rows(row: &ClientRow, secrets: &[SecretRow]) -> Client {
        let settings = config::Client::from_stored(&row.settings).map_err(|reason| {
            tracing::error!(client = row.id, %reason, "the settings of a client cannot be read; it counts as disabled");
        });
        let disabled = row.disabled || settings.is_err();
        let settings = settings.unwrap_or_else(|()| config::Client { id: row.id.clone(), ..config::Client::default() });
        let secrets = secrets.iter().filter_map(|secret| {
            let Some(digest) = Digest::decode(&secret.digest) else {
                tracing::error!(client = row.id, secret = secret.id, "the digest of a secret cannot be read; the secret is not accepted");
                return None;
            };
            let used = secret.last_used_at.unwrap_or(0);
            let last_use = Arc::new(LastUse { at: AtomicI64::new(used), stored: AtomicI64::new(used) });
            Some(ClientSecret { id: secret.id.as_str().into(), digest, expires_at: secret.expires_at, last_use })
        });
        // They were checked at registration; what does not read is as good as no key.
        let keys = settings.jwks.as_ref().and_then(|jwks| assertion::parse(jwks.to_string().as_bytes()).ok());
        Client {
            id: row.id.as_str().into(),
            number: row.number,
            disabled,
            declared: row.declared,
            grants: settings.grants.iter().filter_map(|name| GrantType::parse(name)).collect(),
            scopes: settings.scopes.iter().collect(),
            secrets: secrets.collect(),
            keys: keys.map(Arc::new),
            settings,
        }
    }

    /// Goes on noting the uses of the secrets where `before`, which this one replaces in memory, does.
    pub(super) fn take_over_uses(&mut self, before: &Client) {
        for secret in &mut self.secrets {
            if let Some(same) = before.secrets.iter().find(|other| other.id == secret.id) {
                let here = std::mem::replace(&mut secret.last_use, same.last_use.clone());
                secret.touch(here.at.load(Ordering::Relaxed));
            }
        }
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
        // Looked at first: a write for each request would have the cores fight over it.
        if self.last_use.at.load(Ordering::Relaxed) < now {
            self.last_use.at.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// Seconds; 0 for never.
    pub fn last_used_at(&self) -> i64 {
        self.last_use.at.load(Ordering::Relaxed)
    }

    /// The last use that the database does not have yet.
    pub(super) fn unstored_use(&self) -> Option<i64> {
        Some(self.last_used_at()).filter(|at| *at > self.last_use.stored.load(Ordering::Relaxed))
    }

    /// The database has the use at `at`.
    pub(super) fn stored_use(&self, at: i64) {
        self.last_use.stored.fetch_max(at, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(settings: &str) -> ClientRow {
        ClientRow {
            id: "a".to_owned(),
            number: 1,
            declared: false,
            disabled: false,
            settings: settings.to_owned(),
            created_at: 0,
            updated_at: 0,
        }
    }

    fn secret(digest: &str, last_used_at: Option<i64>) -> SecretRow {
        let (id, client_id, digest) = ("s".to_owned(), "a".to_owned(), digest.to_owned());
        SecretRow { id, client_id, digest, created_at: 0, expires_at: None, last_used_at }
    }

    #[test]
    fn what_cannot_be_read_is_a_disabled_client_and_no_secret() {
        let digest = Secret::new("x").digest().encode();
        let client = Client::from_rows(&row(r#"{"of_tomorrow": 1}"#), &[secret(&digest, None), secret("of tomorrow", None)]);
        assert_eq!((client.disabled, client.secrets.len()), (false, 1));
        let client = Client::from_rows(&row(r#"{"auth_method": "of_tomorrow"}"#), &[]);
        assert_eq!((client.disabled, client.settings.id.as_str(), client.grants.len()), (true, "a", 0));
    }

    #[test]
    fn a_replaced_client_goes_on_with_the_uses_of_its_secrets() {
        let digest = Secret::new("x").digest().encode();
        let before = Client::from_rows(&row("{}"), &[secret(&digest, Some(5))]);
        assert_eq!(before.secrets[0].unstored_use(), None);
        before.secrets[0].touch(9);
        let mut after = Client::from_rows(&row("{}"), &[secret(&digest, Some(7))]);
        after.take_over_uses(&before);
        assert_eq!(after.secrets[0].unstored_use(), Some(9));
        before.secrets[0].touch(11);
        assert_eq!(after.secrets[0].unstored_use(), Some(11), "by a request that began before");
        after.secrets[0].stored_use(11);
        assert_eq!(after.secrets[0].unstored_use(), None);
    }
}
