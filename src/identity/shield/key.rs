//! The key under which everything that the shield keeps is hashed: one for all nodes of a database, sealed in it.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::oauth2::secret::fill_random;
use crate::storage::{Storage, in_turn, settings};
use crate::tokens::TokenError;
use crate::tokens::kek::Kek;

/// The setting that holds it: the name of the key-encryption key, a colon, and what that sealed.
pub const SETTING: &str = "shield_key";
/// The place that it is sealed for.
pub const PLACE: &str = "settings.value:shield_key";

/// Hashes what must be found again and never be read: HMAC-SHA-256 (RFC 2104).
#[derive(Debug)]
pub struct Hasher(hmac::Key);

impl Hasher {
    fn new(bytes: &[u8]) -> Hasher {
        Hasher(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    #[cfg(test)]
    pub fn random() -> Hasher {
        let mut bytes = [0u8; 32];
        fill_random(&mut bytes);
        Hasher::new(&bytes)
    }

    /// The key of the database, made by the first node that comes. One that does not open was sealed under a key-encryption key that
    /// was changed since: a new one takes its place, and the shield begins anew.
    pub fn open(storage: &Storage, kek: &Kek) -> Result<Hasher, TokenError> {
        let mut fresh = Zeroizing::new([0u8; 32]);
        fill_random(fresh.as_mut_slice());
        let sealed = format!("{}:{}", kek.name(), kek.seal(PLACE, kek.name(), fresh.as_slice())?);
        let open = |stored: &str| stored.split_once(':').and_then(|(name, sealed)| kek.open(PLACE, name, sealed).ok());
        if let Some(bytes) = storage.read_blocking(|c| settings::get(c, SETTING))?.and_then(|stored| open(&stored)) {
            return Ok(Hasher::new(&bytes));
        }
        // Another node may be doing the same.
        let name = format!("{}:", kek.name());
        let stands = storage.write_blocking(move |tx| {
            in_turn(tx)?;
            if let Some(stored) = settings::get(tx, SETTING)?.filter(|stored| stored.starts_with(&name)) {
                return Ok(stored);
            }
            settings::put(tx, SETTING, &sealed)?;
            Ok(sealed)
        })?;
        let bytes =
            open(&stands).ok_or_else(|| TokenError::Kek(format!("the setting {SETTING} does not open; remove it from the database")))?;
        Ok(Hasher::new(&bytes))
    }

    /// base64url of the hash. Where a part ends is part of what is hashed.
    pub fn hash(&self, purpose: &str, parts: &[&str]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for part in std::iter::once(&purpose).chain(parts) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(context.sign())
    }
}
