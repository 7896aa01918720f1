//! An id token as it came in, before anything in it can be believed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::claims::is_name;
use super::json;
use crate::identity::TokenRefusal;
use crate::oauth2::Secret;
use crate::oauth2::secret::Digest;

/// Largest id token, in bytes.
const SIZE_LIMIT: usize = 16 * 1024;

/// A JWS in compact form (RFC 7515 section 7.1) whose header and payload are JSON objects. Nothing else about it is known:
/// the signature has not been looked at. Debug shows nothing of it.
pub struct UnverifiedIdToken {
    text: Secret,
    /// Where the signature begins in `text`.
    signature_at: usize,
    header: Map<String, Value>,
    /// An object.
    claims: Value,
    issuer: String,
}

impl UnverifiedIdToken {
    /// Takes the text apart. `Malformed`: over 16 KiB, not three parts, not strict base64url (no padding, no stray trailing
    /// bits), not JSON objects, a member twice, or no `iss`.
    pub fn parse(text: &str) -> Result<UnverifiedIdToken, TokenRefusal> {
        UnverifiedIdToken::take_apart(text).ok_or(TokenRefusal::Malformed)
    }

    fn take_apart(text: &str) -> Option<UnverifiedIdToken> {
        if text.len() > SIZE_LIMIT {
            return None;
        }
        let mut parts = text.split('.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let (header, claims) = (json::object(&decode(header)?)?, json::object(&decode(payload)?)?);
        // Decoded here for its form only: the verifier decodes it again.
        decode(signature)?;
        let issuer = claims.get("iss")?.as_str()?.to_owned();
        Some(UnverifiedIdToken {
            signature_at: text.len() - signature.len(),
            text: Secret::new(text),
            header,
            claims: Value::Object(claims),
            issuer,
        })
    }

    /// `iss`, only for choosing the source that is to verify the token.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `sub`, only for telling whose tries a refusal counts against.
    pub fn subject(&self) -> &str {
        self.claims.get("sub").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> Option<&Value> {
        self.header.get(name)
    }

    /// The claims; to be believed after the signature was verified.
    pub(super) fn claims(&self) -> &Value {
        &self.claims
    }

    /// `header.payload`, which is what is signed.
    pub(super) fn signed(&self) -> &str {
        self.text.expose().get(..self.signature_at.saturating_sub(1)).unwrap_or_default()
    }

    pub(super) fn signature(&self) -> &str {
        self.text.expose().get(self.signature_at..).unwrap_or_default()
    }

    /// What makes the token single-use: its `jti`, else a digest, also of one that a database does not take as it is (PostgreSQL
    /// refuses NUL). The digest leaves the signature out, since an ECDSA signature can be changed and stay valid. The prefixes keep
    /// the two from meeting.
    pub(super) fn id(&self) -> String {
        match self.claims.get("jti").and_then(Value::as_str).filter(|jti| is_name(jti)) {
            Some(jti) => format!("jti:{jti}"),
            None => format!("dg:{}", Digest::of(self.signed().as_bytes()).encode()),
        }
    }
}

impl fmt::Debug for UnverifiedIdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnverifiedIdToken(…)")
    }
}

/// RFC 7515 section 2: no padding, no white space, no other text that decodes to the same bytes.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn the_parts_of_a_token() {
        let text = token(r#"{"alg":"RS256"}"#, r#"{"iss":"https://a","jti":"1"}"#);
        let parsed = UnverifiedIdToken::parse(&text).unwrap();
        assert_eq!(parsed.issuer(), "https://a");
        assert_eq!(format!("{}.{}", parsed.signed(), parsed.signature()), text);
        assert_eq!(parsed.id(), "jti:1");
        assert_eq!(format!("{parsed:?}"), "UnverifiedIdToken(…)");
    }

    #[test]
    fn what_is_not_a_token_is_malformed() {
        let good = token(r#"{"alg":"RS256"}"#, r#"{"iss":"https://a"}"#);
        assert!(UnverifiedIdToken::parse(&good).unwrap().id().starts_with("dg:"));
        let bad = [
            String::new(),
            "..".to_owned(),
            "a.b".to_owned(),
            format!("{good}.AAAA"),
            format!("{good}="),
            format!(" {good}"),
            // The last character of the signature holds bits that are not part of it.
            format!("{}AAB", good.strip_suffix("AAAA").unwrap()),
            token("[]", r#"{"iss":"https://a"}"#),
            token(r#"{"alg":"RS256"}"#, "{}"),
            token(r#"{"alg":"RS256"}"#, r#"{"iss":["https://a"]}"#),
            token(r#"{"alg":"none","alg":"RS256"}"#, r#"{"iss":"https://a"}"#),
            token(r#"{"alg":"RS256"}"#, r#"{"iss":"https://a","sub":"a","sub":"b"}"#),
            token(r#"{"alg":"RS256"}"#, &format!(r#"{{"iss":"https://a","x":"{}"}}"#, "x".repeat(SIZE_LIMIT))),
        ];
        for text in bad {
            assert_eq!(UnverifiedIdToken::parse(&text).unwrap_err(), TokenRefusal::Malformed, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", header in ".*", payload in ".*") {
            let _ = UnverifiedIdToken::parse(&text);
            let _ = UnverifiedIdToken::parse(&token(&header, &payload));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = UnverifiedIdToken::parse(&String::from_utf8_lossy(&bytes));
            let _ = UnverifiedIdToken::parse(&format!("{0}.{0}.{0}", URL_SAFE_NO_PAD.encode(&bytes)));
        }
    }

    #[test]
    fn fuzz_id_tokens() {
        let whole = token(r#"{"alg":"RS256","kid":"k"}"#, r#"{"iss":"https://a","sub":"s","aud":["x"],"exp":1,"groups":["a"]}"#);
        let header = r#"{"alg":"RS256","kid":"k","crit":["b64"],"b64":false}"#;
        let payload = r#"{"iss":"https://a","iss":"\u0000","aud":{"a":[1e400]},"jti":"j"}"#;
        crate::fuzz::survives(crate::fuzz::hostile_text(&[&whole, header, payload]), |text| {
            for text in [text.clone(), token(header, &text), token(&text, payload)] {
                if let Ok(parsed) = UnverifiedIdToken::parse(&text) {
                    prop_assert_eq!(format!("{}.{}", parsed.signed(), parsed.signature()), text);
                    prop_assert!(!parsed.id().is_empty());
                }
            }
            Ok(())
        });
    }
}
