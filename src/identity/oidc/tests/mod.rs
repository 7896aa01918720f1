//! Verification against keys in memory, at a time that stands still. `checks` has one test for each refusal, `forgeries` the
//! tokens that nobody may have signed.

mod checks;
mod forgeries;

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::keys::KeySet;
use super::*;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://org.okta.test/oauth2/default";

/// An RSA key of our own: real providers refuse to sign what these tests need.
fn rsa() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).unwrap())
}

fn rsa_jwk(kid: Option<&str>) -> Value {
    let parts: PublicKeyComponents<Vec<u8>> = rsa().public_key().into();
    let mut jwk = json!({"kty": "RSA", "use": "sig", "n": URL_SAFE_NO_PAD.encode(parts.n), "e": URL_SAFE_NO_PAD.encode(parts.e)});
    if let Some(kid) = kid {
        jwk["kid"] = kid.into();
    }
    jwk
}

fn key_set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

fn encode(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

/// RS256, whatever the header says.
fn sign_text(header: &str, claims: &str) -> String {
    let signed = encode(header, claims);
    let mut signature = vec![0; rsa().public_modulus_len()];
    rsa().sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn header() -> Value {
    json!({"alg": "RS256", "kid": "k1"})
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "00u1", "aud": "app", "exp": NOW + 3_600, "iat": NOW - 5, "jti": "ID.1", "auth_time": NOW - 30,
        "preferred_username": "alice", "email": "alice@example.test", "email_verified": true, "name": "Alice", "sid": "s1",
        "amr": ["pwd", "mfa"], "acr": "urn:2fa", "groups": ["Everyone", "eng"],
    })
}

/// `base` with the members of `changes`; null removes one.
fn with(mut base: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => base.as_object_mut().unwrap().remove(name),
            value => base.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    base
}

fn sign(changes: Value) -> String {
    sign_text(&header().to_string(), &with(claims(), changes).to_string())
}

fn source(change: impl Fn(&mut OidcSource)) -> Oidc {
    let mut config = OidcSource { issuer: ISSUER.into(), client_id: "app".into(), ..OidcSource::default() };
    change(&mut config);
    Oidc::new("okta".into(), &config, Clock::manual(NOW).0).unwrap()
}

/// All of [`Oidc::verify`] but the fetching of keys.
fn judge_with(oidc: &Oidc, keys: &KeySet, text: &str) -> Result<Identity, TokenRefusal> {
    let token = UnverifiedIdToken::parse(text)?;
    let believed = oidc.key_id(&token).and_then(|(algorithm, kid)| oidc.believe(&token, keys.verify(&token, algorithm, kid)));
    let judged = believed.and_then(|(times, subject)| match groups::settle(&oidc.settings, token.claims()) {
        Ok(()) => Ok(oidc.identity(&token, token.claims(), times, &subject)),
        Err((reason, detail)) => Err(refusal(reason, detail)),
    });
    judged.map_err(|refusal| match refusal.reason {
        RefusalReason::Token(reason) if refusal.detail.starts_with(reason.as_str()) => reason,
        other => panic!("{other:?}: {}", refusal.detail),
    })
}

fn judge(oidc: &Oidc, text: &str) -> Result<Identity, TokenRefusal> {
    judge_with(oidc, &key_set(&[rsa_jwk(Some("k1"))]), text)
}

fn refused(oidc: &Oidc, changes: Value) -> TokenRefusal {
    let shown = changes.to_string();
    judge(oidc, &sign(changes)).map(|identity| identity.subject).expect_err(&shown)
}
