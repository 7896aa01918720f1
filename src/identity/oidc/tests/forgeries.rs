use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use proptest::prelude::*;

use super::*;

fn headed(changes: Value) -> String {
    sign_text(&with(header(), changes).to_string(), &claims().to_string())
}

#[test]
fn alg_not_allowed() {
    let oidc = source(|_| ());
    let bad = [
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({"alg": "rs256"}),
        json!({"alg": "RS512"}),
        json!({"alg": "HS256"}),
        json!({"alg": null}),
        json!({"alg": ["RS256"]}),
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
        json!({"jku": "https://evil.test/keys"}),
        json!({"x5u": "https://evil.test/chain"}),
    ];
    for changes in bad {
        let token = headed(changes.clone());
        assert_eq!(judge(&oidc, &token).unwrap_err(), TokenRefusal::AlgNotAllowed, "{changes}");
        assert!(oidc.check_header(&UnverifiedIdToken::parse(&token).unwrap()).is_err());
    }
    let unsigned = format!("{}.", encode(r#"{"alg":"none"}"#, &claims().to_string()));
    assert_eq!(judge(&oidc, &unsigned).unwrap_err(), TokenRefusal::AlgNotAllowed);
}

/// The public key as the secret of an HMAC (CVE-2015-9235).
#[test]
fn a_public_key_is_no_secret() {
    let signed = encode(r#"{"alg":"HS256","kid":"k1"}"#, &claims().to_string());
    for secret in [rsa_jwk(None)["n"].as_str().unwrap().as_bytes(), rsa().public_key().as_ref()] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()));
        assert_eq!(judge(&source(|_| ()), &token).unwrap_err(), TokenRefusal::AlgNotAllowed);
    }
}

#[test]
fn unknown_key() {
    let oidc = source(|config| config.algorithms = vec!["RS256".into(), "ES256".into()]);
    assert_eq!(judge(&oidc, &headed(json!({"kid": "k2"}))).unwrap_err(), TokenRefusal::UnknownKey);
    assert_eq!(judge(&oidc, &headed(json!({"alg": "ES256"}))).unwrap_err(), TokenRefusal::UnknownKey, "an RSA key");
    let token = sign(json!({}));
    let unfit = [
        json!({"use": "enc"}),
        json!({"use": 1}),
        json!({"key_ops": ["encrypt"]}),
        json!({"key_ops": "verify"}),
        json!({"alg": "RS512"}),
        json!({"alg": "RSA-OAEP"}),
        json!({"kty": "oct", "k": "AAAA"}),
        json!({"kty": "AKP"}),
        json!({"n": null}),
        json!({"kid": 1}),
    ];
    for changes in unfit {
        let keys = key_set(&[with(rsa_jwk(Some("k1")), changes.clone())]);
        assert_eq!(judge_with(&oidc, &keys, &token).unwrap_err(), TokenRefusal::UnknownKey, "{changes}");
    }
    for changes in [json!({"use": null}), json!({"key_ops": ["verify"]}), json!({"alg": "RS256"})] {
        judge_with(&oidc, &key_set(&[with(rsa_jwk(Some("k1")), changes)]), &token).unwrap();
    }
}

#[test]
fn a_token_without_kid_needs_the_only_key() {
    let (oidc, token) = (source(|_| ()), headed(json!({"kid": null})));
    judge_with(&oidc, &key_set(&[rsa_jwk(None)]), &token).unwrap();
    let (_, es256) = ecdsa();
    judge_with(&oidc, &key_set(&[rsa_jwk(Some("a")), es256]), &token).unwrap();
    let two = key_set(&[rsa_jwk(Some("a")), rsa_jwk(Some("b"))]);
    assert_eq!(judge_with(&oidc, &two, &token).unwrap_err(), TokenRefusal::UnknownKey);
    assert_eq!(judge(&oidc, &headed(json!({"kid": 7}))).unwrap_err(), TokenRefusal::Malformed);
}

#[test]
fn keys_may_share_a_kid() {
    let other = with(rsa_jwk(Some("k1")), json!({"n": URL_SAFE_NO_PAD.encode([0xc1; 256])}));
    judge_with(&source(|_| ()), &key_set(&[other.clone(), rsa_jwk(Some("k1"))]), &sign(json!({}))).unwrap();
    assert_eq!(judge_with(&source(|_| ()), &key_set(&[other]), &sign(json!({}))).unwrap_err(), TokenRefusal::BadSignature);
}

