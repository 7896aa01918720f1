//! A client's keys as it registers them: public ones only, each of which one of the algorithms can use. A mistake is told then, and
//! not when the first assertion fails.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::ALGORITHMS;
use crate::config::{self, Problem};
use crate::identity::oidc::keys::KeySet;
use crate::outbound::ForeignUrl;

/// More keys than any client needs; each is tried for an assertion that names none.
const MOST_KEYS: usize = 32;
/// Members of a JWK that hold what only the client may know (RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// What is wrong with the keys of a client, with paths relative to it. `allow` is `[outbound] allow`.
pub fn check(client: &config::Client, allow: &[String]) -> Vec<Problem> {
    let keys = client.jwks.as_ref().and_then(|jwks| whole_set(jwks).err()).map(|reason| Problem::new("jwks", reason));
    let uri = client.jwks_uri.as_deref().and_then(|uri| ForeignUrl::parse(uri, allow).err()).map(|reason| Problem::new("jwks_uri", reason));
    keys.into_iter().chain(uri).collect()
}

fn whole_set(jwks: &Value) -> Result<(), String> {
    let keys = jwks.get("keys").and_then(Value::as_array).ok_or("has no list \"keys\"; write a JWK set such as {\"keys\": [\u{2026}]}")?;
    if keys.is_empty() || keys.len() > MOST_KEYS {
        return Err(format!("has {} keys; write 1 to {MOST_KEYS}", keys.len()));
    }
    let mut kids = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        usable(key).map_err(|reason| format!("keys[{i}] {reason}"))?;
        let kid = key.get("kid").and_then(Value::as_str);
        if kid.is_none() && keys.len() > 1 {
            return Err(format!("keys[{i}] has no kid; with several keys each needs one, so that an assertion can say which it means"));
        }
        if kids.contains(&kid) {
            return Err(format!("keys[{i}] has the kid {} of another key; give each its own", kid.unwrap_or_default()));
        }
        kids.push(kid);
    }
    Ok(())
}

fn usable(key: &Value) -> Result<(), String> {
    if !key.is_object() {
        return Err("is no JWK; write an object with kty".to_owned());
    }
    refuse_private(key)?;
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let octets = |name: &str| {
        let value = text(name).ok_or_else(|| format!("has no {name}"))?;
        URL_SAFE_NO_PAD.decode(value).map_err(|_| format!("has an {name} that is not base64url without padding"))
    };
    if key.get("use").is_some_and(|purpose| purpose != "sig") {
        return Err("is not for signatures (use); register the key that the client signs with".to_owned());
    }
    if key.get("kid").is_some_and(|kid| kid.as_str().is_none_or(str::is_empty)) {
        return Err("has a kid that is no text".to_owned());
    }
    let fitting: &[&str] = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => {
            let bits = octets("n")?.iter().skip_while(|byte| **byte == 0).count() * 8;
            octets("e")?;
            if bits < 2048 {
                return Err(format!("is an RSA key of {bits} bits; take one of 2048 or more"));
            }
            &["PS256", "RS256"]
        }
        (Some("EC"), Some("P-256")) => {
            let point = [&[4][..], &octets("x")?, &octets("y")?].concat();
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| "is no point of P-256; copy x and y again")?;
            &["ES256"]
        }
        (Some("OKP"), Some("Ed25519")) => {
            ParsedPublicKey::new(&ED25519, octets("x")?).map_err(|_| "is no key of Ed25519; copy x again")?;
            &["EdDSA"]
        }
        (kty, crv) => {
            let found = format!("{} {}", kty.unwrap_or("no kty"), crv.unwrap_or_default());
            return Err(format!("is of a kind that is not accepted ({}); take RSA, EC with P-256, or OKP with Ed25519", found.trim()));
        }
    };
    match text("alg") {
        Some(alg) if !fitting.contains(&alg) => {
            let all = ALGORITHMS.map(|(name, _)| name).join(", ");
            Err(format!("says alg {alg}, which is not one of its own that are accepted ({}; of all: {all})", fitting.join(", ")))
        }
        _ => Ok(()),
    }
}

fn refuse_private(key: &Value) -> Result<(), String> {
    match PRIVATE.iter().find(|member| key.get(**member).is_some()) {
        Some(member) => Err(format!(
            "holds {member}, a part of the private key, which is known to others now: make a new key pair, and give only its public half"
        )),
        None => Ok(()),
    }
}

/// Reads a key set that a client published. Keys that are not understood are passed over; one with its private half spoils the
/// set, since anybody could sign with it, and so do too many keys and two of one kid, each of which would have to be tried.
pub fn parse(document: &[u8]) -> Result<KeySet, String> {
    if let Ok(document) = serde_json::from_slice::<Value>(document) {
        let keys = document.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if keys.len() > MOST_KEYS {
            return Err(format!("has {} keys; publish {MOST_KEYS} at most", keys.len()));
        }
        let mut kids = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            refuse_private(key).map_err(|reason| format!("keys[{i}] {reason}"))?;
            let kid = key.get("kid").and_then(Value::as_str);
            if kid.is_some() && kids.contains(&kid) {
                return Err(format!("keys[{i}] has the kid of another key; give each its own"));
            }
            kids.push(kid);
        }
    }
    KeySet::parse(document)
}
