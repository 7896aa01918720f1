//! The keys in memory. A [`Keyring`] is read-only; when keys change a new one takes its place ([`Keys`]).

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::jwt::SigningKey;
use super::kek::Kek;
use super::seal::{SealingKey, SealingKeyId};
use super::{TokenError, jwks};
use crate::config::SigningAlgorithm;
use crate::storage::keys::KeyRow;

/// Where in its life a key is. It follows from the times in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Known to all, not used yet.
    Published,
    /// In use. (For sealing keys too.)
    Signing,
    /// No longer used for new tokens; old ones still verify.
    Retired,
    /// Gone: nothing that it protected is still alive.
    Removed,
    /// Taken out at once; everything under it is dead.
    Revoked,
}

impl KeyState {
    pub fn of(row: &KeyRow, now: i64) -> KeyState {
        match row {
            row if row.revoked_at.is_some() => KeyState::Revoked,
            // Written in the moment of the removal, and what was sealed is gone, however late our clock is.
            row if row.removed_at.is_some() => KeyState::Removed,
            row if row.retired_at.is_some_and(|t| t <= now) => KeyState::Retired,
            row if row.active_at <= now => KeyState::Signing,
            _ => KeyState::Published,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            KeyState::Published => "published",
            KeyState::Signing => "signing",
            KeyState::Retired => "retired",
            KeyState::Removed => "removed",
            KeyState::Revoked => "revoked",
        }
    }
}

/// A parsed key with the times that say when it is used.
#[derive(Debug)]
struct Held<K> {
    key: K,
    active_at: i64,
    retired_at: Option<i64>,
}

impl<K> Held<K> {
    fn usable(&self, now: i64) -> bool {
        self.active_at <= now && self.retired_at.is_none_or(|t| now < t)
    }
}

/// Of the keys in use at `now` the one that began last. A clock that was set back before all of them finds the one that begins
/// first: it has been in use already.
fn in_use<'a, K>(all: impl Iterator<Item = &'a Held<K>> + Clone, now: i64) -> Option<&'a K> {
    let usable = all.clone().filter(|held| held.usable(now)).max_by_key(|held| held.active_at);
    let held = usable.or_else(|| all.filter(|held| now < held.active_at).min_by_key(|held| held.active_at));
    held.map(|held| &held.key)
}

/// All keys that are neither removed nor revoked.
#[derive(Debug)]
pub struct Keyring {
    signing: HashMap<String, Held<SigningKey>>,
    sealing: HashMap<SealingKeyId, Held<SealingKey>>,
    jwks: jwks::Published,
}

impl Keyring {
    /// Opens and parses `rows`.
    ///
    /// Errors: a key that the key-encryption key does not open, or that is no key.
    pub fn build(rows: &[KeyRow], kek: &Kek, issuer: &str, now: i64) -> Result<Keyring, TokenError> {
        let (mut signing, mut sealing) = (HashMap::new(), HashMap::new());
        for row in rows {
            if matches!(KeyState::of(row, now), KeyState::Removed | KeyState::Revoked) {
                continue;
            }
            let plain = kek.open(&place(&row.kid), &row.kek, &row.sealed)?;
            let wrong = |reason: &str| TokenError::Key { kid: row.kid.clone(), reason: reason.to_owned() };
            let (active_at, retired_at) = (row.active_at, row.retired_at);
            if row.purpose == SEALING {
                let id = SealingKeyId::parse(&row.kid).ok_or_else(|| wrong("has no id of eight hex digits"))?;
                sealing.insert(id, Held { key: SealingKey::new(id, &plain, issuer)?, active_at, retired_at });
            } else {
                let key = SigningKey::parse(&row.kid, &row.algorithm, &plain)?;
                signing.insert(row.kid.clone(), Held { key, active_at, retired_at });
            }
        }
        let jwks = jwks::Published::of(signing.values().map(|held| &held.key));
        Ok(Keyring { signing, sealing, jwks })
    }

    /// The key that signs at `now`: of those in use, the one that began last.
    pub fn signing_key(&self, algorithm: SigningAlgorithm, now: i64) -> Result<&SigningKey, TokenError> {
        let fitting = self.signing.values().filter(|held| held.key.algorithm == algorithm);
        in_use(fitting, now).ok_or(TokenError::NoKey("sign"))
    }

    /// The key that seals at `now`.
    pub fn sealing_key(&self, now: i64) -> Result<&SealingKey, TokenError> {
        in_use(self.sealing.values(), now).ok_or(TokenError::NoKey("seal"))
    }

    /// The signing key named `kid`, in use, published or retired.
    pub fn verifying_key(&self, kid: &str) -> Option<&SigningKey> {
        self.signing.get(kid).map(|held| &held.key)
    }

    pub fn opening_key(&self, id: SealingKeyId) -> Option<&SealingKey> {
        self.sealing.get(&id).map(|held| &held.key)
    }

    /// The JWKS of RFC 7517 section 5.
    pub fn jwks(&self) -> &jwks::Published {
        &self.jwks
    }
}

/// `keys.purpose` of a signing key.
pub const SIGNING: &str = "signing";
/// `keys.purpose` of a sealing key.
pub const SEALING: &str = "sealing";

/// The place that a sealed key is bound to.
pub fn place(kid: &str) -> String {
    format!("keys.sealed:{kid}")
}

/// The keyring of the moment, shared by all requests.
#[derive(Debug)]
pub struct Keys {
    current: ArcSwap<Keyring>,
    kek: Kek,
    issuer: String,
}

impl Keys {
    pub fn new(rows: &[KeyRow], kek: Kek, issuer: String, now: i64) -> Result<Keys, TokenError> {
        let current = ArcSwap::from_pointee(Keyring::build(rows, &kek, &issuer, now)?);
        Ok(Keys { current, kek, issuer })
    }

    /// The keyring now. Cheap.
    pub fn ring(&self) -> arc_swap::Guard<Arc<Keyring>> {
        self.current.load()
    }

    /// Takes over what the database holds now. On an error the old keyring stays.
    pub fn replace(&self, rows: &[KeyRow], now: i64) -> Result<(), TokenError> {
        self.current.store(Arc::new(Keyring::build(rows, &self.kek, &self.issuer, now)?));
        Ok(())
    }

    pub fn kek(&self) -> &Kek {
        &self.kek
    }
}
