//! A person comes with an id token of Okta and leaves with a token of ours (RFC 8693). The id token is used once.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::clock::Clock;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Database, Oidc, Server, Setup, on_both_databases};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const CLIENT: [&str; 6] = ["--grant", EXCHANGE, "--grant", "refresh_token", "--scope", "read"];
/// An issuer of its own, so that two nodes are one server.
const ISSUER: &str = "[server]\nissuer = \"https://id.example.test\"\n";
const MAPPING: &str = r#"
[[mapping.rule]]
id = "engineers"
source = "okta"
match.claim = "/groups"
glob = "eng-*"
roles = ["engineer"]

[[mapping.rule]]
id = "admins"
source = "okta"
match.claim = "/groups"
equals = "app-admins"
roles = ["admin"]

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
    /// `source` holds further keys of the source, `config` further sections.
    async fn new(database: Database, source: &str, config: &str) -> Ground {
        let okta = Oidc::issuer().await;
        let server = Setup::new(database).okta("okta", &okta, source).config(MAPPING).config(config).start().await;
        let client = server.client_add(&CLIENT).await;
        Ground { okta, server, client }
    }

    async fn exchange(&self, token: &str) -> Answer {
        self.server.exchange(&self.client, token, &[]).await
    }
}

/// The reasons in the audit for refused sign-ins, sorted. Refusals are written in batches, so it waits until `count` are there.
async fn reasons(server: &Server, count: usize) -> Vec<String> {
    let query = "SELECT reason FROM audit_records WHERE event = 'sign_in_refused' AND outcome = 'refused' ORDER BY reason";
    let mut rows = Vec::new();
    for _ in 0..50 {
        rows = server.rows(query);
        if rows.len() >= count {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    rows.sort_unstable();
    rows
}

/// The token with another header or other claims under the signature that it had.
fn tampered(token: &str, header: &Value, claims: &Value) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let changed = |part: &str, change: &Value| {
        let mut members: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        for (name, value) in change.as_object().unwrap() {
            members[name] = value.clone();
        }
        URL_SAFE_NO_PAD.encode(members.to_string())
    };
    format!("{}.{}.{}", changed(parts[0], header), changed(parts[1], claims), parts[2])
}

fn without_signature(token: &str) -> String {
    format!("{}.", token.rsplit_once('.').unwrap().0)
}

fn roles(meaning: &Value) -> Vec<&str> {
    let mut roles: Vec<&str> = meaning["roles"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    roles.sort_unstable();
    roles
}

on_both_databases! {
    async fn an_id_token_becomes_ours(database) {
        let ground = Ground::new(database, "", "").await;
        let auth_time = Clock::System.now() - 100;
        let token = ground.okta.mint_with(json!({"account": "alice", "claims": {"auth_time": auth_time, "amr": ["pwd", "mfa"]}})).await;
        let answer = ground.exchange(&token).await;
        assert_eq!(answer.text("issued_token_type"), ACCESS_TOKEN);
        assert_eq!((answer.text("token_type").as_str(), answer.text("scope").as_str()), ("Bearer", "read"));
        assert_eq!(answer.ok()["expires_in"], json!(900));
        assert!(answer.ok().get("refresh_token").is_none(), "nobody could ask Okta again without the person");
        assert_eq!(answer.header("cache-control"), "no-store");

        let answer = ground.server.introspect(&ground.client, &answer.access_token()).await;
        let alice = answer.ok();
        assert_eq!((&alice["active"], &alice["username"], &alice["source"]), (&json!(true), &json!("alice"), &json!("okta")));
        assert_eq!((&alice["auth_time"], &alice["amr"]), (&json!(auth_time), &json!(["pwd", "mfa"])));
        assert_eq!(roles(alice), ["admin", "engineer", "user"]);
        assert!(alice["grant_id"].is_string() && alice["identity_checked_at"].as_i64().unwrap() > auth_time, "{alice}");
        assert_eq!(alice["sub"].as_str().unwrap().len(), 32);

        // The account is the same next time, the grant is not; another person is another account.
        let again = ground.exchange(&ground.okta.mint("alice").await).await.access_token();
        let again = ground.server.introspect(&ground.client, &again).await;
        assert_eq!(again.ok()["sub"], alice["sub"]);
        assert_ne!(again.ok()["grant_id"], alice["grant_id"]);
        let bob = ground.server.introspect(&ground.client, &ground.exchange(&ground.okta.mint("bob").await).await.access_token()).await;
        assert_ne!(bob.ok()["sub"], alice["sub"]);
        assert_eq!((&bob.ok()["username"], roles(bob.ok())), (&json!("bob"), vec!["engineer", "user"]));
        let carol = ground.server.introspect(&ground.client, &ground.exchange(&ground.okta.mint("carol").await).await.access_token()).await;
        assert_eq!(roles(carol.ok()), ["user"]);
        assert_eq!(ground.server.rows("SELECT COUNT(*) FROM audit_records WHERE event = 'sign_in' AND source = 'okta'"), ["4"]);
    }

    async fn it_is_used_once(database) {
        let ground = Ground::new(database, "", ISSUER).await;
        let token = ground.okta.mint("alice").await;
        ground.exchange(&token).await.ok();
        ground.exchange(&token).await.refused(400, "invalid_grant");
        // Nor by another client.
        let other = ground.server.client_add(&CLIENT).await;
        ground.server.exchange(&other, &token, &[]).await.refused(400, "invalid_grant");
        assert_eq!(reasons(&ground.server, 2).await, ["replayed", "replayed"]);
    }

    async fn of_sixteen_at_once_one_wins(database) {
        let two_nodes = database.is_postgres();
        let ground = Ground::new(database, "", ISSUER).await;
        let second = match two_nodes {
            true => Some(Setup::beside(&ground.server).okta("okta", &ground.okta, "").config(MAPPING).config(ISSUER).start().await),
            false => None,
        };
        let nodes = [&ground.server, second.as_ref().unwrap_or(&ground.server)];
        let token = ground.okta.mint("alice").await;
        let all = (0..16).map(|n| nodes[n % 2].exchange(&ground.client, &token, &[]));
        let mut won = 0;
        for answer in futures_util::future::join_all(all).await {
            match answer.status {
                200 => won += 1,
                _ => drop(answer.refused(400, "invalid_grant")),
            }
        }
        assert_eq!(won, 1);
        for node in nodes {
            node.exchange(&ground.client, &token, &[]).await.refused(400, "invalid_grant");
            node.exchange(&ground.client, &ground.okta.mint("alice").await, &[]).await.ok();
        }
        assert_eq!(ground.server.rows("SELECT COUNT(*) FROM accounts"), ["1"], "one person, one account");
    }

    async fn tokens_that_are_not_good_enough(database) {
        let ground = Ground::new(database, "", "").await;
        let (okta, stranger) = (&ground.okta, Oidc::issuer().await);
        let now = Clock::System.now();
        let good = okta.mint("alice").await;
        let symmetric = jsonwebtoken::encode(
            &jsonwebtoken::Header::default(),
            &json!({"iss": okta.url(), "aud": Oidc::CLIENT_ID, "sub": "00ualice", "iat": now, "exp": now + 600}),
            &jsonwebtoken::EncodingKey::from_secret(Oidc::CLIENT_ID.as_bytes()),
        );
        let cases = [
            (okta.mint_with(json!({"client": "other-app"})).await, "wrong_audience"),
            (okta.mint_with(json!({"claims": {"azp": "other-app"}})).await, "wrong_audience"),
            (stranger.mint("alice").await, "wrong_issuer"),
            (tampered(&stranger.mint("alice").await, &json!({}), &json!({"iss": okta.url()})), "unknown_key"),
            (okta.mint_with(json!({"expires_at": now - 120})).await, "expired"),
            (okta.mint_with(json!({"claims": {"iat": now - 700}})).await, "too_old"),
            (okta.mint_with(json!({"claims": {"nbf": now + 600}})).await, "not_yet_valid"),
            (okta.mint_with(json!({"claims": {"scp": ["openid"], "cid": Oidc::CLIENT_ID}})).await, "wrong_token_type"),
            (okta.mint_with(json!({"use": "logout", "claims": {"events": {}}})).await, "wrong_token_type"),
            (tampered(&good, &json!({}), &json!({"sub": "00uroot"})), "bad_signature"),
            (tampered(&good, &json!({"alg": "none"}), &json!({})), "alg_not_allowed"),
            (without_signature(&tampered(&good, &json!({"alg": "none"}), &json!({}))), "alg_not_allowed"),
            (without_signature(&good), "bad_signature"),
            (symmetric.unwrap(), "alg_not_allowed"),
            (tampered(&good, &json!({"jku": "https://evil.test/keys"}), &json!({})), "alg_not_allowed"),
            (format!("{good}="), "malformed"),
            ("not.a.token".to_owned(), "malformed"),
        ];
        let mut expected = Vec::new();
        for (token, reason) in cases {
            let answer = ground.exchange(&token).await;
            assert!(answer.status == 400, "{reason}: {}", answer.body);
            answer.refused(400, "invalid_request");
            assert!(!answer.body.contains(reason), "the caller is not told: {}", answer.body);
            expected.push(reason);
        }
        expected.sort_unstable();
        assert_eq!(reasons(&ground.server, expected.len()).await, expected);
        // None of these used the good one up.
        ground.exchange(&good).await.ok();
        assert!(!ground.server.log().contains(&good));
    }

    async fn what_a_request_must_say(database) {
        let Ground { okta, server, client } = Ground::new(database, "", "").await;
        let token = okta.mint("alice").await;
        let base = [("grant_type", EXCHANGE), ("subject_token", token.as_str())];
        let with = |more: &[(&'static str, &'static str)]| [&base[..], more].concat();
        for wrong in [
            with(&[]),
            with(&[("subject_token_type", "")]),
            with(&[("subject_token_type", ACCESS_TOKEN)]),
            with(&[("subject_token_type", "id_token")]),
            with(&[("subject_token_type", ID_TOKEN), ("requested_token_type", ID_TOKEN)]),
            with(&[("subject_token_type", ID_TOKEN), ("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")]),
            with(&[("subject_token_type", ID_TOKEN), ("actor_token", "x"), ("actor_token_type", ID_TOKEN)]),
            vec![("grant_type", EXCHANGE), ("subject_token_type", ID_TOKEN)],
        ] {
            server.token(&client, &wrong).await.refused(400, "invalid_request");
        }
        // Nothing of this used it up.
        server.exchange(&client, &token, &[("requested_token_type", ACCESS_TOKEN)]).await.ok();
    }

    async fn what_the_client_may(database) {
        let ground = Ground::new(database, "", "[[source]]\nname = \"local\"\ntype = \"local\"\n").await;
        let Ground { okta, server, client } = &ground;
        let token = okta.mint("alice").await;
        let without_grant = server.client_add(&["--grant", "password"]).await;
        server.exchange(&without_grant, &token, &[]).await.refused(400, "unauthorized_client");
        let local_only = server.client_add(&["--grant", EXCHANGE, "--source", "local"]).await;
        server.exchange(&local_only, &token, &[]).await.refused(400, "unauthorized_client");
        assert_eq!(reasons(server, 1).await, ["unauthorized_client"]);
        for target in ["resource", "audience"] {
            server.exchange(client, &token, &[(target, "https://elsewhere.test/")]).await.refused(400, "invalid_target");
        }
        server.exchange(client, &token, &[("scope", "read admin")]).await.refused(400, "invalid_scope");
        let narrow = server
            .client_add(&["--grant", EXCHANGE, "--source", "okta", "--audience", "https://api.test/", "--role-ceiling", "eng*"])
            .await;
        let answer = server.exchange(&narrow, &token, &[("audience", "https://api.test/")]).await;
        let meaning = server.introspect(&narrow, &answer.access_token()).await;
        assert_eq!((&meaning.ok()["aud"], roles(meaning.ok())), (&json!("https://api.test/"), vec!["engineer"]));
    }

    async fn groups_that_are_missing_or_cut(database) {
        let ground = Ground::new(database, "groups_required = true", "").await;
        let without = ground.okta.mint_with(json!({"account": "alice", "claims": {"groups": null}})).await;
        ground.exchange(&without).await.refused(400, "invalid_request");
        let cut = ground.okta.mint_with(json!({"claims": {"groups": (0..100).map(|n| format!("g{n}")).collect::<Vec<_>>()}})).await;
        ground.exchange(&cut).await.refused(400, "invalid_request");
        ground.exchange(&ground.okta.mint_with(json!({"claims": {"groups": []}})).await).await.ok();
        assert_eq!(reasons(&ground.server, 2).await, ["groups_unavailable", "groups_unavailable"]);
    }

    async fn the_mapping_may_say_no(database) {
        let ground = Ground::new(database, "", "").await;
        let leaver = ground.okta.mint_with(json!({"account": "alice", "claims": {"groups": ["eng-backend", "leavers"]}})).await;
        ground.exchange(&leaver).await.refused(400, "invalid_grant");
        assert_eq!(reasons(&ground.server, 1).await, ["denied_by_mapping"]);
        assert_eq!(ground.server.rows("SELECT COUNT(*) FROM accounts"), ["0"]);
    }

    async fn keys_that_cannot_be_had_decide_nothing(database) {
        let ground = Ground::new(database, "", "[limits]\nexchange_failures = \"1/5m\"\n").await;
        let token = ground.okta.mint("alice").await;
        ground.okta.break_keys(500).await;
        for _ in 0..3 {
            let answer = ground.exchange(&token).await;
            answer.refused(503, "temporarily_unavailable");
            assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
        }
        ground.okta.break_keys(200).await;
        // Okta is asked again some seconds after a failure; the token is still good, and no failure was counted.
        let mut answer = ground.exchange(&token).await;
        for _ in 0..60 {
            if answer.status != 503 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
            answer = ground.exchange(&token).await;
        }
        answer.ok();
        assert!(reasons(&ground.server, 0).await.is_empty(), "an outage is no refusal");
    }

    async fn keys_that_change_in_an_emergency(database) {
        let ground = Ground::new(database, "", "").await;
        let (first, unused) = (ground.okta.mint("alice").await, ground.okta.mint("alice").await);
        ground.exchange(&first).await.ok();
        ground.okta.rotate().await;
        ground.exchange(&ground.okta.mint("alice").await).await.ok();
        assert_eq!(ground.okta.key_fetches().await, 2, "one fetch at first, one for the unknown key");
        ground.exchange(&unused).await.refused(400, "invalid_request");
        assert_eq!(reasons(&ground.server, 1).await, ["unknown_key"]);
    }

    async fn known_keys_serve_while_okta_fails(database) {
        let ground = Ground::new(database, "", "").await;
        ground.exchange(&ground.okta.mint("alice").await).await.ok();
        let old = ground.okta.mint("alice").await;
        ground.okta.break_keys(500).await;
        ground.okta.rotate().await;
        ground.exchange(&ground.okta.mint("alice").await).await.refused(503, "temporarily_unavailable");
        ground.exchange(&old).await.ok();
    }

    async fn a_client_with_many_bad_tokens_waits(database) {
        let ground = Ground::new(database, "", "[limits]\nexchange_failures = \"3/5m\"\n").await;
        let used = ground.okta.mint("alice").await;
        ground.exchange(&used).await.ok();
        // What anybody can write keeps nobody out, not even whom it names.
        for _ in 0..4 {
            ground.exchange("a.b.c").await.refused(400, "invalid_request");
            ground.exchange(&without_signature(&used)).await.refused(400, "invalid_request");
        }
        for _ in 0..3 {
            ground.exchange(&used).await.refused(400, "invalid_grant");
        }
        let token = ground.okta.mint("alice").await;
        let answer = ground.exchange(&token).await;
        answer.refused(429, "temporarily_unavailable");
        assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
        ground.exchange(&ground.okta.mint("bob").await).await.ok();
        let other = ground.server.client_add(&CLIENT).await;
        ground.server.exchange(&other, &token, &[]).await.ok();
    }
}
