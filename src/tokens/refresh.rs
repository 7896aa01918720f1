//! Refresh tokens: a family and a generation, sealed. The row of the family holds the current generation.

use serde::{Deserialize, Serialize};

use super::TokenError;
use super::keyring::Keyring;
use super::seal::{Purpose, Sealed};
use crate::oauth2::{ClientId, FamilyId, Secret};

/// What a refresh token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefreshClaims {
    pub family: FamilyId,
    pub generation: i64,
    pub client_id: ClientId,
    /// End of the family, in seconds. The row knows better; this spares the look-up for what is long dead.
    pub exp: i64,
}

pub fn mint(ring: &Keyring, claims: &RefreshClaims, now: i64) -> Result<Secret, TokenError> {
    let plain = serde_json::to_vec(claims).map_err(|_| TokenError::NoKey("encode"))?;
    ring.sealing_key(now)?.seal(Purpose::Refresh, &plain)
}

/// What became of a refresh token that was presented.
#[derive(Debug)]
pub enum Opened {
    Claims(RefreshClaims),
    Foreign,
    UnknownKey,
}

pub fn open(ring: &Keyring, token: &str) -> Opened {
    if token.len() > super::access::MAX_TOKEN_BYTES {
        return Opened::Foreign;
    }
    let Some(mut sealed) = Sealed::parse(Purpose::Refresh, token) else { return Opened::Foreign };
    let Some(key) = ring.opening_key(sealed.key_id()) else { return Opened::UnknownKey };
    let claims = key.open(Purpose::Refresh, &mut sealed).and_then(|plain| serde_json::from_slice(&plain).ok());
    claims.map_or(Opened::Foreign, Opened::Claims)
}
