//! Every way to a token asks the same questions: a client that is gone, an account that is disabled and a source that the client no
//! longer admits are refused at each of them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::harness::{Answer, Client, Database, Oidc, Server, Setup, eventually, on_both_databases};

const PASSWORD: &str = "a lamp beside 7 green doors";
const SECRET: &str = "the-secret-of-the-one-client-0123456789";
const CONFIG: &str = r#"
[dialect.croit]
client = "app"

[limits]
login_failures = "1000/5m"
address_failures = "1000/5m"

[[source]]
name = "local"
type = "local"
"#;
const APP: &str = r#"[[client]]
id = "app"
secrets_file = "app.secret"
grants = ["client_credentials", "password", "refresh_token", "urn:ietf:params:oauth:grant-type:token-exchange"]
scopes = ["read"]
"#;

/// The doors of the client itself, of people with a password, and of people with an id token.
const OF_THE_CLIENT: [&str; 2] = ["client_credentials", "croit login of the client"];
const BY_PASSWORD: [&str; 4] = ["password", "refresh", "croit login", "croit login-form"];
const BY_ID_TOKEN: [&str; 2] = ["exchange", "okta login"];

struct Ground {
    okta: Oidc,
    server: Server,
    client: Client,
    refresh: String,
}

impl Ground {
    /// A server with one client, with anna of its own accounts and alice of Okta signed in through it.
    async fn new(database: Database) -> Ground {
        let okta = Oidc::issuer().await;
        let setup = Setup::new(database).okta("okta", &okta, "").config(CONFIG).config(APP).file("app.secret", SECRET);
        let (server, client) = (setup.start().await, Client::new("app", SECRET));
        server.user_add("anna", PASSWORD, &[]).await;
        let refresh = server.sign_in(&client, "anna", PASSWORD).await.text("refresh_token");
        let mut ground = Ground { okta, server, client, refresh };
        ground.open(&[&OF_THE_CLIENT[..], &BY_PASSWORD, &BY_ID_TOKEN].concat()).await;
        ground
    }

    async fn knock(&self, door: &str) -> Answer {
        let (server, client) = (&self.server, &self.client);
        let croit = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        match door {
            "client_credentials" => server.token(client, &[("grant_type", "client_credentials")]).await,
            "croit login of the client" => {
                server.raw("/api/auth/login", &[("authorization", &croit(&client.id, client.secret()))], "").await
            }
            "password" => server.sign_in(client, "anna", PASSWORD).await,
            "refresh" => server.refresh(client, &self.refresh).await,
            "croit login" => server.raw("/api/auth/login", &[("authorization", &croit("anna", PASSWORD))], "").await,
            "croit login-form" => {
                let form = format!("username=anna&password={}", PASSWORD.replace(' ', "+"));
                server.raw("/api/auth/login-form", &[], form).await
            }
            "exchange" => server.exchange(client, &self.okta.mint("alice").await, &[]).await,
            "okta login" => {
                let body = json!({"idToken": self.okta.mint("alice").await}).to_string();
                server.raw("/api/auth/okta/login", &[("content-type", "application/json")], body).await
            }
            _ => panic!("there is no door {door}"),
        }
    }

    /// Each of these doors lets in.
    async fn open(&mut self, doors: &[&str]) {
        for door in doors {
            let answer = self.knock(door).await;
            assert_eq!(answer.status, 200, "{door}: {}", answer.body);
            if *door == "refresh" {
                self.refresh = answer.text("refresh_token");
            }
        }
    }

    /// Each of these doors refuses.
    async fn closed(&self, doors: &[&str]) {
        for door in doors {
            let answer = self.knock(door).await;
            assert!(matches!(answer.status, 400 | 401), "{door}: {} {}", answer.status, answer.body);
            assert!(answer.json["error"].is_string() && !answer.body.contains("cs_at_"), "{door}: {}", answer.body);
        }
    }
}

on_both_databases! {
    async fn for_a_client_that_is_gone(database) {
        let ground = Ground::new(database).await;
        // Another node begins with a file that lacks the client; this one still has it in its own.
        Setup::beside(&ground.server).start().await;
        eventually(Duration::from_secs(1), "the client is gone", async || ground.knock("client_credentials").await.status == 401).await;
        ground.closed(&[&OF_THE_CLIENT[..], &BY_PASSWORD, &BY_ID_TOKEN].concat()).await;
    }

    async fn for_an_account_that_is_disabled(database) {
        let mut ground = Ground::new(database).await;
        let accounts = ground.server.cli(&["user", "list", "--json"]).await.json();
        for account in accounts.as_array().unwrap() {
            ground.server.cli(&["user", "disable", account["account_id"].as_str().unwrap()]).await.ok();
        }
        assert_eq!(accounts.as_array().unwrap().len(), 2, "{accounts}");
        // Without a wait: whether an account is disabled is asked of the database.
        ground.closed(&[&BY_PASSWORD[..], &BY_ID_TOKEN].concat()).await;
        ground.open(&OF_THE_CLIENT).await;
    }

    async fn for_a_source_that_the_client_no_longer_admits(database) {
        let mut ground = Ground::new(database).await;
        let (only_local, only_okta) = (format!("{APP}sources = [\"local\"]\n"), format!("{APP}sources = [\"okta\"]\n"));
        ground.server.edit_config(APP, &only_local);
        ground.server.restart().await;
        ground.closed(&BY_ID_TOKEN).await;
        ground.open(&[&OF_THE_CLIENT[..], &BY_PASSWORD].concat()).await;

        ground.server.edit_config(&only_local, &only_okta);
        ground.server.restart().await;
        ground.closed(&BY_PASSWORD).await;
        ground.open(&[&OF_THE_CLIENT[..], &BY_ID_TOKEN].concat()).await;
    }
}
