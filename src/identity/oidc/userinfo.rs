//! What a thin id token leaves out: the userinfo endpoint, asked with the access token that came along (OpenID Connect Core 1.0
//! section 5.3). Its answer counts only for the same `sub`, fills only what is absent, and is never who somebody is.

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::claims::{Refused, refuse};
use super::json;
use super::settings::{Pointer, Settings};
use super::token::UnverifiedIdToken;
use crate::identity::TokenRefusal;
use crate::oauth2::Secret;
use crate::outbound::Fetched;

/// Largest access token that is sent on, in bytes.
const SIZE_LIMIT: usize = 16 * 1024;

/// Whether the access token was issued beside the id token, as far as that says so: `at_hash` (OpenID Connect Core 1.0 section
/// 3.1.3.6) is the left half of the token's digest, by the hash of the id token's `alg`.
pub fn belongs(token: &UnverifiedIdToken, algorithm: Algorithm, access_token: &Secret) -> Result<(), Refused> {
    let text = access_token.expose();
    // RFC 6750 section 2.1: what a header of this form may hold.
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if text.len() > SIZE_LIMIT || !text.bytes().all(allowed) {
        return refuse(TokenRefusal::AccessTokenRejected, "the access token is longer than 16 KiB, or no bearer token");
    }
    let claimed = match token.claims().get("at_hash") {
        None => return Ok(()),
        Some(claimed) => claimed.as_str().unwrap_or_default(),
    };
    let hash = match algorithm {
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &SHA384,
        // Ed25519 signs by SHA-512.
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => &SHA512,
        _ => &SHA256,
    };
    let digest = digest::digest(hash, text.as_bytes());
    let half = digest.as_ref().get(..digest.as_ref().len() / 2).unwrap_or_default();
    match URL_SAFE_NO_PAD.encode(half) == claimed {
        true => Ok(()),
        false => refuse(TokenRefusal::AccessTokenRejected, "the access token is not the one of at_hash"),
    }
}

/// The answer of the endpoint: its claims, a refusal, or in the outer error why nothing is known.
pub fn read(fetched: &Fetched) -> Result<Result<Map<String, Value>, Refused>, String> {
    match fetched.status {
        200 => Ok(Ok(json::object(&fetched.body).ok_or("the userinfo endpoint answered no JSON object")?)),
        // RFC 6750 section 3.1
        status @ (400 | 401 | 403) => {
            Ok(refuse(TokenRefusal::AccessTokenRejected, format!("the userinfo endpoint answered {status} to the access token")))
        }
        status => Err(format!("the userinfo endpoint answered {status}")),
    }
}

/// Adds what `claims` lack: the groups, the e-mail address with its verification, the name. Nothing else is taken over, `iss` and
/// `sub` least of all.
pub fn fill(settings: &Settings, claims: &mut Value, answer: Map<String, Value>) -> Result<(), Refused> {
    // Section 5.3.2: another sub means that the answer is about somebody else.
    let subject = claims.get("sub").cloned();
    if subject.is_none() || subject.as_ref() != answer.get("sub") {
        return refuse(TokenRefusal::SubjectRejected, "userinfo has another sub");
    }
    if let Some(members) = claims.as_object_mut()
        && members.get("email").is_none_or(Value::is_null)
        && let Some(email) = answer.get("email")
    {
        members.insert("email".to_owned(), email.clone());
        // Whether an address is verified is said by the document that has the address.
        members.insert("email_verified".to_owned(), answer.get("email_verified").cloned().unwrap_or(Value::Bool(false)));
    }
    let answer = Value::Object(answer);
    let name = settings.name.clone().unwrap_or_else(|| Pointer::member("name"));
    for pointer in [Some(&settings.groups), Some(&name), settings.email.as_ref()].into_iter().flatten() {
        if pointer.of(claims).is_none_or(Value::is_null)
            && let Some(found) = pointer.of(&answer)
        {
            pointer.put(claims, found.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn beside(at_hash: Value, algorithm: Algorithm, access_token: &str) -> bool {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}.AAAA", encode(json!({"alg": "RS256"})), encode(json!({"iss": "https://a.test", "at_hash": at_hash})));
        belongs(&UnverifiedIdToken::parse(&text).unwrap(), algorithm, &Secret::new(access_token)).is_ok()
    }

    #[test]
    fn the_hash_is_that_of_the_algorithm() {
        // The first pair is of OpenID Connect Core 1.0 appendix A.3.
        let token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        let of = [
            ("77QmUPtjPfzWtF2AnpK9RQ", [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256]),
            ("jtAeDp945y1dDqU3nkIVGNZP1HjH_MFs", [Algorithm::RS384, Algorithm::PS384, Algorithm::ES384]),
            ("q7nS86GgvvFaZkzALLWqJYaJIKw2wCDAVfCAsm5CrBM", [Algorithm::RS512, Algorithm::PS512, Algorithm::EdDSA]),
        ];
        for (hash, algorithms) in of {
            for algorithm in algorithms {
                assert!(beside(json!(hash), algorithm, token), "{algorithm:?}");
                assert!(!beside(json!(hash), algorithm, "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Z"), "{algorithm:?}");
            }
            assert_eq!(of.iter().filter(|(_, others)| beside(json!(hash), others[0], token)).count(), 1, "{hash}");
        }
        for odd in [json!(""), json!(null), json!(7), json!("77QmUPtjPfzWtF2AnpK9RQ==")] {
            assert!(!beside(odd, Algorithm::RS256, token));
        }
    }
}
