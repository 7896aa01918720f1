//! Each check alone, and which keys are taken.

use serde_json::{Value, json};

use super::*;
use crate::config::{self, SigningAlgorithm};
use crate::tokens::jwt::SigningKey;

const NOW: i64 = 1_700_000_000;
const ISSUER: &str = "https://auth.example";
const AUDIENCES: [&str; 2] = [ISSUER, "https://auth.example/oauth2/token"];

struct Signer(SigningKey);

impl Signer {
    fn new(algorithm: SigningAlgorithm) -> Signer {
        let pkcs8 = SigningKey::generate(algorithm).unwrap();
        Signer(SigningKey::parse("k1", algorithm.as_str(), &pkcs8).unwrap())
    }

    fn keys(&self) -> KeySet {
        parse(json!({ "keys": [self.0.jwk()] }).to_string().as_bytes()).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.0.sign_as(header, claims.to_string().as_bytes())
    }
}

fn good() -> Value {
    json!({"iss": "app", "sub": "app", "aud": ISSUER, "exp": NOW + 60, "iat": NOW, "jti": "j1"})
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "k1"})
}

fn with(mut value: Value, name: &str, to: Value) -> Value {
    match to {
        Value::Null => drop(value.as_object_mut().unwrap().remove(name)),
        to => value[name] = to,
    }
    value
}

fn verify(signer: &Signer, text: &str, named: Option<&str>) -> Result<OneUse, AssertionRefusal> {
    UnverifiedAssertion::parse(text, named).expect("it has the form of one").verify("app", &signer.keys(), &AUDIENCES, NOW)
}

#[test]
fn each_algorithm_of_ours_is_good_for_its_key_alone() {
    for algorithm in SigningAlgorithm::ALL {
        let signer = Signer::new(algorithm);
        let text = signer.sign(&with(header(), "alg", algorithm.as_str().into()), &good());
        assert_eq!(verify(&signer, &text, Some("app")).unwrap().until, NOW + 60 + CLOCK_SKEW + CLOCK_MARGIN);
        assert_eq!(verify(&Signer::new(algorithm), &text, None), Err(AssertionRefusal::BadSignature));
        for other in ["ES256", "RS256", "PS256", "EdDSA"].into_iter().filter(|other| *other != algorithm.as_str()) {
            let text = signer.sign(&with(header(), "alg", other.into()), &good());
            let refusal = verify(&signer, &text, None).unwrap_err();
            assert!([AssertionRefusal::UnknownKey, AssertionRefusal::BadSignature].contains(&refusal), "{other}: {refusal}");
        }
        for other in ["none", "HS256", "HS512", "RS512", "ES384", "es256", ""] {
            let text = signer.sign(&with(header(), "alg", other.into()), &good());
            assert_eq!(verify(&signer, &text, None), Err(AssertionRefusal::AlgorithmNotAllowed), "{other}");
        }
    }
}

#[test]
fn from_when_on_it_could_be_used() {
    let signer = Signer::new(SigningAlgorithm::Es256);
    let from = |iat: Value, nbf: Value| {
        let claims = with(with(with(good(), "exp", (NOW + 60).into()), "iat", iat), "nbf", nbf);
        verify(&signer, &signer.sign(&header(), &claims), None).map(|one_use| one_use.from)
    };
    assert_eq!(from(Value::Null, Value::Null), Ok(NOW + 60 - LONGEST_LIFE - CLOCK_SKEW));
    assert_eq!(from((NOW - 5).into(), Value::Null), Ok(NOW - 5 - CLOCK_SKEW));
    assert_eq!(from((NOW - 5).into(), (NOW + CLOCK_SKEW).into()), Ok(NOW));
    assert_eq!(from((NOW + CLOCK_SKEW + 1).into(), Value::Null), Err(AssertionRefusal::NotYetValid));
}

#[test]
fn headers_that_choose_a_key_or_name_another_kind_are_refused() {
    let signer = Signer::new(SigningAlgorithm::Es256);
    let ask = |name: &str, value: Value| verify(&signer, &signer.sign(&with(header(), name, value), &good()), None);
    for typ in ["JWT", "jwt", "client-authentication+jwt"] {
        ask("typ", typ.into()).unwrap();
    }
    for (name, value) in [
        ("crit", json!(["b64"])),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/x")),
        ("typ", json!("at+jwt")),
        ("typ", json!("token-introspection+jwt")),
        ("typ", json!(7)),
        ("kid", json!(7)),
    ] {
        assert_eq!(ask(name, value.clone()), Err(AssertionRefusal::HeaderNotAllowed), "{name} {value}");
    }
    assert_eq!(ask("kid", "k2".into()), Err(AssertionRefusal::UnknownKey));
    ask("kid", Value::Null).unwrap();
}

