//! The OpenID source against a real provider: npm oidc-provider playing Okta (tests/peers/oidc.sh), whose issuer is in
//! COUNTERSIGN_TEST_OIDC. Each story makes an issuer of its own there, with keys that nobody else rotates.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a story ends at the first surprise")]

use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::clock::Clock;
use countersign::config::OidcSource;
use countersign::identity::oidc::{Oidc, Purpose, UnverifiedIdToken};
use countersign::identity::{Authentication, Identity, RefusalReason, TokenRefusal};
use serde_json::{Value, json};

struct Okta {
    lab: String,
    name: String,
    issuer: String,
    http: reqwest::Client,
}

impl Okta {
    async fn new() -> Okta {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let default = std::env::var("COUNTERSIGN_TEST_OIDC").expect(
            "COUNTERSIGN_TEST_OIDC is not set: start `tests/peers/oidc.sh start DIR PORT` and set it to the issuer that this prints",
        );
        // reqwest has no TLS provider of its own here; the source installs one, the tests speak plain http.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let lab = format!("{}/lab", default.split("/oauth2/").next().unwrap());
        let name = format!("story-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let mut okta = Okta { lab, name, issuer: String::new(), http: reqwest::Client::new() };
        okta.issuer = okta.tell("issuer", json!({})).await["issuer"].as_str().unwrap().to_owned();
        okta
    }

    async fn tell(&self, action: &str, mut body: Value) -> Value {
        body["issuer"] = self.name.clone().into();
        let response = self.http.post(format!("{}/{action}", self.lab)).body(body.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200, "{action} {body}");
        response.json().await.unwrap()
    }

    async fn mint(&self, body: Value) -> String {
        self.tell("mint", body).await["id_token"].as_str().unwrap().to_owned()
    }

    async fn jwks_fetches(&self) -> u64 {
        self.tell("fetches", json!({})).await["jwks"].as_u64().unwrap()
    }

    fn source(&self) -> Oidc {
        self.source_with(|_| ())
    }

    fn source_with(&self, change: impl Fn(&mut OidcSource)) -> Oidc {
        let mut config = OidcSource { issuer: self.issuer.clone(), client_id: "countersign-lab".into(), ..OidcSource::default() };
        change(&mut config);
        Oidc::new("okta".into(), &config, Clock::System).unwrap()
    }
}

/// None where the provider's keys could not be had.
async fn verify(oidc: &Oidc, token: &str) -> Option<Result<Identity, TokenRefusal>> {
    match oidc.verify(&UnverifiedIdToken::parse(token).unwrap(), Purpose::Exchange).await {
        Authentication::Authenticated(identity) => Some(Ok(*identity)),
        Authentication::Refused(refusal) => match refusal.reason {
            RefusalReason::Token(reason) => Some(Err(reason)),
            other => panic!("{other:?}"),
        },
        Authentication::Unavailable(_) => None,
    }
}

async fn subject(oidc: &Oidc, token: &str) -> Result<String, TokenRefusal> {
    verify(oidc, token).await.expect("the keys can be had").map(|identity| identity.subject)
}

/// The token under another key id.
fn with_kid(token: &str, kid: &str) -> String {
    let header = json!({"alg": "RS256", "kid": kid}).to_string();
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), token.split_once('.').unwrap().1)
}

#[tokio::test]
async fn a_person_comes_with_an_id_token() {
    let okta = Okta::new().await;
    let identity = verify(&okta.source(), &okta.mint(json!({"account": "alice"})).await).await.unwrap().unwrap();
    assert_eq!((identity.issuer, identity.subject, identity.username), (okta.issuer.clone(), "00ualice".to_owned(), "alice".to_owned()));
    assert_eq!((identity.email.as_deref(), identity.email_verified), (Some("alice@example.test"), true));
    assert_eq!(identity.facts.claims["groups"], json!(["Everyone", "eng-backend", "app-admins"]));
    assert_eq!(identity.amr, ["pwd"]);
    assert!(identity.upstream.unwrap().token_id.starts_with("jti:ID."));
}

#[tokio::test]
async fn tokens_of_the_provider_that_are_not_for_us() {
    let (okta, other) = (Okta::new().await, Okta::new().await);
    let oidc = okta.source();
    let now = Clock::System.now();
    let cases = [
        (json!({"client": "other-app"}), TokenRefusal::WrongAudience),
        (json!({"use": "logout", "claims": {"events": {}}}), TokenRefusal::WrongTokenType),
        (json!({"use": "logout"}), TokenRefusal::WrongTokenType),
        (json!({"claims": {"scp": ["openid"], "cid": "countersign-lab"}}), TokenRefusal::WrongTokenType),
        (json!({"claims": {"azp": "other-app"}}), TokenRefusal::WrongAudience),
        (json!({"expires_at": now - 120}), TokenRefusal::Expired),
        (json!({"claims": {"nbf": now + 600}}), TokenRefusal::NotYetValid),
        (json!({"claims": {"iat": now - 700}}), TokenRefusal::TooOld),
        (json!({"claims": {"sub": ""}}), TokenRefusal::SubjectRejected),
        (json!({"claims": {"groups": vec!["g"; 100]}}), TokenRefusal::GroupsUnavailable),
    ];
    for (body, expected) in cases {
        assert_eq!(subject(&oidc, &okta.mint(body.clone()).await).await, Err(expected), "{body}");
    }
    let foreign = other.mint(json!({})).await;
    assert_eq!(subject(&oidc, &foreign).await, Err(TokenRefusal::UnknownKey), "signed by another issuer of the same provider");
}

