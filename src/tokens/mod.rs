//! Access and refresh tokens, the keys behind them, and what has been revoked. There is no table of tokens: a token carries its
//! own claims, sealed ([`seal`]) or signed ([`jwt`]), and a revocation is a row with a number ([`revocation`]).
//!
//! [`kek`] seals the keys at rest, [`keyring`] holds them in memory, [`lifecycle`] makes, retires and removes them.

pub mod access;
pub mod claims;
#[cfg(test)]
mod fuzz;
pub mod jwks;
pub mod jwt;
pub mod kek;
pub mod keyring;
pub mod lifecycle;
pub mod refresh;
pub mod revocation;
pub mod seal;

pub use claims::AccessClaims;
pub use keyring::{Keyring, Keys};
pub use revocation::Revocations;

use crate::oauth2::{ErrorCode, OAuth2Error};

/// Seconds that a JWKS may be cached (RFC 7517), and so the least time that a key is published before it signs.
pub const JWKS_MAX_AGE: i64 = 3600;

/// Seconds added to every "until when does this matter", for clocks that disagree.
pub const CLOCK_MARGIN: i64 = 120;

/// What can go wrong with keys and tokens on our side. Never a property of the token presented.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the key-encryption key: {0}")]
    Kek(String),
    #[error("key {kid}: {reason}")]
    Key { kid: String, reason: String },
    #[error("no key can {0} now; see countersign keys list")]
    NoKey(&'static str),
    #[error("the token would have {0} bytes, more than {max}", max = access::MAX_TOKEN_BYTES)]
    TooLarge(usize),
    #[error(transparent)]
    Storage(#[from] crate::storage::StorageError),
}

impl From<TokenError> for OAuth2Error {
    fn from(error: TokenError) -> OAuth2Error {
        match error {
            TokenError::Storage(error) => error.into(),
            TokenError::TooLarge(_) => OAuth2Error::invalid_request(
                "the access token would be too large: ask for fewer scopes or audiences, or have the mapping give fewer roles",
            )
            .because(error),
            _ => OAuth2Error::new(ErrorCode::ServerError, "the request could not be completed").because(error),
        }
    }
}
