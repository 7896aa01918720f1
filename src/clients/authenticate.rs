//! Client authentication, RFC 6749 section 2.3: HTTP Basic, form parameters, or none for public clients. Two at once are an
//! error. (client_secret_jwt is refused on purpose: it would need secrets that can be read back.)

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Client, Registry};
use crate::config::AuthMethod;
use crate::oauth2::{Form, OAuth2Error, Secret, form};

/// What a client presented, not verified.
#[derive(Debug)]
pub struct Credentials {
    pub client_id: String,
    secret: Option<Secret>,
    method: AuthMethod,
}

impl Credentials {
    /// Reads the Authorization header and the form.
    ///
    /// Errors: `invalid_client` for a broken header or no client at all, `invalid_request` for two methods at once.
    pub fn read(authorization: Option<&[u8]>, form: &Form) -> Result<Credentials, OAuth2Error> {
        let Some(header) = authorization else {
            let client_id = form.get("client_id").ok_or_else(OAuth2Error::invalid_client)?.to_owned();
            let secret = form.get("client_secret").map(Secret::new);
            let method = if secret.is_some() { AuthMethod::ClientSecretPost } else { AuthMethod::None };
            return Ok(Credentials { client_id, secret, method });
        };
        let (user, password) = basic(header).ok_or_else(OAuth2Error::invalid_client)?;
        if form.get("client_secret").is_some() || form.get("client_assertion").is_some() {
            return Err(OAuth2Error::invalid_request("the client used two methods of authentication at once"));
        }
        let decode = |half: &Secret| form::decode(half.expose().as_bytes()).map_err(|_| OAuth2Error::invalid_client());
        let client_id = decode(&user)?;
        if form.get("client_id").is_some_and(|id| id != client_id) {
            return Err(OAuth2Error::invalid_request("client_id differs from the one in the Authorization header"));
        }
        Ok(Credentials { client_id, secret: Some(Secret::new(decode(&password)?)), method: AuthMethod::ClientSecretBasic })
    }

    /// Whether HTTP Basic was tried: the answer then asks for it (RFC 6749 section 5.2).
    pub fn tried_basic(authorization: Option<&[u8]>) -> bool {
        authorization.is_some_and(|header| header.split(|b| *b == b' ').next().is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic")))
    }
}

/// User and password of an HTTP Basic header (RFC 7617), as they stand there. None if it is not well-formed.
pub fn basic(header: &[u8]) -> Option<(Secret, Secret)> {
    let (scheme, encoded) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = zeroize::Zeroizing::new(STANDARD.decode(encoded.trim_ascii()).ok()?);
    let text = std::str::from_utf8(&decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    (!text.contains('\0')).then(|| (Secret::new(user), Secret::new(password)))
}

/// The client that `presented` proves to be.
///
/// None: unknown, disabled, wrong secret, or a method it may not use. The caller lets the node catch up with the feed once
/// before it answers 401, since the client may be new.
pub fn authenticate(registry: &Registry, presented: &Credentials, now: i64) -> Option<Arc<Client>> {
    let client = registry.find(&presented.client_id).filter(|client| !client.disabled)?;
    if client.settings.auth_method.is_some_and(|only| only != presented.method) {
        return None;
    }
    match &presented.secret {
        None => client.settings.public.then_some(client),
        Some(secret) if !client.settings.public => {
            client.secret_matching(secret, now)?.touch(now);
            Some(client)
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: Option<&str>, body: &str) -> Result<Credentials, &'static str> {
        let form = Form::parse(body.as_bytes()).unwrap();
        Credentials::read(header.map(str::as_bytes), &form).map_err(|e| e.code.as_str())
    }

    fn header(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn basic_is_form_decoded() {
        let read = read(Some(&header("a%3Ab:c+d%25")), "").unwrap();
        assert_eq!((read.client_id.as_str(), read.secret.unwrap().expose()), ("a:b", "c d%"));
    }

    #[test]
    fn two_methods_are_an_error_and_broken_basic_is_invalid_client() {
        assert_eq!(read(Some(&header("a:b")), "client_id=a&client_secret=b").unwrap_err(), "invalid_request");
        assert_eq!(read(Some(&header("a:b")), "client_id=other").unwrap_err(), "invalid_request");
        assert!(read(Some(&header("a:b")), "client_id=a").is_ok());
        for broken in ["Basic", "Basic !!!", "Bearer x", &header("nocolon"), &header("a%zz:b")] {
            assert_eq!(read(Some(broken), "").unwrap_err(), "invalid_client", "{broken}");
        }
        assert_eq!(read(None, "").unwrap_err(), "invalid_client");
    }
}