#[test]
fn each_claim_is_checked() {
    use AssertionRefusal::*;
    let signer = Signer::new(SigningAlgorithm::Es256);
    let ask = |name: &str, value: Value| verify(&signer, &signer.sign(&header(), &with(good(), name, value)), None);
    let cases = [
        ("iss", Value::Null, WrongClient),
        ("iss", json!("other"), WrongClient),
        ("sub", json!("other"), WrongClient),
        ("aud", Value::Null, WrongAudience),
        ("aud", json!([]), WrongAudience),
        ("aud", json!("https://auth.example/"), WrongAudience),
        ("aud", json!(["https://other.example", 7]), WrongAudience),
        ("aud", json!({"0": ISSUER}), WrongAudience),
        ("exp", Value::Null, MissingClaim),
        ("exp", json!("soon"), MissingClaim),
        ("exp", json!(NOW - 31), Expired),
        ("exp", json!(NOW - 30), Expired),
        ("exp", json!(-1e300), Expired),
        ("exp", json!(NOW + 631), LivesTooLong),
        ("exp", json!(i64::MAX), LivesTooLong),
        ("exp", json!(1e300), LivesTooLong),
        ("nbf", json!(NOW + 31), NotYetValid),
        ("iat", json!(NOW + 61), NotYetValid),
        ("iat", json!([]), MissingClaim),
        ("jti", Value::Null, MissingClaim),
        ("jti", json!(""), MissingClaim),
        ("jti", json!(7), MissingClaim),
        ("jti", json!("x".repeat(1025)), MissingClaim),
    ];
    for (name, value, expected) in cases {
        assert_eq!(ask(name, value.clone()), Err(expected), "{name} {value}");
    }
    for (name, value) in [
        ("aud", json!(["https://other.example", ISSUER])),
        ("aud", json!("https://auth.example/oauth2/token")),
        ("exp", json!(NOW - 29)),
        ("exp", json!(NOW as f64 + 0.5)),
        ("exp", json!(NOW + 630)),
        ("nbf", json!(NOW + 8)),
        ("iat", json!(NOW + 10)),
        ("iat", Value::Null),
        ("jti", json!("\u{0}\u{1f600}")),
    ] {
        ask(name, value.clone()).unwrap_or_else(|refusal| panic!("{name} {value}: {refusal}"));
    }
    assert_eq!(verify(&signer, &signer.sign(&header(), &good()), Some("other")), Err(WrongClient));
}

/// One use is of one client and one `jti`, whatever else the assertion says.
#[test]
fn the_use_is_named_by_client_and_jti() {
    let signer = Signer::new(SigningAlgorithm::Es256);
    let id = |claims: Value| verify(&signer, &signer.sign(&header(), &claims), None).unwrap().id;
    assert_eq!(id(good()), id(with(good(), "exp", json!(NOW + 61))));
    assert_ne!(id(good()), id(with(good(), "jti", json!("j2"))));
    assert_eq!(id(good()).len(), 43);
}

#[test]
fn what_has_not_the_form_is_no_assertion() {
    let signer = Signer::new(SigningAlgorithm::Es256);
    let text = signer.sign(&header(), &good());
    let anonymous = signer.sign(&header(), &with(good(), "sub", Value::Null));
    let large = signer.sign(&header(), &with(good(), "x", json!("x".repeat(SIZE_LIMIT))));
    for bad in ["", "a.b", "..", &format!("{text}.x"), &format!("{text}="), &format!(" {text}"), &anonymous, &large] {
        assert!(UnverifiedAssertion::parse(bad, None).is_none(), "{bad}");
    }
    let parsed = UnverifiedAssertion::parse(&text, None).unwrap();
    assert_eq!((parsed.subject(), parsed.kid(), format!("{parsed:?}").as_str()), ("app", Some("k1"), "UnverifiedAssertion(…)"));
}

