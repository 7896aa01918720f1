//! An id token that leaves the groups out: whoever exchanges it hands the provider's access token along, and userinfo is asked.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Database, Oidc, Server, Setup, on_both_databases};

const CLIENT: [&str; 4] = ["--grant", "urn:ietf:params:oauth:grant-type:token-exchange", "--scope", "read"];
const MAPPING: &str = r#"
[[mapping.rule]]
id = "engineers"
source = "okta"
match.claim = "/groups"
glob = "eng-*"
roles = ["engineer"]

[mapping.defaults]
okta = ["user"]
"#;

struct Ground {
    okta: Oidc,
    server: Server,
    client: Client,
}

impl Ground {
    async fn new(database: Database, source: &str) -> Ground {
        let okta = Oidc::issuer().await;
        let server = Setup::new(database).okta("okta", &okta, source).config(MAPPING).start().await;
        let client = server.client_add(&CLIENT).await;
        Ground { okta, server, client }
    }

    /// An id token without groups, with `claims` beside.
    async fn thin(&self, account: &str, mut claims: Value) -> String {
        claims["groups"] = Value::Null;
        self.okta.mint_with(json!({"account": account, "claims": claims})).await
    }

    async fn exchange(&self, token: &str, access_token: &str) -> Answer {
        self.server.exchange(&self.client, token, &[("subject_access_token", access_token)]).await
    }

    async fn roles(&self, answer: &Answer) -> Vec<String> {
        self.server.introspect(&self.client, &answer.access_token()).await.roles()
    }

    async fn refused_as(&self, reasons: &[&str]) {
        let query = "SELECT reason FROM audit_records WHERE event = 'sign_in_refused' ORDER BY id";
        let mut found = self.server.rows_when(reasons.len(), query).await;
        found.sort_unstable();
        let mut reasons = reasons.to_vec();
        reasons.sort_unstable();
        assert_eq!(found, reasons);
    }
}

