//! Client authentication by a signed assertion: `private_key_jwt` of OpenID Connect Core section 9, which is RFC 7523 section 2.2.
//!
//! [`UnverifiedAssertion::parse`] takes the text apart; its unverified `sub` names the client. [`UnverifiedAssertion::verify`] runs
//! the checks that need no I/O, and answers what the caller must claim once for all nodes before it believes the client. The keys
//! come from the client's settings (`check` reads them at registration) or from its `jwks_uri` ([`RemoteKeys`]).

mod registration;
mod remote;
#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

pub use registration::{check, parse};
pub use remote::RemoteKeys;

use crate::identity::oidc::json;
use crate::identity::oidc::keys::{KeySet, Signature};
use crate::oauth2::Secret;
use crate::oauth2::secret::Digest;
use crate::tokens::CLOCK_MARGIN;

/// `client_assertion_type`, RFC 7523 section 2.2.
pub const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The algorithms a client may sign with: those of FAPI 2.0, and RS256, which OpenID Connect clients still use. Never a symmetric one:
/// its key would be a secret that can be read back.
pub const ALGORITHMS: [(&str, Algorithm); 4] =
    [("PS256", Algorithm::PS256), ("ES256", Algorithm::ES256), ("EdDSA", Algorithm::EdDSA), ("RS256", Algorithm::RS256)];

/// Seconds that the client's clock and ours may be apart. FAPI 2.0 section 5.3.2.1 wants 10 accepted and more than 60 refused.
pub const CLOCK_SKEW: i64 = 30;
/// The longest life of an assertion, in seconds from now: for so long its use must be remembered.
pub const LONGEST_LIFE: i64 = 600;

const SIZE_LIMIT: usize = 16 * 1024;
const LONGEST_JTI: usize = 1024;

/// The first check that failed. Goes to the audit and never to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum AssertionRefusal {
    /// No such client, it is disabled, or it proves itself otherwise.
    UnknownClient,
    AlgorithmNotAllowed,
    /// `typ`, `crit` or a reference to a key that the signer chose.
    HeaderNotAllowed,
    UnknownKey,
    BadSignature,
    /// `iss`, `sub` and the parameter `client_id` are not one client.
    WrongClient,
    WrongAudience,
    Expired,
    /// `exp` is further ahead than [`LONGEST_LIFE`].
    LivesTooLong,
    NotYetValid,
    /// No `exp` or no `jti`, or one that is malformed.
    MissingClaim,
    Replayed,
}

impl AssertionRefusal {
    pub fn as_str(self) -> &'static str {
        match self {
            AssertionRefusal::UnknownClient => "unknown_client",
            AssertionRefusal::AlgorithmNotAllowed => "alg_not_allowed",
            AssertionRefusal::HeaderNotAllowed => "header_not_allowed",
            AssertionRefusal::UnknownKey => "unknown_key",
            AssertionRefusal::BadSignature => "bad_signature",
            AssertionRefusal::WrongClient => "wrong_client",
            AssertionRefusal::WrongAudience => "wrong_audience",
            AssertionRefusal::Expired => "expired",
            AssertionRefusal::LivesTooLong => "lives_too_long",
            AssertionRefusal::NotYetValid => "not_yet_valid",
            AssertionRefusal::MissingClaim => "missing_claim",
            AssertionRefusal::Replayed => "replayed",
        }
    }
}

/// An assertion as it came in. Nothing in it is known to be true. Debug shows nothing of it.
pub struct UnverifiedAssertion {
    text: Secret,
    signature_at: usize,
    header: Map<String, Value>,
    claims: Map<String, Value>,
    /// `sub`.
    subject: String,
    /// The parameter `client_id`, where it was sent.
    named: Option<String>,
}

impl fmt::Debug for UnverifiedAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnverifiedAssertion(…)")
    }
}

/// What must be claimed before the client is believed: the assertion is good for one use, on whatever node.
#[derive(Debug, PartialEq, Eq)]
pub struct OneUse {
    /// A digest of the client and the `jti`, whatever characters that has.
    pub id: String,
    /// Until when the use must be remembered, in seconds.
    pub until: i64,
    /// From when on it could have been used, in seconds. Where the database has forgotten what was used until then, it counts as used.
    pub from: i64,
}

