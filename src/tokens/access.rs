//! Access tokens in either form: minted here, opened here.

use super::TokenError;
use super::claims::AccessClaims;
use super::jwt::UnverifiedJwt;
use super::keyring::Keyring;
use super::seal::{Purpose, Sealed};
use crate::config::{SigningAlgorithm, TokenFormat};
use crate::oauth2::Secret;

/// A token past this is not issued: headers of proxies are limited.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// How a client wants its access tokens.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub format: TokenFormat,
    pub algorithm: SigningAlgorithm,
}

/// Seals or signs `claims`.
///
/// Errors: no key in use, or a token of more than [`MAX_TOKEN_BYTES`].
pub fn mint(ring: &Keyring, form: Form, claims: &AccessClaims, now: i64) -> Result<Secret, TokenError> {
    let mut plain = Vec::with_capacity(512);
    serde_json::to_writer(&mut plain, claims).map_err(|_| TokenError::NoKey("encode"))?;
    let token = match form.format {
        TokenFormat::Opaque => ring.sealing_key(now)?.seal(Purpose::Access, &plain)?,
        TokenFormat::Jwt => ring.signing_key(form.algorithm, now)?.sign_access_token(&plain)?,
    };
    match token.expose().len() {
        length if length > MAX_TOKEN_BYTES => Err(TokenError::TooLarge(length)),
        _ => Ok(token),
    }
}

/// What became of a token that was presented.
#[derive(Debug)]
pub enum Opened {
    /// Ours and unchanged. Whether it has expired or was revoked is asked elsewhere.
    Claims(Box<AccessClaims>),
    /// Not ours, changed, of another purpose.
    Foreign,
    /// It names a key that this node does not know (yet).
    UnknownKey,
}

/// Opens a token of either form.
pub fn open(ring: &Keyring, issuer: &str, token: &str) -> Opened {
    if token.len() > MAX_TOKEN_BYTES {
        return Opened::Foreign;
    }
    let plain = if let Some(mut sealed) = Sealed::parse(Purpose::Access, token) {
        match ring.opening_key(sealed.key_id()) {
            None => return Opened::UnknownKey,
            Some(key) => key.open(Purpose::Access, &mut sealed),
        }
    } else if let Some(jwt) = UnverifiedJwt::parse(token) {
        match ring.verifying_key(jwt.kid()) {
            None => return Opened::UnknownKey,
            Some(key) => jwt.verify(key),
        }
    } else {
        None
    };
    let claims = plain.and_then(|plain| serde_json::from_slice::<AccessClaims>(&plain).ok());
    match claims {
        Some(claims) if claims.iss.as_deref().is_none_or(|iss| iss == issuer) => Opened::Claims(Box::new(claims)),
        _ => Opened::Foreign,
    }
}
