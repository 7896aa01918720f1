//! Global Token Revocation (Okta's Universal Logout): Okta says, by a token that its organisation signed, that everything of a
//! person ends.

use std::time::Duration;

use countersign::clock::Clock;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Database, Oidc, Server, Setup, eventually, on_both_databases};

const CLIENT: [&str; 6] = ["--grant", "urn:ietf:params:oauth:grant-type:token-exchange", "--grant", "refresh_token", "--scope", "read"];
const PATH: &str = "/federation/okta/global-token-revocation";
const KIND: &str = "global-token-revocation+jwt";

struct Ground {
    okta: Oidc,
    server: Server,
    client: Client,
}

impl Ground {
    async fn new(database: Database, config: &str) -> Ground {
        let okta = Oidc::issuer().await;
        let source = format!("base_url = {:?}\napi_token_file = \"okta-token\"\nglobal_token_revocation = true\n", okta.org_url());
        let mapping = "[mapping.defaults]\nokta = [\"user\"]\n";
        let setup = Setup::new(database).file("okta-token", "api-token").okta("okta", &okta, &source).config(mapping).config(config);
        let server = setup.start().await;
        let client = server.client_add(&CLIENT).await;
        Ground { okta, server, client }
    }

    async fn exchange(&self, token: &str) -> Answer {
        self.server.exchange(&self.client, token, &[]).await
    }

    async fn sign_in(&self, account: &str) -> Answer {
        let answer = self.exchange(&self.okta.mint(account).await).await;
        answer.ok();
        answer
    }

    async fn is_active(&self, answer: &Answer) -> bool {
        self.server.is_active(&self.client, &answer.access_token()).await
    }

    /// A token of the organisation, with other claims or another header than it should have.
    async fn token(&self, header: Value, claims: Value) -> String {
        let mut all = (json!({"typ": KIND}), json!({"aud": self.server.url(PATH), "sub": Oidc::CLIENT_ID}));
        for (members, changes) in [(&mut all.0, header), (&mut all.1, claims)] {
            for (name, value) in changes.as_object().unwrap() {
                members[name] = value.clone();
            }
        }
        self.okta.sign_as_org(all.0, all.1).await
    }

    fn person(&self, account: &str) -> Value {
        json!({"sub_id": {"format": "iss_sub", "iss": self.okta.url(), "sub": format!("00u{account}")}})
    }

    async fn post(&self, token: &str, body: &Value) -> Answer {
        let authorization = format!("Bearer {token}");
        self.server.raw(PATH, &[("authorization", &authorization), ("content-type", "application/json")], body.to_string()).await
    }

    /// A sign-in of alice that Okta's API holds up until she was logged out, which is answered `status`.
    async fn held_up(&self, status: &u16) -> Answer {
        let before = self.okta.fetches("api").await;
        let held = json!({"path": "groups", "status": 200, "body": [{"profile": {"name": "Everyone"}}], "hold": true});
        self.okta.okta(json!({"answer": held})).await;
        let token = self.okta.mint_with(json!({"account": "alice", "claims": {"groups": null}})).await;
        let (signed_in, ()) = tokio::join!(self.exchange(&token), async {
            eventually(Duration::from_secs(20), "Okta is asked", async || self.okta.fetches("api").await > before).await;
            assert_eq!(self.log_out("alice").await.status, *status);
            self.okta.okta(json!({"answer": null})).await;
        });
        signed_in
    }

    async fn log_out(&self, account: &str) -> Answer {
        self.post(&self.token(json!({}), json!({})).await, &self.person(account)).await
    }
}

/// An id token that is issued a second from now: one of the second of a revocation counts as issued before it.
async fn later(okta: &Oidc, account: &str) -> String {
    okta.mint_with(json!({"account": account, "claims": {"iat": Clock::System.now() + 2}})).await
}