on_both_databases! {
    async fn userinfo_completes_it(database) {
        let ground = Ground::new(database, "groups_required = true").await;
        let access = ground.okta.access_token("alice", json!({})).await;
        // The provider hashes what it is given into at_hash.
        let thin = ground.thin("alice", json!({"at_hash": access})).await;
        ground.server.exchange(&ground.client, &thin, &[]).await.refused(400, "invalid_request");
        assert_eq!(ground.okta.fetches("userinfo").await, 0, "nobody asks without an access token");
        let answer = ground.exchange(&thin, &access).await;
        assert_eq!(ground.roles(&answer).await, ["engineer", "user"]);
        assert_eq!(ground.okta.fetches("userinfo").await, 1);
        // Where the token has groups, nobody asks.
        ground.exchange(&ground.okta.mint("alice").await, &access).await.ok();
        assert_eq!(ground.okta.fetches("userinfo").await, 1);
        assert!(!ground.server.log().contains(&access));
        ground.refused_as(&["groups_unavailable"]).await;
    }

    async fn userinfo_of_somebody_else_is_refused(database) {
        let ground = Ground::new(database, "").await;
        let bobs = ground.okta.access_token("bob", json!({})).await;
        ground.exchange(&ground.thin("alice", json!({})).await, &bobs).await.refused(400, "invalid_request");
        // No sub is another sub too, and there is no falling back to what the id token has.
        for lie in [json!({"groups": ["eng-root"]}), json!({"sub": ["00ualice"], "groups": []}), json!({"sub": "00uALICE", "groups": []})] {
            ground.okta.userinfo(json!({"body": lie})).await;
            ground.exchange(&ground.thin("alice", json!({})).await, &bobs).await.refused(400, "invalid_request");
        }
        ground.refused_as(&["subject_rejected"; 4]).await;
        assert_eq!(ground.server.rows("SELECT COUNT(*) FROM accounts"), ["0"]);
    }

    async fn an_access_token_that_is_not_its_own(database) {
        let ground = Ground::new(database, "").await;
        let (access, other) = (ground.okta.access_token("alice", json!({})).await, ground.okta.access_token("alice", json!({})).await);
        // Also beside a token that has its groups: what is handed along must belong.
        let whole = ground.okta.mint_with(json!({"account": "alice", "claims": {"at_hash": access}})).await;
        ground.exchange(&whole, &other).await.refused(400, "invalid_request");
        ground.exchange(&ground.thin("alice", json!({"at_hash": access})).await, &other).await.refused(400, "invalid_request");
        for bad in ["a b", "a\r\nx: y", "é", "\"", &"x".repeat(20_000)] {
            ground.exchange(&ground.thin("alice", json!({})).await, bad).await.refused(400, "invalid_request");
        }
        assert_eq!(ground.okta.fetches("userinfo").await, 0);
        // The provider itself does not know this one.
        ground.exchange(&ground.thin("alice", json!({})).await, "made-up").await.refused(400, "invalid_request");
        assert_eq!(ground.okta.fetches("userinfo").await, 1);
        ground.refused_as(&["access_token_rejected"; 8]).await;
        // None of this used the id token up.
        ground.exchange(&whole, &access).await.ok();
    }

    async fn userinfo_that_fails_decides_nothing(database) {
        let ground = Ground::new(database, "").await;
        let access = ground.okta.access_token("alice", json!({})).await;
        let thin = ground.thin("alice", json!({})).await;
        for broken in [
            json!({"status": 500}),
            json!({"status": 0}),
            json!({"status": -1}),
            json!({"status": 302, "headers": {"location": "https://elsewhere.test/"}}),
            json!({"body": ["00ualice"]}),
            json!({"status": 429, "headers": {"retry-after": "7"}}),
        ] {
            ground.okta.userinfo(broken.clone()).await;
            let answer = ground.exchange(&thin, &access).await;
            answer.unavailable();
            assert!(broken["status"] != 429 || answer.header("retry-after") == "7", "{:?}", answer.headers);
        }
        assert_eq!(ground.okta.fetches("userinfo").await, 6, "each was one try");
        ground.okta.userinfo(json!({})).await;
        assert_eq!(ground.roles(&ground.exchange(&thin, &access).await).await, ["engineer", "user"]);
        ground.refused_as(&[]).await;
    }

    async fn it_fills_what_is_absent_and_nothing_else(database) {
        let ground = Ground::new(database, "").await;
        let lie = json!({
            "sub": "00ucarol", "iss": "https://elsewhere.test", "preferred_username": "root", "amr": ["mfa"], "auth_time": 1,
            "groups": ["eng-core"], "email": "other@example.test", "email_verified": true, "name": "Somebody Else",
        });
        ground.okta.userinfo(json!({"body": lie})).await;
        let access = ground.okta.access_token("carol", json!({})).await;
        let answer = ground.exchange(&ground.thin("carol", json!({"name": null})).await, &access).await;
        let carol = ground.server.introspect(&ground.client, &answer.access_token()).await;
        assert_eq!(carol.roles(), ["engineer", "user"]);
        assert_eq!((&carol.ok()["username"], &carol.ok()["amr"]), (&json!("carol"), &json!(["pwd"])));
        assert_eq!(ground.server.rows("SELECT email, name FROM accounts"), ["carol@example.test|Somebody Else"]);
        let answer = ground.exchange(&ground.thin("carol", json!({"email": null})).await, &access).await;
        answer.ok();
        assert_eq!(ground.server.rows("SELECT email, name FROM accounts"), ["other@example.test|Carol Cooper"]);
        assert_eq!(ground.server.rows("SELECT issuer, subject FROM account_links"), [format!("{}|00ucarol", ground.okta.url())]);
    }

    async fn absent_after_userinfo_too(database) {
        let required = Ground::new(database, "groups_required = true").await;
        let access = required.okta.access_token("alice", json!({})).await;
        required.okta.userinfo(json!({"body": {"sub": "00ualice"}})).await;
        let thin = required.thin("alice", json!({})).await;
        required.exchange(&thin, &access).await.refused(400, "invalid_request");
        required.okta.userinfo(json!({"body": {"sub": "00ualice", "groups": (0..100).map(|n| n.to_string()).collect::<Vec<_>>()}})).await;
        required.exchange(&thin, &access).await.refused(400, "invalid_request");
        required.refused_as(&["groups_unavailable"; 2]).await;
        // An empty list is an answer.
        required.okta.userinfo(json!({"body": {"sub": "00ualice", "groups": []}})).await;
        assert_eq!(required.roles(&required.exchange(&thin, &access).await).await, ["user"]);
    }

    async fn the_client_is_the_actor(database) {
        let ground = Ground::new(database, "").await;
        let exchanged = ground.server.exchange(&ground.client, &ground.okta.mint("alice").await, &[]).await.access_token();
        let meaning = ground.server.introspect(&ground.client, &exchanged).await;
        assert_eq!(meaning.ok()["act"], json!({"sub": ground.client.id}));
        assert_ne!(meaning.ok()["sub"], json!(ground.client.id));
        let jwt = ground.server.client_add(&[&CLIENT[..], &["--token-format", "jwt"]].concat()).await;
        let exchanged = ground.server.exchange(&jwt, &ground.okta.mint("alice").await, &[]).await.access_token();
        let payload = exchanged.split('.').nth(1).unwrap();
        let payload = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).unwrap();
        let claims: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(claims["act"], json!({"sub": jwt.id}));
        assert_eq!(ground.server.introspect(&jwt, &exchanged).await.ok()["act"], json!({"sub": jwt.id}));
        // A client's own token has no actor.
        let own = ground.server.client_add(&["--grant", "client_credentials"]).await;
        let token = ground.server.own_token(&own).await;
        assert!(ground.server.introspect(&own, &token).await.ok().get("act").is_none());
    }

    async fn org_and_custom_issuers_stand_side_by_side(database) {
        let okta = Oidc::issuer().await;
        let org = format!("[[source]]\nname = \"org\"\ntype = \"okta\"\nissuer = {:?}\nclient_id = {:?}\n", okta.org_url(), Oidc::CLIENT_ID);
        let mapping = "[mapping.defaults]\ncustom = [\"from-custom\"]\norg = [\"from-org\"]\n";
        let server = Setup::new(database).okta("custom", &okta, "").config(&org).config(mapping).start().await;
        let client = server.client_add(&CLIENT).await;
        let only_org = server.client_add(&[&CLIENT[..], &["--source", "org"]].concat()).await;
        let (custom, org) = (okta.mint("alice").await, okta.mint_of_org("alice").await);
        server.exchange(&only_org, &custom, &[]).await.refused(400, "unauthorized_client");
        let mut subjects = Vec::new();
        for (token, role, source) in [(&custom, "from-custom", "custom"), (&org, "from-org", "org")] {
            let meaning = server.introspect(&client, &server.exchange(&client, token, &[]).await.access_token()).await;
            assert_eq!((meaning.roles(), &meaning.ok()["source"]), (vec![role.to_owned()], &json!(source)));
            subjects.push(meaning.ok()["sub"].clone());
        }
        assert_ne!(subjects[0], subjects[1], "the same sub of two issuers is two people");
        // Neither's keys verify the other's tokens.
        let claims = json!({"iss": okta.org_url(), "aud": Oidc::CLIENT_ID, "sub": "00ualice"});
        server.exchange(&client, &okta.sign(json!({}), claims).await, &[]).await.refused(400, "invalid_request");
        server.exchange(&only_org, &okta.mint_of_org("bob").await, &[]).await.ok();
    }
}
