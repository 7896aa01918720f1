//! The published keys (RFC 7517 section 5), rendered once for each keyring.

use bytes::Bytes;

use super::jwt::SigningKey;
use crate::oauth2::secret::Digest;

/// The JWKS body and its entity tag.
#[derive(Clone, Debug)]
pub struct Published {
    pub body: Bytes,
    /// A strong validator (RFC 9110 section 8.8.3), with its quotes.
    pub etag: String,
}

impl Published {
    pub fn of<'a>(keys: impl Iterator<Item = &'a SigningKey>) -> Published {
        let mut keys: Vec<_> = keys.collect();
        keys.sort_by(|a, b| a.kid.cmp(&b.kid));
        let jwks = serde_json::json!({ "keys": keys.into_iter().map(SigningKey::jwk).collect::<Vec<_>>() });
        let body = jwks.to_string();
        let etag = format!("\"{}\"", Digest::of(body.as_bytes()).encode());
        Published { body: body.into(), etag }
    }
}
