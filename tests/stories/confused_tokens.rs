//! Every kind of token at every endpoint: only the right ones work (RFC 8725 section 2.8).

use serde_json::json;

use crate::harness::{ASSERTION_TYPE, Answer, Client, ClientKey, Database, Oidc, Server, Setup, form, on_both_databases};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const PASSWORD: &str = "correct horse battery staple";
const CLIENT: [&str; 12] = [
    "--grant",
    "client_credentials",
    "--grant",
    "password",
    "--grant",
    "refresh_token",
    "--grant",
    EXCHANGE,
    "--scope",
    "read",
    "--introspect",
    "any",
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    OpaqueAccess,
    JwtAccess,
    Refresh,
    IdToken,
    LogoutToken,
    ClientSecret,
    SignedIntrospection,
    ClientAssertion,
    Garbage,
}

const KINDS: [Kind; 9] = [
    Kind::OpaqueAccess,
    Kind::JwtAccess,
    Kind::Refresh,
    Kind::IdToken,
    Kind::LogoutToken,
    Kind::ClientSecret,
    Kind::SignedIntrospection,
    Kind::ClientAssertion,
    Kind::Garbage,
];

struct Ground {
    okta: Oidc,
    server: Server,
    opaque: Client,
    jwt: Client,
    key: ClientKey,
    by_key: Client,
}

impl Ground {
    async fn new(database: Database) -> Ground {
        let okta = Oidc::issuer().await;
        let sources = "[[source]]\nname = \"local\"\ntype = \"local\"\n[dialect.croit]\n[limits]\nexchange_failures = \"1000/5m\"\n";
        let server = Setup::new(database).okta("okta", &okta, "").config(sources).start().await;
        let opaque = server.client_add(&CLIENT).await;
        let jwt = server.client_add(&[&CLIENT[..], &["--token-format", "jwt"]].concat()).await;
        server.user_add("dana", PASSWORD, &[]).await;
        let key = ClientKey::new("ES256");
        let file = server.directory().join("key.json");
        std::fs::write(&file, key.jwks().to_string()).unwrap();
        let by_key = ["--auth-method", "private_key_jwt", "--jwks", file.to_str().unwrap()];
        let by_key = server.client_add(&[&CLIENT[..], &by_key].concat()).await;
        Ground { okta, server, opaque, jwt, key, by_key }
    }

    /// The client whose tokens of this kind are.
    fn client(&self, kind: Kind) -> &Client {
        if kind == Kind::JwtAccess { &self.jwt } else { &self.opaque }
    }