#[test]
fn keys_are_read_at_registration() {
    let jwk = |algorithm| Signer::new(algorithm).0.jwk();
    let (ec, rsa, ed) = (jwk(SigningAlgorithm::Es256), jwk(SigningAlgorithm::Rs256), jwk(SigningAlgorithm::EdDsa));
    let problems = |jwks: Value| {
        let client = config::Client { jwks: Some(jwks), ..config::Client::default() };
        check(&client, &[]).into_iter().map(|problem| format!("{}: {}", problem.path, problem.reason)).collect::<Vec<_>>()
    };
    for good in [&ec, &rsa, &ed] {
        assert_eq!(problems(json!({"keys": [good]})), [""; 0]);
        assert_eq!(problems(json!({"keys": [with(good.clone(), "alg", Value::Null), with(good.clone(), "kid", json!("k2"))]})), [""; 0]);
    }
    assert_eq!(problems(json!({"keys": [with(rsa.clone(), "alg", json!("PS256"))]})), [""; 0]);
    let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
    for (jwks, said) in [
        (json!({}), "jwks: has no list \"keys\""),
        (json!([ec]), "jwks: has no list \"keys\""),
        (json!({"keys": []}), "jwks: has 0 keys"),
        (json!({"keys": [7]}), "jwks: keys[0] is no JWK"),
        (
            json!({"keys": [ec, with(ed.clone(), "kid", json!("k2")), with(ed.clone(), "d", json!("secret"))]}),
            "jwks: keys[2] holds d, a part of the private key",
        ),
        (json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}), "jwks: keys[0] holds k"),
        (json!({"keys": [ec, ec]}), "jwks: keys[1] has the kid k1 of another key"),
        (json!({"keys": [ec, with(ed.clone(), "kid", Value::Null)]}), "jwks: keys[1] has no kid"),
        (json!({"keys": [with(rsa, "n", json!(short))]}), "jwks: keys[0] is an RSA key of 1024 bits"),
        (json!({"keys": [with(ec.clone(), "x", ec["y"].clone())]}), "jwks: keys[0] is no point of P-256"),
        (json!({"keys": [with(ec.clone(), "x", Value::Null)]}), "jwks: keys[0] has no x"),
        (json!({"keys": [with(ec.clone(), "crv", json!("P-384"))]}), "jwks: keys[0] is of a kind that is not accepted (EC P-384)"),
        (json!({"keys": [with(ed.clone(), "x", json!("AAAA"))]}), "jwks: keys[0] is no key of Ed25519"),
        (json!({"keys": [with(ec.clone(), "alg", json!("EdDSA"))]}), "jwks: keys[0] says alg EdDSA"),
        (json!({"keys": [with(ec, "use", json!("enc"))]}), "jwks: keys[0] is not for signatures"),
    ] {
        let found = problems(jwks);
        assert!(found.len() == 1 && found[0].starts_with(said) && !found[0].contains("secret"), "{found:?} is not {said}");
    }
    let uri = |uri: &str| check(&config::Client { jwks_uri: Some(uri.to_owned()), ..config::Client::default() }, &["localhost".to_owned()]);
    assert!(uri("https://app.example/jwks").is_empty() && uri("http://localhost:1/jwks").is_empty());
    assert_eq!(uri("http://app.example/jwks")[0].path, "jwks_uri");
    assert_eq!(uri("https://10.0.0.1/jwks")[0].path, "jwks_uri");
}

#[test]
fn a_published_set_with_a_private_key_is_refused_and_strange_keys_are_passed_over() {
    let ec = Signer::new(SigningAlgorithm::Es256).0.jwk();
    let strange = json!({"kty": "of_tomorrow", "kid": "k9"});
    assert!(parse(json!({"keys": [ec, strange]}).to_string().as_bytes()).unwrap().contains("k1"));
    let private = with(ec.clone(), "d", json!("secret"));
    let reason = parse(json!({"keys": [ec, ec]}).to_string().as_bytes()).unwrap_err();
    assert!(reason.contains("kid of another key"), "{reason}");
    let reason = parse(json!({"keys": vec![json!({"kty": "oct"}); 33]}).to_string().as_bytes()).unwrap_err();
    assert!(reason.contains("33 keys"), "{reason}");
    let reason = parse(json!({"keys": [ec, private]}).to_string().as_bytes()).unwrap_err();
    assert!(reason.starts_with("keys[1] holds d") && !reason.contains("secret"), "{reason}");
}