on_both_databases! {
    async fn everything_of_the_person_ends(database) {
        let ground = Ground::new(database, "").await;
        let other_client = ground.server.client_add(&CLIENT).await;
        let (first, bob) = (ground.sign_in("alice").await, ground.sign_in("bob").await);
        let second = ground.server.exchange(&other_client, &ground.okta.mint("alice").await, &[]).await;
        let (unused, unused_of_bob) = (ground.okta.mint("alice").await, ground.okta.mint("bob").await);

        let answer = ground.log_out("alice").await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        assert!(!ground.is_active(&first).await);
        assert!(!ground.server.is_active(&other_client, &second.access_token()).await);
        ground.server.refresh(&ground.client, &first.text("refresh_token")).await.refused(400, "invalid_grant");
        ground.server.refresh(&other_client, &second.text("refresh_token")).await.refused(400, "invalid_grant");
        // What Okta had issued before is of no use, however fresh.
        ground.exchange(&unused).await.refused(400, "invalid_grant");

        assert!(ground.is_active(&bob).await);
        ground.exchange(&unused_of_bob).await.ok();
        assert!(ground.is_active(&ground.exchange(&later(&ground.okta, "alice").await).await).await, "a new sign-in is a new beginning");
        let audit = ground.server.rows("SELECT outcome, username, source FROM audit_records WHERE event = 'upstream_revoked'");
        assert_eq!(audit, ["ok|alice|okta"]);
    }

    async fn twice_is_no_error_but_a_token_is_used_once(database) {
        let ground = Ground::new(database, "").await;
        ground.sign_in("alice").await;
        assert_eq!(ground.log_out("alice").await.status, 204);
        assert_eq!(ground.log_out("alice").await.status, 204);
        let token = ground.token(json!({}), json!({})).await;
        assert_eq!(ground.post(&token, &ground.person("alice")).await.status, 204);
        let again = ground.exchange(&later(&ground.okta, "alice").await).await;
        let replayed = ground.post(&token, &ground.person("alice")).await;
        assert_eq!((replayed.refused(401, "invalid_token").status, replayed.header("www-authenticate")), (401, "Bearer error=\"invalid_token\""));
        // Nor by another name for the same issuer.
        let mut other = ground.person("alice");
        other["sub_id"]["iss"] = json!(ground.okta.org_url());
        ground.post(&token, &other).await.refused(401, "invalid_token");
        assert!(ground.is_active(&again).await);
    }

    async fn both_forms_of_the_body(database) {
        let ground = Ground::new(database, "").await;
        let identifier = |issuer: String| json!({"format": "iss_sub", "iss": issuer, "sub": "00ualice"});
        // The organisation has the same people as its custom servers; `subject` is how Okta wrote it at first.
        for body in [json!({"sub_id": identifier(ground.okta.org_url())}), json!({"subject": identifier(ground.okta.url())})] {
            let token = ground.exchange(&later(&ground.okta, "alice").await).await;
            assert_eq!(ground.post(&ground.token(json!({}), json!({})).await, &body).await.status, 204, "{body}");
            assert!(!ground.is_active(&token).await, "{body}");
            // The next token is later than this revocation.
            eventually(Duration::from_secs(20), "a second has gone", async || {
                ground.exchange(&later(&ground.okta, "alice").await).await.status == 200
            }).await;
        }
    }

    async fn tokens_that_prove_nothing(database) {
        let ground = Ground::new(database, "").await;
        let alice = ground.sign_in("alice").await;
        let now = Clock::System.now();
        let claims = json!({"aud": ground.server.url(PATH)});
        let cases = [
            (ground.token(json!({"typ": "JWT"}), json!({})).await, "wrong_token_type"),
            (ground.token(json!({"typ": null}), json!({})).await, "wrong_token_type"),
            (ground.token(json!({}), json!({"aud": Oidc::CLIENT_ID})).await, "wrong_audience"),
            (ground.token(json!({}), json!({"aud": ground.server.url("/federation/other/global-token-revocation")})).await, "wrong_audience"),
            (ground.token(json!({}), json!({"iss": ground.okta.url()})).await, "wrong_issuer"),
            (ground.token(json!({}), json!({"exp": now - 120})).await, "expired"),
            (ground.token(json!({}), json!({"iat": now - 3_600})).await, "too_old"),
            (ground.token(json!({}), json!({"iat": now + 600})).await, "not_yet_valid"),
            (ground.token(json!({}), json!({"jti": null})).await, "malformed"),
            (ground.token(json!({"alg": "HS256"}), json!({})).await, "alg_not_allowed"),
            (ground.token(json!({"alg": "PS256"}), json!({})).await, "alg_not_allowed"),
            (ground.token(json!({"jku": "https://elsewhere.test/keys"}), json!({})).await, "alg_not_allowed"),
            (ground.token(json!({"kid": "made-up"}), json!({})).await, "unknown_key"),
            // The custom server's key is not the organisation's.
            (ground.okta.sign(json!({"typ": KIND}), claims).await, "unknown_key"),
            (ground.okta.mint("alice").await, "unknown_key"),
            (ground.okta.mint_of_org("alice").await, "wrong_token_type"),
            (alice.access_token(), "malformed"),
            ("x".to_owned(), "malformed"),
        ];
        let mut expected: Vec<&str> = cases.iter().map(|(_, reason)| *reason).collect();
        for (token, reason) in &cases {
            let answer = ground.post(token, &ground.person("alice")).await;
            assert_eq!(answer.status, 401, "{reason}: {}", answer.body);
            answer.refused(401, "invalid_token");
        }
        expected.sort_unstable();
        let query = "SELECT reason FROM audit_records WHERE event = 'upstream_revoked' AND outcome = 'refused' ORDER BY reason";
        let mut found = ground.server.rows_when(expected.len(), query).await;
        found.sort_unstable();
        assert_eq!(found, expected);
        let nothing = ground.server.raw(PATH, &[("content-type", "application/json")], ground.person("alice").to_string()).await;
        assert_eq!((nothing.status, nothing.header("www-authenticate"), nothing.body.as_str()), (401, "Bearer", ""));
        assert!(ground.is_active(&alice).await);
        // And what revokes signs nobody in.
        let revoking = ground.token(json!({}), json!({"aud": Oidc::CLIENT_ID, "sub": "00ualice"})).await;
        ground.exchange(&revoking).await.refused(400, "invalid_request");
    }

    async fn people_it_does_not_mean(database) {
        let ground = Ground::new(database, "[[source]]\nname = \"local\"\ntype = \"local\"\n").await;
        let alice = ground.sign_in("alice").await;
        let identifier = |value: Value| json!({"sub_id": value});
        let bodies = [
            (ground.person("nobody"), 404),
            (identifier(json!({"format": "email", "email": "alice@example.test"})), 400),
            (identifier(json!({"format": "iss_sub", "iss": "https://elsewhere.test", "sub": "00ualice"})), 400),
            (identifier(json!({"format": "iss_sub", "sub": "00ualice"})), 400),
            (identifier(json!({"format": "iss_sub", "iss": ground.okta.url(), "sub": "a\u{0}b"})), 400),
            (identifier(json!({"format": "opaque", "id": "00ualice"})), 400),
            (json!({"sub_id": ground.person("alice")["sub_id"], "subject": ground.person("bob")["sub_id"]}), 400),
            (json!({}), 400),
            (json!([]), 400),
        ];
        for (body, status) in bodies {
            let answer = ground.post(&ground.token(json!({}), json!({})).await, &body).await;
            answer.refused(status, "invalid_request");
        }
        let token = ground.token(json!({}), json!({})).await;
        let form = ground.server.raw(PATH, &[("authorization", &format!("Bearer {token}"))], "sub_id=x").await;
        form.refused(400, "invalid_request");
        for path in ["/federation/local/global-token-revocation", "/federation/nobody/global-token-revocation"] {
            ground.server.raw(path, &[("authorization", "Bearer x")], "").await.refused(404, "invalid_request");
        }
        assert!(ground.is_active(&alice).await);
        assert_eq!(ground.server.get(PATH).await.status, 405);
    }

    async fn a_sign_in_in_flight_does_not_escape(database) {
        let ground = Ground::new(database, "").await;
        // First somebody who is new here, then somebody who is known.
        for round in 0..2 {
            if round == 1 {
                ground.exchange(&later(&ground.okta, "alice").await).await.ok();
            }
            // On a slow machine Okta's answer may come too late for the sign-in: that proves nothing, so once more.
            let mut signed_in = ground.held_up(&[404, 204][round]).await;
            while signed_in.status == 503 {
                signed_in = ground.held_up(&[404, 204][round]).await;
            }
            signed_in.refused(400, "invalid_grant");
        }
        let query = "SELECT reason FROM audit_records WHERE event = 'sign_in_refused'";
        assert_eq!(ground.server.rows_when(2, query).await, ["revoked_meanwhile"; 2]);
    }

    async fn bad_tokens_are_throttled_and_an_outage_is_503(database) {
        let ground = Ground::new(database, "[limits]\nexchange_failures = \"3/5m\"\n").await;
        ground.sign_in("alice").await;
        ground.okta.break_org_keys(500).await;
        ground.log_out("alice").await.unavailable();
        ground.okta.break_org_keys(200).await;
        eventually(Duration::from_secs(30), "the keys can be had again", async || ground.log_out("alice").await.status == 204).await;
        for _ in 0..3 {
            ground.post("x", &ground.person("alice")).await.refused(401, "invalid_token");
        }
        let answer = ground.post("x", &ground.person("alice")).await;
        answer.refused(429, "temporarily_unavailable");
        assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
        // Whoever shares the provider's address cannot hold it up.
        assert_eq!(ground.log_out("alice").await.status, 204);
    }

    async fn it_is_off_unless_asked_for(database) {
        let okta = Oidc::issuer().await;
        let server = Setup::new(database).okta("okta", &okta, "").start().await;
        let token = okta.sign(json!({"typ": KIND}), json!({"aud": server.url(PATH)})).await;
        server.raw(PATH, &[("authorization", &format!("Bearer {token}"))], "{}").await.refused(404, "invalid_request");
    }
}