#[tokio::test]
async fn an_emergency_rotation_is_noticed_at_once() {
    let okta = Okta::new().await;
    let oidc = okta.source();
    let before = okta.mint(json!({})).await;
    subject(&oidc, &before).await.unwrap();
    okta.tell("rotate", json!({})).await;
    let after = okta.mint(json!({})).await;
    subject(&oidc, &after).await.unwrap();
    assert_eq!(okta.jwks_fetches().await, 2);
    assert_eq!(subject(&oidc, &before).await, Err(TokenRefusal::UnknownKey), "the old key is gone");
}

#[tokio::test]
async fn one_fetch_serves_all_who_wait_for_it() {
    let okta = Okta::new().await;
    let (oidc, token) = (okta.source(), okta.mint(json!({})).await);
    let all = futures_util::future::join_all((0..50).map(|_| subject(&oidc, &token))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(okta.jwks_fetches().await, 1);
    okta.tell("rotate", json!({})).await;
    let token = okta.mint(json!({})).await;
    let all = futures_util::future::join_all((0..50).map(|_| subject(&oidc, &token))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(okta.jwks_fetches().await, 2);
}

#[tokio::test]
async fn a_storm_of_unknown_keys_costs_three_fetches() {
    let okta = Okta::new().await;
    let (oidc, token) = (okta.source(), okta.mint(json!({})).await);
    for n in 0..200 {
        assert_eq!(subject(&oidc, &with_kid(&token, &format!("k{n}"))).await, Err(TokenRefusal::UnknownKey));
    }
    assert_eq!(okta.jwks_fetches().await, 3);
    subject(&oidc, &token).await.unwrap();
}

#[tokio::test]
async fn a_key_that_was_not_found_is_remembered() {
    let okta = Okta::new().await;
    let (oidc, token) = (okta.source(), okta.mint(json!({})).await);
    subject(&oidc, &token).await.unwrap();
    for _ in 0..20 {
        assert_eq!(subject(&oidc, &with_kid(&token, "nobody")).await, Err(TokenRefusal::UnknownKey));
    }
    assert_eq!(okta.jwks_fetches().await, 2, "one at first, one for the unknown key");
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_spend_another_fetch() {
    let okta = Okta::new().await;
    let (oidc, token) = (okta.source(), okta.mint(json!({})).await);
    for _ in 0..10 {
        let impatient = tokio::time::timeout(std::time::Duration::ZERO, subject(&oidc, &token));
        let _ = impatient.await;
    }
    subject(&oidc, &token).await.unwrap();
    assert_eq!(okta.jwks_fetches().await, 1);
}

#[tokio::test]
async fn known_keys_serve_while_the_provider_fails() {
    for status in [429, 500, 0] {
        let okta = Okta::new().await;
        let (oidc, token) = (okta.source(), okta.mint(json!({})).await);
        subject(&oidc, &token).await.unwrap();
        okta.tell("jwks", json!({"status": status, "headers": {"retry-after": "1"}})).await;
        assert!(verify(&oidc, &with_kid(&token, "new")).await.is_none(), "{status}: whether there is such a key cannot be known");
        subject(&oidc, &token).await.unwrap();
        let fetches = okta.jwks_fetches().await;
        assert!(verify(&oidc, &with_kid(&token, "new")).await.is_none());
        assert_eq!(okta.jwks_fetches().await, fetches, "{status}: not asked again at once");
    }
}

#[tokio::test]
async fn without_keys_nothing_is_decided() {
    let okta = Okta::new().await;
    let token = okta.mint(json!({})).await;
    for status in [429, 500, 404, 302, 0] {
        okta.tell("jwks", json!({"status": status})).await;
        assert!(verify(&okta.source(), &token).await.is_none(), "{status}");
    }
    let closed = Okta { issuer: "http://127.0.0.1:1/oauth2/default".to_owned(), ..Okta::new().await };
    assert!(verify(&closed.source(), &token).await.is_none());
}

#[tokio::test]
async fn metadata_of_another_issuer_is_not_followed() {
    let okta = Okta::new().await;
    let token = okta.mint(json!({})).await;
    // The same provider answers under this URL, and calls itself by the other one.
    let oidc = okta.source_with(|config| config.issuer = config.issuer.replace("127.0.0.1", "localhost"));
    match oidc.verify(&UnverifiedIdToken::parse(&token).unwrap(), Purpose::Exchange).await {
        Authentication::Unavailable(outage) => assert!(outage.reason.contains("must be equal"), "{outage}"),
        other => panic!("{other:?}"),
    }
}
