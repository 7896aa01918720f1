//! Client authentication, RFC 6749 section 2.3: HTTP Basic, form parameters, a signed [`assertion`](super::assertion), or none for
//! public clients. Two at once are an error. (client_secret_jwt is refused on purpose: it would need secrets that can be read back.)

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::assertion::{self, UnverifiedAssertion};
use super::{Client, Registry};
use crate::config::AuthMethod;
use crate::oauth2::{Form, OAuth2Error, Secret, form};

/// What a client presented, not verified.
#[derive(Debug)]
pub struct Credentials {
    /// As it says itself; of an assertion, its `sub`.
    pub client_id: String,
    proof: Proof,
}

#[derive(Debug)]
enum Proof {
    None,
    Secret(Secret, AuthMethod),
    Assertion(Box<UnverifiedAssertion>),
}

impl Credentials {
    /// Reads the Authorization header and the form.
    ///
    /// Errors: `invalid_client` for a broken header or no client at all, `invalid_request` for two methods at once.
    pub fn read(authorization: Option<&[u8]>, form: &Form) -> Result<Credentials, OAuth2Error> {
        let asserted = form.get("client_assertion").is_some() || form.get("client_assertion_type").is_some();
        let Some(header) = authorization else {
            if asserted {
                return Credentials::asserted(form);
            }
            let client_id = form.get("client_id").ok_or_else(OAuth2Error::invalid_client)?.to_owned();
            let proof = form.get("client_secret").map(|secret| Proof::Secret(Secret::new(secret), AuthMethod::ClientSecretPost));
            return Ok(Credentials { client_id, proof: proof.unwrap_or(Proof::None) });
        };
        let (user, password) = basic(header).ok_or_else(OAuth2Error::invalid_client)?;
        if form.get("client_secret").is_some() || asserted {
            return Err(two_methods());
        }
        let decode = |half: &Secret| form::decode(half.expose().as_bytes()).map_err(|_| OAuth2Error::invalid_client());
        let client_id = decode(&user)?;
        if form.get("client_id").is_some_and(|id| id != client_id) {
            return Err(OAuth2Error::invalid_request("client_id differs from the one in the Authorization header"));
        }
        Ok(Credentials { client_id, proof: Proof::Secret(Secret::new(decode(&password)?), AuthMethod::ClientSecretBasic) })
    }

    /// RFC 7521 section 4.2.
    fn asserted(form: &Form) -> Result<Credentials, OAuth2Error> {
        if form.get("client_secret").is_some() {
            return Err(two_methods());
        }
        let (kind, text) = (form.require("client_assertion_type")?, form.require("client_assertion")?);
        let parsed = UnverifiedAssertion::parse(text, form.get("client_id")).filter(|_| kind == assertion::TYPE);
        let assertion = parsed.ok_or_else(OAuth2Error::invalid_client)?;
        Ok(Credentials { client_id: assertion.subject().to_owned(), proof: Proof::Assertion(Box::new(assertion)) })
    }

    /// The assertion, where the client sent one: it takes more than a look into memory to verify.
    pub fn assertion(&self) -> Option<&UnverifiedAssertion> {
        match &self.proof {
            Proof::Assertion(assertion) => Some(assertion),
            Proof::None | Proof::Secret(..) => None,
        }
    }

    /// Whether HTTP Basic was tried: the answer then asks for it (RFC 6749 section 5.2).
    pub fn tried_basic(authorization: Option<&[u8]>) -> bool {
        authorization.is_some_and(|header| header.split(|b| *b == b' ').next().is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic")))
    }
}

fn two_methods() -> OAuth2Error {
    OAuth2Error::invalid_request("the client used two methods of authentication at once")
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
/// None: unknown, disabled, wrong secret, a method it may not use, or an assertion, which proves nothing here. The caller lets the node catch up with the feed once
/// before it answers 401, since the client may be new.
pub fn authenticate(registry: &Registry, presented: &Credentials, now: i64) -> Option<Arc<Client>> {
    let client = registry.find(&presented.client_id).filter(|client| !client.disabled)?;
    let (secret, method) = match &presented.proof {
        Proof::Assertion(_) => return None,
        Proof::None => (None, AuthMethod::None),
        Proof::Secret(secret, method) => (Some(secret), *method),
    };
    if client.settings.auth_method.is_some_and(|only| only != method) {
        return None;
    }
    match secret {
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
        let Proof::Secret(secret, AuthMethod::ClientSecretBasic) = read.proof else { panic!("{read:?}") };
        assert_eq!((read.client_id.as_str(), secret.expose()), ("a:b", "c d%"));
    }

    #[test]
    fn two_methods_are_an_error_and_broken_basic_is_invalid_client() {
        assert_eq!(read(Some(&header("a:b")), "client_id=a&client_secret=b").unwrap_err(), "invalid_request");
        assert_eq!(read(Some(&header("a:b")), "client_id=other").unwrap_err(), "invalid_request");
        assert!(read(Some(&header("a:b")), "client_id=a").is_ok());
        for second in ["client_assertion=x", "client_assertion_type=x"] {
            assert_eq!(read(Some(&header("a:b")), second).unwrap_err(), "invalid_request");
            assert_eq!(read(None, &format!("client_id=a&client_secret=b&{second}")).unwrap_err(), "invalid_request");
        }
        for broken in ["Basic", "Basic !!!", "Bearer x", &header("nocolon"), &header("a%zz:b")] {
            assert_eq!(read(Some(broken), "").unwrap_err(), "invalid_client", "{broken}");
        }
        assert_eq!(read(None, "").unwrap_err(), "invalid_client");
    }

    #[test]
    fn an_assertion_has_its_type_and_names_its_client() {
        // {"alg":"ES256"} {"sub":"a"}
        let assertion = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA";
        let kind = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
        let good = read(None, &format!("{kind}&client_assertion={assertion}&client_id=b")).unwrap();
        assert_eq!((good.client_id.as_str(), good.assertion().is_some()), ("a", true));
        for (body, error) in [
            (kind.to_owned(), "invalid_request"),
            (format!("client_assertion={assertion}"), "invalid_request"),
            (format!("client_assertion_type=jwt&client_assertion={assertion}"), "invalid_client"),
            (format!("{}2-bearer&client_assertion={assertion}", kind.trim_end_matches("-bearer")), "invalid_client"),
            (format!("{kind}&client_assertion={assertion}.AAAA"), "invalid_client"),
            (format!("{kind}&client_assertion=a"), "invalid_client"),
        ] {
            assert_eq!(read(None, &body).unwrap_err(), error, "{body}");
        }
    }
}