impl UnverifiedAssertion {
    /// Takes the text apart. None: over 16 KiB, not three parts, not strict base64url, not JSON objects, a member twice, no `sub`.
    pub fn parse(text: &str, named: Option<&str>) -> Option<UnverifiedAssertion> {
        if text.len() > SIZE_LIMIT {
            return None;
        }
        let mut parts = text.split('.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let (header, claims) = (json::object(&decode(header)?)?, json::object(&decode(payload)?)?);
        decode(signature)?;
        let subject = claims.get("sub")?.as_str()?.to_owned();
        let signature_at = text.len() - signature.len();
        Some(UnverifiedAssertion { text: Secret::new(text), signature_at, header, claims, subject, named: named.map(str::to_owned) })
    }

    /// The client that it says it is.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// `kid` of the header; None without one.
    pub fn kid(&self) -> Option<&str> {
        self.header.get("kid").and_then(Value::as_str)
    }

    /// The algorithm, once the header may be used at all. Asked before any key is looked for.
    pub fn algorithm(&self) -> Result<Algorithm, AssertionRefusal> {
        let text = |name: &str| self.header.get(name).map(|value| value.as_str().unwrap_or_default());
        // RFC 7515 section 4.1.11; and keys are those that were registered, never those that the token points at.
        let refused = ["crit", "jku", "x5u"].iter().any(|name| self.header.contains_key(*name));
        // A JWT of another kind is none of this one (RFC 8725 section 3.11). Most clients write JWT or nothing.
        let typ = text("typ").is_none_or(|typ| ["jwt", "client-authentication+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known)));
        if refused || !typ || text("kid").is_some_and(str::is_empty) {
            return Err(AssertionRefusal::HeaderNotAllowed);
        }
        let alg = text("alg").unwrap_or_default();
        ALGORITHMS.iter().find(|(name, _)| *name == alg).map(|(_, found)| *found).ok_or(AssertionRefusal::AlgorithmNotAllowed)
    }

    /// Verifies the signature with `keys` and then the claims of RFC 7523 section 3. `audiences`: each of the names that we go by.
    pub fn verify(&self, client_id: &str, keys: &KeySet, audiences: &[&str], now: i64) -> Result<OneUse, AssertionRefusal> {
        let algorithm = self.algorithm()?;
        let text = self.text.expose();
        let signed = text.get(..self.signature_at.saturating_sub(1)).unwrap_or_default();
        let signature = text.get(self.signature_at..).unwrap_or_default();
        match keys.verify_parts(signed, signature, algorithm, self.kid()) {
            Signature::Good => self.claims(client_id, audiences, now),
            Signature::Bad => Err(AssertionRefusal::BadSignature),
            Signature::NoKey => Err(AssertionRefusal::UnknownKey),
        }
    }

    fn claims(&self, client_id: &str, audiences: &[&str], now: i64) -> Result<OneUse, AssertionRefusal> {
        let text = |name: &str| self.claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(client_id) || self.subject != client_id || self.named.as_deref().is_some_and(|named| named != client_id) {
            return Err(AssertionRefusal::WrongClient);
        }
        let names_us = |value: &Value| value.as_str().is_some_and(|name| audiences.contains(&name));
        let meant = match self.claims.get("aud") {
            Some(Value::Array(several)) => several.iter().any(names_us),
            Some(one) => names_us(one),
            None => false,
        };
        if !meant {
            return Err(AssertionRefusal::WrongAudience);
        }
        let expires = self.time("exp")?.ok_or(AssertionRefusal::MissingClaim)?;
        if expires <= now - CLOCK_SKEW {
            return Err(AssertionRefusal::Expired);
        }
        if expires > now + LONGEST_LIFE + CLOCK_SKEW {
            return Err(AssertionRefusal::LivesTooLong);
        }
        // Before this moment it lived too long. Each time it says can only make that later.
        let mut from = expires - LONGEST_LIFE - CLOCK_SKEW;
        for name in ["nbf", "iat"] {
            let Some(begins) = self.time(name)?.map(|time| time - CLOCK_SKEW) else { continue };
            if begins > now {
                return Err(AssertionRefusal::NotYetValid);
            }
            from = from.max(begins);
        }
        let jti = text("jti").filter(|jti| !jti.is_empty() && jti.len() <= LONGEST_JTI).ok_or(AssertionRefusal::MissingClaim)?;
        // No client_id holds NUL, so no two pairs are one text.
        let id = Digest::of(format!("{client_id}\0{jti}").as_bytes()).encode();
        Ok(OneUse { id, until: expires + CLOCK_SKEW + CLOCK_MARGIN, from })
    }

    /// A NumericDate (RFC 7519 section 2), which may have a fraction.
    fn time(&self, name: &str) -> Result<Option<i64>, AssertionRefusal> {
        let Some(value) = self.claims.get(name) else { return Ok(None) };
        let number = value.as_i64().or_else(|| value.as_f64().map(|number| number.floor() as i64));
        number.map(|seconds| Some(seconds.clamp(0, i64::MAX / 2))).ok_or(AssertionRefusal::MissingClaim)
    }
}
