//! A provider's public keys (RFC 7517), and which of them a token may be verified with.

use std::fmt;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;

use super::json;
use super::settings::algorithm;
use super::token::UnverifiedIdToken;

/// The signature keys of a JWK set. Keys of unknown kinds, for encryption, or symmetric are left out.
pub struct KeySet(Vec<Key>);

struct Key {
    kid: Option<String>,
    /// `alg` of the JWK, which pins the key to it.
    algorithm: Option<Algorithm>,
    /// `crv` of an elliptic curve key.
    curve: Option<String>,
    key: DecodingKey,
}

/// What became of the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    Good,
    Bad,
    /// No key of the set fits the token's `kid` and `alg`.
    NoKey,
}

impl KeySet {
    /// RFC 7517 section 5: what is not understood in one key does not spoil the set. The error says what is wrong.
    pub fn parse(document: &[u8]) -> Result<KeySet, String> {
        let document = json::object(document).ok_or("the key set is not a JSON object")?;
        let Some(Value::Array(keys)) = document.get("keys") else {
            return Err("the key set has no array \"keys\"".to_owned());
        };
        Ok(KeySet(keys.iter().filter_map(Key::parse).collect()))
    }

    /// How many keys can be used at all.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many keys `algorithm` can be verified with.
    pub fn fitting(&self, algorithm: Algorithm) -> usize {
        self.0.iter().filter(|key| key.fits(algorithm)).count()
    }

    pub fn contains(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// Verifies the signature, and nothing else, by `algorithm`, with the keys that have the token's `kid`; for a token without
    /// one with the only key that fits.
    pub fn verify(&self, token: &UnverifiedIdToken, algorithm: Algorithm, kid: Option<&str>) -> Signature {
        self.verify_parts(token.signed(), token.signature(), algorithm, kid)
    }

    /// The same for any JWS: what is signed, and the signature in base64url.
    pub fn verify_parts(&self, signed: &str, signature: &str, algorithm: Algorithm, kid: Option<&str>) -> Signature {
        let fitting: Vec<&Key> = self.0.iter().filter(|key| (kid.is_none() || key.kid.as_deref() == kid) && key.fits(algorithm)).collect();
        if fitting.is_empty() || (kid.is_none() && fitting.len() > 1) {
            return Signature::NoKey;
        }
        let good =
            fitting.iter().any(|key| jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, algorithm).unwrap_or_default());
        if good { Signature::Good } else { Signature::Bad }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|key| key.kid.as_deref().unwrap_or("(no kid)"))).finish()
    }
}

impl Key {
    fn parse(jwk: &Value) -> Option<Key> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        // RFC 7517 sections 4.2 and 4.3.
        if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops")
            && !operations.as_array()?.iter().any(|operation| operation == "verify")
        {
            return None;
        }
        let algorithm = match jwk.get("alg") {
            Some(name) => Some(algorithm(name.as_str()?)?),
            None => None,
        };
        let key = match text("kty")? {
            "RSA" => DecodingKey::from_rsa_components(text("n")?, text("e")?),
            "EC" => DecodingKey::from_ec_components(text("x")?, text("y")?),
            "OKP" => DecodingKey::from_ed_components(text("x")?),
            _ => return None,
        };
        let kid = match jwk.get("kid") {
            Some(kid) => Some(kid.as_str()?.to_owned()),
            None => None,
        };
        Some(Key { kid, algorithm, curve: text("crv").map(str::to_owned), key: key.ok()? })
    }

    /// RFC 7518 section 6.2.1.1 and RFC 8037 section 3.1: the curve belongs to the algorithm.
    fn fits(&self, algorithm: Algorithm) -> bool {
        let curve = match algorithm {
            Algorithm::ES256 => Some("P-256"),
            Algorithm::ES384 => Some("P-384"),
            Algorithm::EdDSA => Some("Ed25519"),
            _ => None,
        };
        algorithm.family() != AlgorithmFamily::Hmac
            && self.key.family() == algorithm.family()
            && self.algorithm.is_none_or(|pinned| pinned == algorithm)
            && (curve.is_none() || self.curve.as_deref() == curve)
    }
}
