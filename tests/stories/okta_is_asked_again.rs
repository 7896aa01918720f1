//! With an API token of Okta's, somebody who came with an id token can be asked for again: so an exchange yields a refresh token,
//! and each refresh looks at the state of the account and at the groups of now.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Database, Oidc, Server, Setup, on_both_databases};

const CLIENT: [&str; 6] = ["--grant", "urn:ietf:params:oauth:grant-type:token-exchange", "--grant", "refresh_token", "--scope", "read"];
const MAPPING: &str = r#"
[[mapping.rule]]
id = "engineers"
source = "okta"
match.claim = "/groups"
glob = "eng-*"
roles = ["engineer"]

[[mapping.deny]]
id = "leavers"
source = "okta"
match.claim = "/groups"
equals = "leavers"
effect = "login"

[mapping.defaults]
okta = ["user"]
"#;

struct Ground {
    okta: Oidc,
    server: Server,
    client: Client,
}

impl Ground {
    async fn new(database: Database, mapping: &str) -> Ground {
        let okta = Oidc::issuer().await;
        let source = format!("base_url = {:?}\napi_token_file = \"okta-token\"\n", okta.org_url());
        let setup = Setup::new(database).file("okta-token", "api-token").okta("okta", &okta, &source).config(mapping);
        let server = setup.start().await;
        let client = server.client_add(&CLIENT).await;
        let ground = Ground { okta, server, client };
        ground.alice(json!({"groups": ["Everyone", "eng-backend"], "login": "alice@example.test"})).await;
        ground
    }

    async fn alice(&self, user: Value) {
        self.okta.okta(json!({"users": {"00ualice": user}})).await;
    }

    async fn exchange(&self) -> Answer {
        self.server.exchange(&self.client, &self.okta.mint("alice").await, &[]).await
    }

    async fn roles(&self, answer: &Answer) -> Vec<String> {
        self.server.introspect(&self.client, &answer.access_token()).await.roles()
    }
}