    /// A new one, good for its purpose.
    async fn make(&self, kind: Kind) -> String {
        let signed_in = async |member| self.server.sign_in(self.client(kind), "dana", PASSWORD).await.text(member);
        match kind {
            Kind::OpaqueAccess | Kind::JwtAccess => signed_in("access_token").await,
            Kind::Refresh => signed_in("refresh_token").await,
            Kind::IdToken => self.okta.mint("alice").await,
            Kind::LogoutToken => self.okta.mint_with(json!({"use": "logout", "claims": {"events": {}}})).await,
            Kind::ClientSecret => self.opaque.secret().to_owned(),
            Kind::SignedIntrospection => {
                let token = signed_in("access_token").await;
                let headers = [("authorization", self.opaque.basic()), ("accept", "application/token-introspection+jwt".to_owned())];
                let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
                let signed = self.server.raw("/oauth2/introspect", &headers, form(&[("token", &token)])).await;
                assert!(signed.status == 200 && signed.body.split('.').count() == 3, "{}", signed.body);
                signed.body
            }
            Kind::ClientAssertion => self.key.assertion(&self.by_key.id, &self.server.origin()),
            Kind::Garbage => "cs_at_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        }
    }

    fn revocations(&self) -> Vec<String> {
        self.server.rows("SELECT COUNT(*) FROM feed_entries WHERE kind IN ('jti', 'grant_id')")
    }

    async fn at_okta_login(&self, token: &str) -> Answer {
        let body = json!({"idToken": token}).to_string();
        self.server.raw("/api/auth/okta/login", &[("content-type", "application/json")], body).await
    }
}

on_both_databases! {
    async fn at_introspection(database) {
        let ground = Ground::new(database).await;
        for kind in KINDS {
            let answer = ground.server.introspect(ground.client(kind), &ground.make(kind).await).await;
            match kind {
                Kind::OpaqueAccess | Kind::JwtAccess => assert_eq!(answer.ok()["active"], json!(true), "{kind:?}"),
                _ => assert_eq!(answer.ok(), &json!({"active": false}), "{kind:?}"),
            }
        }
        // A hint changes nothing (RFC 7662 section 2.1).
        let refresh = ground.make(Kind::Refresh).await;
        let hinted = [("token", refresh.as_str()), ("token_type_hint", "refresh_token")];
        assert_eq!(ground.server.post("/oauth2/introspect", &ground.opaque, &hinted).await.ok(), &json!({"active": false}));
    }

    async fn at_revocation(database) {
        let ground = Ground::new(database).await;
        for kind in KINDS {
            let token = ground.make(kind).await;
            let before = ground.revocations();
            let answer = ground.server.revoke(ground.client(kind), &token).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{kind:?}");
            let effect = matches!(kind, Kind::OpaqueAccess | Kind::JwtAccess | Kind::Refresh);
            assert_eq!(ground.revocations() != before, effect, "{kind:?}");
        }
        ground.server.own_token(&ground.opaque).await;
        let id_token = ground.make(Kind::IdToken).await;
        ground.server.revoke(&ground.opaque, &id_token).await;
        ground.server.exchange(&ground.opaque, &id_token, &[]).await.ok();
    }

    async fn at_the_refresh_grant(database) {
        let ground = Ground::new(database).await;
        for kind in KINDS {
            let answer = ground.server.refresh(ground.client(kind), &ground.make(kind).await).await;
            match kind {
                Kind::Refresh => drop(answer.ok()),
                _ => drop(answer.refused(400, "invalid_grant")),
            }
        }
    }

    async fn at_the_exchange(database) {
        let ground = Ground::new(database).await;
        for kind in KINDS {
            let answer = ground.server.exchange(ground.client(kind), &ground.make(kind).await, &[]).await;
            match kind {
                Kind::IdToken => drop(answer.ok()),
                _ => drop(answer.refused(400, "invalid_request")),
            }
        }
    }

    async fn at_the_okta_login(database) {
        let ground = Ground::new(database).await;
        for kind in KINDS {
            let answer = ground.at_okta_login(&ground.make(kind).await).await;
            match kind {
                Kind::IdToken => drop(answer.ok()),
                _ => drop(answer.refused(401, "invalid_token")),
            }
        }
    }

    async fn as_a_bearer_token(database) {
        let ground = Ground::new(database).await;
        for kind in KINDS {
            let token = ground.make(kind).await;
            let info = ground.server.get_as("/api/auth/token-info", &token).await;
            let logout = ground.server.raw("/api/auth/logout", &[("authorization", &format!("Bearer {token}"))], "").await;
            match kind {
                Kind::OpaqueAccess | Kind::JwtAccess => {
                    assert_eq!(info.ok()["username"], json!("dana@local"), "{kind:?}");
                    assert_eq!(logout.status, 204, "{kind:?}");
                    assert!(!ground.server.is_active(ground.client(kind), &token).await);
                }
                _ => {
                    info.refused(401, "invalid_token");
                    logout.refused(401, "invalid_token");
                }
            }
        }
    }

    async fn as_a_client_assertion(database) {
        let ground = Ground::new(database).await;
        for kind in KINDS {
            let token = ground.make(kind).await;
            let parameters =
                [("grant_type", "client_credentials"), ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", token.as_str())];
            let answer = ground.server.raw("/oauth2/token", &[], form(&parameters)).await;
            match kind {
                Kind::ClientAssertion => drop(answer.ok()),
                _ => drop(answer.refused(401, "invalid_client")),
            }
        }
    }

    async fn as_a_secret_or_a_password(database) {
        let ground = Ground::new(database).await;
        for kind in KINDS {
            let token = ground.make(kind).await;
            let answer = ground.server.token(&Client::new(&ground.opaque.id, &token), &[("grant_type", "client_credentials")]).await;
            match kind {
                Kind::ClientSecret => drop(answer.ok()),
                _ => drop(answer.refused(401, "invalid_client")),
            }
            // Each name once: the throttle is not what is asked about here.
            let cut: String = token.chars().take(200).collect();
            ground.server.sign_in(&ground.opaque, "dana", &cut).await.refused(400, "invalid_grant");
        }
    }
}