fn ecdsa() -> (EcdsaKeyPair, Value) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
    (pair, json!({"kty": "EC", "crv": "P-256", "kid": "e1", "x": x, "y": y}))
}

#[test]
fn elliptic_curves() {
    let oidc = source(|config| config.algorithms = vec!["ES256".into(), "EdDSA".into()]);
    let (pair, jwk) = ecdsa();
    let mut token = encode(r#"{"alg":"ES256","kid":"e1"}"#, &claims().to_string());
    let signature = pair.sign(&SystemRandom::new(), token.as_bytes()).unwrap();
    token = format!("{token}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
    judge_with(&oidc, &key_set(std::slice::from_ref(&jwk)), &token).unwrap();
    let off_curve = key_set(&[with(jwk, json!({"crv": "P-384"}))]);
    assert_eq!(judge_with(&oidc, &off_curve, &token).unwrap_err(), TokenRefusal::UnknownKey);

    let pair = Ed25519KeyPair::generate().unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "o1", "x": URL_SAFE_NO_PAD.encode(pair.public_key())});
    let signed = encode(r#"{"alg":"EdDSA","kid":"o1"}"#, &claims().to_string());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())));
    judge_with(&oidc, &key_set(&[jwk]), &token).unwrap();
}

/// The key that the token brings along is not looked at (CVE-2018-0114).
#[test]
fn a_key_in_the_header_is_ignored() {
    let token = headed(json!({"jwk": rsa_jwk(Some("k1"))}));
    let other = with(rsa_jwk(Some("k1")), json!({"n": URL_SAFE_NO_PAD.encode([0xc1; 256])}));
    assert_eq!(judge_with(&source(|_| ()), &key_set(&[other]), &token).unwrap_err(), TokenRefusal::BadSignature);
}

#[test]
fn bad_signature() {
    let oidc = source(|_| ());
    let (token, other) = (sign(json!({})), sign(json!({"sub": "00u2"})));
    let signed = token.rsplit_once('.').unwrap().0;
    for forged in [format!("{signed}."), format!("{signed}.AAAA"), format!("{signed}.{}", other.rsplit_once('.').unwrap().1)] {
        assert_eq!(judge(&oidc, &forged).unwrap_err(), TokenRefusal::BadSignature);
    }
}

/// Every single one, so that no encoding of the same token is accepted twice.
#[test]
fn no_bit_can_be_changed() {
    let (oidc, keys, token) = (source(|_| ()), key_set(&[rsa_jwk(Some("k1"))]), sign(json!({})));
    judge_with(&oidc, &keys, &token).unwrap();
    for at in 0..token.len() * 8 {
        let mut bytes = token.clone().into_bytes();
        bytes[at / 8] ^= 1 << (at % 8);
        if let Ok(text) = String::from_utf8(bytes) {
            judge_with(&oidc, &keys, &text).map(|_| at).unwrap_err();
        }
    }
}

#[test]
fn a_token_cut_short_is_refused() {
    let (oidc, keys, token) = (source(|_| ()), key_set(&[rsa_jwk(Some("k1"))]), sign(json!({})));
    for length in 0..token.len() {
        judge_with(&oidc, &keys, &token[..length]).map(|_| length).unwrap_err();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Claims of any type: an answer, never a panic.
    #[test]
    fn signed_nonsense_does_not_panic(claim in "iss|sub|aud|azp|exp|nbf|iat|jti|sid|auth_time|acr|amr|groups|email|name|_claim_names", which in 0..8usize, n in any::<i64>(), text in ".*") {
        let values = [json!(null), json!(n), json!(n as f64 * 1e10), json!(text), json!([text]), json!([n, null]), json!({&text: n}), json!(true)];
        static SOURCE: OnceLock<Oidc> = OnceLock::new();
        let _ = judge(SOURCE.get_or_init(|| source(|_| ())), &sign(json!({claim: values[which]})));
    }

    #[test]
    fn no_key_set_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), n in ".{0,40}") {
        static SOURCE: OnceLock<Oidc> = OnceLock::new();
        static TOKEN: OnceLock<String> = OnceLock::new();
        let _ = KeySet::parse(&bytes);
        for kty in ["RSA", "EC", "OKP"] {
            let keys = key_set(&[json!({"kty": kty, "kid": "k1", "n": n, "e": n, "x": n, "y": n, "crv": "P-256"})]);
            let judged = judge_with(SOURCE.get_or_init(|| source(|_| ())), &keys, TOKEN.get_or_init(|| sign(json!({}))));
            prop_assert!(judged.is_err());
        }
    }
}
