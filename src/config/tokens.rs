use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::TokenFormat;

/// `[tokens]`: formats and lifetimes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// `opaque` (sealed, for introspection) or `jwt` (RFC 9068, for local validation); a client may say otherwise.
    pub format: TokenFormat,
    /// Life of an access token.
    #[serde(deserialize_with = "super::duration::deserialize")]
    pub access_lifetime: Duration,
    /// Life of a refresh token family, counted from the sign-in. Absolute.
    #[serde(deserialize_with = "super::duration::deserialize")]
    pub refresh_lifetime: Duration,
    /// A family that is not used for so long ends. Slides with each use.
    #[serde(deserialize_with = "super::duration::deserialize")]
    pub refresh_idle: Duration,
    /// For so long after a rotation the refresh token before it still answers with the current one, so that callers who race
    /// all end with a working token.
    #[serde(deserialize_with = "super::duration::deserialize")]
    pub refresh_grace: Duration,
    /// The algorithm of JWT access tokens: `ES256`, `RS256` or `EdDSA`; a client may say otherwise.
    pub signing_algorithm: SigningAlgorithm,
    /// A node that could not follow the revocation feed for longer answers 503.
    #[serde(deserialize_with = "super::duration::deserialize")]
    pub max_staleness: Duration,
}

impl Default for Tokens {
    fn default() -> Self {
        Tokens {
            format: TokenFormat::Opaque,
            access_lifetime: Duration::from_secs(15 * 60),
            refresh_lifetime: Duration::from_secs(30 * 86_400),
            refresh_idle: Duration::from_secs(7 * 86_400),
            refresh_grace: Duration::from_secs(30),
            signing_algorithm: SigningAlgorithm::Es256,
            max_staleness: Duration::from_secs(5),
        }
    }
}

/// JWS algorithms of RFC 7518 section 3.1 and RFC 8037 that we sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl SigningAlgorithm {
    pub const ALL: [SigningAlgorithm; 3] = [SigningAlgorithm::Es256, SigningAlgorithm::Rs256, SigningAlgorithm::EdDsa];

    /// The `alg` of RFC 7515 section 4.1.1.
    pub fn as_str(self) -> &'static str {
        match self {
            SigningAlgorithm::Es256 => "ES256",
            SigningAlgorithm::Rs256 => "RS256",
            SigningAlgorithm::EdDsa => "EdDSA",
        }
    }
}