on_both_databases! {
    async fn a_refresh_looks_again(database) {
        let ground = Ground::new(database, MAPPING).await;
        let first = ground.exchange().await;
        assert_eq!(ground.okta.fetches("api").await, 0, "the id token had the groups");
        let second = ground.server.refresh(&ground.client, &first.text("refresh_token")).await;
        assert_eq!(ground.roles(&second).await, ["engineer", "user"]);
        assert_eq!(ground.okta.fetches("api").await, 2, "the account and its groups");
        let meaning = ground.server.introspect(&ground.client, &second.access_token()).await;
        assert_eq!(meaning.ok()["act"], json!({"sub": ground.client.id}), "it rests on an exchange for ever");
        assert_eq!((&meaning.ok()["username"], &meaning.ok()["amr"]), (&json!("alice"), &json!(["pwd"])));
        ground.alice(json!({"groups": ["Everyone"]})).await;
        let third = ground.server.refresh(&ground.client, &second.text("refresh_token")).await;
        assert_eq!(ground.roles(&third).await, ["user"]);
        ground.alice(json!({"groups": ["Everyone", "leavers"]})).await;
        ground.server.refresh(&ground.client, &third.text("refresh_token")).await.refused(400, "invalid_grant");
        assert!(!ground.server.is_active(&ground.client, &third.access_token()).await);
    }

    async fn who_is_gone_or_disabled_ends(database) {
        let ground = Ground::new(database, MAPPING).await;
        let states = [
            (json!({"status": "SUSPENDED"}), "disabled"), (json!({"status": "DEPROVISIONED"}), "disabled"),
            (json!({"status": "STAGED"}), "not_eligible"), (json!({"status": "PROVISIONED"}), "not_eligible"),
            (Value::Null, "unknown_user"),
        ];
        let mut expected = Vec::new();
        for (state, reason) in states {
            let signed_in = ground.exchange().await;
            ground.alice(state.clone()).await;
            ground.server.refresh(&ground.client, &signed_in.text("refresh_token")).await.refused(400, "invalid_grant");
            assert!(!ground.server.is_active(&ground.client, &signed_in.access_token()).await, "{state}");
            // Back in service, what was ended stays ended.
            ground.alice(json!({"status": "ACTIVE", "groups": []})).await;
            ground.server.refresh(&ground.client, &signed_in.text("refresh_token")).await.refused(400, "invalid_grant");
            expected.extend([reason, "revoked"]);
        }
        let query = "SELECT reason FROM audit_records WHERE event = 'refresh_refused' ORDER BY reason";
        let mut found = ground.server.rows_when(expected.len(), query).await;
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    async fn what_strangers_can_bring_about_ends_no_session(database) {
        let ground = Ground::new(database, MAPPING).await;
        let mut answer = ground.exchange().await;
        for state in ["LOCKED_OUT", "RECOVERY", "PASSWORD_EXPIRED"] {
            ground.alice(json!({"status": state})).await;
            answer = ground.server.refresh(&ground.client, &answer.text("refresh_token")).await;
            assert_eq!(ground.roles(&answer).await, ["engineer", "user"], "{state}");
        }
    }

    async fn an_outage_keeps_the_refresh_token(database) {
        let ground = Ground::new(database, MAPPING).await;
        let signed_in = ground.exchange().await;
        let answer = |path: &str, status: u16| json!({"answer": {"path": path, "status": status}});
        let mallory = json!({"users": {"00umallory": {"login": "00ualice", "groups": ["eng-root"]}, "00ualice": null}});
        let alice = json!({"groups": ["Everyone", "eng-backend"], "status": "ACTIVE", "answers_as": null});
        for trouble in [
            answer("user", 500), answer("user", 0), answer("user", 401), answer("groups", 500), answer("groups", 403),
            // Not as Okta says that somebody is gone: a proxy, or a base_url that leads elsewhere.
            answer("user", 404), answer("groups", 404),
            json!({"answer": {"path": "user", "status": 404, "body": {"errorCode": "E0000022"}}}),
            json!({"answer": {"path": "user", "status": 200, "body": []}}),
            json!({"answer": null, "users": {"00ualice": {"status": "ON_HOLIDAY"}}}),
            json!({"users": {"00ualice": {"status": "ACTIVE", "answers_as": "00ubob"}}}),
            // Somebody whose login is alice's id.
            mallory,
        ] {
            ground.okta.okta(trouble.clone()).await;
            let refused = ground.server.refresh(&ground.client, &signed_in.text("refresh_token")).await;
            assert_eq!(refused.status, 503, "{trouble}: {}", refused.body);
            refused.unavailable();
        }
        ground.okta.okta(json!({"users": {"00umallory": null}})).await;
        ground.alice(alice).await;
        assert!(ground.server.is_active(&ground.client, &signed_in.access_token()).await);
        let refreshed = ground.server.refresh(&ground.client, &signed_in.text("refresh_token")).await;
        assert_eq!(ground.roles(&refreshed).await, ["engineer", "user"]);
    }

    async fn not_where_the_mapping_looks_at_other_claims(database) {
        let department = "[[mapping.rule]]\nid = \"sales\"\nmatch.claim = \"/department\"\nequals = \"sales\"\nroles = [\"seller\"]\n";
        let ground = Ground::new(database, &format!("{MAPPING}\n{department}")).await;
        let answer = ground.exchange().await;
        assert!(answer.ok().get("refresh_token").is_none(), "Okta could not be asked for the department again");
        assert!(ground.server.log().contains("/department"), "{}", ground.server.log());
    }

    async fn explain_asks_okta(database) {
        let ground = Ground::new(database, MAPPING).await;
        for who in ["00ualice", "alice@example.test"] {
            let said = ground.server.cli(&["explain", "--source", "okta", "--user", who]).await.ok();
            assert!(said.contains("engineer") && said.contains("engineers") && said.contains("user"), "{said}");
        }
        for nobody in ["carol@example.test", "..", "a/../00ualice"] {
            ground.server.cli(&["explain", "--source", "okta", "--user", nobody]).await.failed(1);
        }
        ground.alice(json!({"status": "SUSPENDED"})).await;
        let said = ground.server.cli(&["explain", "--source", "okta", "--user", "00ualice"]).await.failed(1);
        assert!(said.contains("disabled"), "{said}");
    }
}
