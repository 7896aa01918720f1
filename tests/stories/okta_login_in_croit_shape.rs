//! Okta sign-in as croit's management API knows it: signInConfig for the browser, then the id token for a token of ours.

use serde_json::{Value, json};

use crate::harness::{Answer, Database, Oidc, Server, Setup, on_both_databases};

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
"#;

async fn start(database: Database, okta: &Oidc, dialect: &str) -> Server {
    let dialect = format!("[dialect.croit]\n{dialect}\n");
    Setup::new(database).okta("okta", okta, "base_url = \"https://login.example.test\"").config(MAPPING).config(&dialect).start().await
}

async fn login(server: &Server, body: &Value) -> Answer {
    server.raw("/api/auth/okta/login", &[("content-type", "application/json")], body.to_string()).await
}

fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

on_both_databases! {
    async fn the_browser_learns_where_to_sign_in(database) {
        let okta = Oidc::issuer().await;
        let server = start(database, &okta, "").await;
        let answer = server.get("/api/auth/okta/signInConfig").await;
        assert_eq!(
            answer.ok(),
            &json!({
                "baseUrl": "https://login.example.test",
                "clientId": Oidc::CLIENT_ID,
                "issuer": okta.url(),
                "audience": Oidc::CLIENT_ID,
                "mapRoles": {},
            })
        );
        assert!(answer.header("cache-control").contains("public"), "{:?}", answer.headers);
        assert_eq!(okta.key_fetches().await, 0, "nobody is asked for it");
    }

    async fn roles_are_published_where_that_is_wanted(database) {
        let okta = Oidc::issuer().await;
        let server = start(database, &okta, "publish_roles = true").await;
        let answer = server.get("/api/auth/okta/signInConfig").await;
        assert_eq!(answer.ok()["mapRoles"], json!({"app-admins": ["admin"]}), "literal groups only");
    }

    async fn an_id_token_signs_in(database) {
        let okta = Oidc::issuer().await;
        let server = start(database, &okta, "").await;
        let answer = login(&server, &json!({"idToken": okta.mint("alice").await})).await;
        let body = answer.ok();
        assert_eq!(members(body), ["access_token", "expires_in", "passwordWasNeverChanged", "roles", "token_type", "userId"]);
        assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("bearer"), &json!(900)));
        assert_eq!(body["passwordWasNeverChanged"], json!(false));
        let mut roles: Vec<&str> = body["roles"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        roles.sort_unstable();
        assert_eq!(roles, ["admin", "engineer"]);
        assert!((1..1 << 53).contains(&body["userId"].as_i64().unwrap()), "{body}");

        let info = server.get_as("/api/auth/token-info", &answer.access_token()).await;
        assert_eq!((&info.ok()["username"], members(info.ok())), (&json!("alice"), vec!["expiry", "roles", "username"]));
        let again = login(&server, &json!({"idToken": okta.mint("alice").await})).await;
        assert_eq!(again.ok()["userId"], body["userId"], "the number stays");
        let bob = login(&server, &json!({"idToken": okta.mint("bob").await})).await;
        assert_ne!(bob.ok()["userId"], body["userId"]);

        let token = format!("Bearer {}", answer.access_token());
        assert_eq!(server.raw("/api/auth/logout", &[("authorization", &token)], "").await.status, 204);
        server.get_as("/api/auth/token-info", &answer.access_token()).await.refused(401, "invalid_token");
        server.get_as("/api/auth/token-info", &again.access_token()).await.ok();
    }

    async fn tokens_that_are_not_good_are_401(database) {
        let (okta, stranger) = (Oidc::issuer().await, Oidc::issuer().await);
        let server = start(database, &okta, "").await;
        let used = okta.mint("alice").await;
        login(&server, &json!({"idToken": used})).await.ok();
        for token in [
            used,
            "garbage".to_owned(),
            String::new(),
            stranger.mint("alice").await,
            okta.mint_with(json!({"client": "other-app"})).await,
            okta.mint_with(json!({"use": "logout", "claims": {"events": {}}})).await,
        ] {
            let answer = login(&server, &json!({"idToken": token})).await;
            answer.refused(401, "invalid_token");
            assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
        }
    }

    async fn bodies_that_are_no_login(database) {
        let okta = Oidc::issuer().await;
        let server = start(database, &okta, "").await;
        for body in [json!({}), json!([]), json!({"idToken": null}), json!({"idToken": 7}), json!({"id_token": "x"})] {
            login(&server, &body).await.refused(400, "invalid_request");
        }
        let path = "/api/auth/okta/login";
        server.raw(path, &[("content-type", "application/json")], "{\"idToken\":").await.refused(400, "invalid_request");
        server.raw(path, &[], format!("idToken={}", okta.mint("alice").await)).await.refused(400, "invalid_request");
        server.raw(path, &[("content-type", "text/plain")], json!({"idToken": "x"}).to_string()).await.refused(400, "invalid_request");
    }

    async fn okta_down_is_503(database) {
        let okta = Oidc::issuer().await;
        let server = start(database, &okta, "").await;
        let token = okta.mint("alice").await;
        okta.break_keys(500).await;
        login(&server, &json!({"idToken": token})).await.refused(503, "temporarily_unavailable");
        server.get("/api/auth/okta/signInConfig").await.ok();
    }

    async fn without_okta_there_is_nothing(database) {
        let server = Setup::new(database).config("[dialect.croit]\n").start().await;
        assert_eq!(server.get("/api/auth/okta/signInConfig").await.status, 404);
        assert_eq!(login(&server, &json!({"idToken": "x"})).await.status, 404);
    }
}
