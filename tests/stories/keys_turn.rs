//! Keys turn: a successor is published before it is used, what an old key protected still opens, and a revoked key takes
//! everything under it along. (What takes days, retiring and removing, is tested with a manual clock beside `tokens::lifecycle`.)

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::{Client, Database, Server, Setup, eventually, on_both_databases, within_a_second};

const TOKENS: &str = "[tokens]\nmax_staleness = \"1s\"\n";
const SERVICE: [&str; 4] = ["--grant", "client_credentials", "--scope", "read"];
const JWT: [&str; 6] = ["--grant", "client_credentials", "--scope", "read", "--token-format", "jwt"];

/// The kids of an algorithm in a state, by `keys list --json`.
async fn kids(server: &Server, algorithm: &str, state: &str) -> Vec<String> {
    let list = server.cli(&["keys", "list", "--json"]).await.json();
    let of = |key: &&Value| key["algorithm"] == json!(algorithm) && key["state"] == json!(state);
    list.as_array().unwrap().iter().filter(of).map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

async fn published(server: &Server) -> BTreeSet<String> {
    let answer = server.get("/oauth2/jwks").await;
    let keys = answer.ok()["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// The kid in the header of a JWT.
fn kid(token: &str) -> String {
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

/// The id of the sealing key in an opaque token, in clear behind the version.
fn sealed_by(token: &str) -> String {
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix("cs_at_").unwrap()).unwrap();
    bytes[1..5].iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn house(database: Database) -> (Server, Client, Client) {
    let server = Setup::new(database).config(TOKENS).start().await;
    let (opaque, jwt) = (server.client_add(&SERVICE).await, server.client_add(&JWT).await);
    (server, opaque, jwt)
}

on_both_databases! {
    async fn all_algorithms_are_there_from_the_first_start(database) {
        let (server, opaque, _) = house(database).await;
        let mut signing = BTreeSet::new();
        for algorithm in ["ES256", "RS256", "EdDSA"] {
            let kids = kids(&server, algorithm, "signing").await;
            assert_eq!(kids.len(), 1, "{algorithm}");
            let client = server.client_add(&[&JWT[..], &["--signing-algorithm", algorithm]].concat()).await;
            let token = server.own_token(&client).await;
            assert_eq!(kid(&token), kids[0]);
            assert!(server.is_active(&client, &token).await);
            signing.extend(kids);
        }
        assert_eq!(published(&server).await, signing);
        assert_eq!(kids(&server, "A256GCMSIV", "signing").await, [sealed_by(&server.own_token(&opaque).await)]);
        let said = server.cli(&["keys", "list"]).await.ok();
        assert_eq!(said.lines().count(), 5, "{said}");
        let stored = server.rows("SELECT sealed FROM keys").join("");
        assert!(!said.contains("sealed") && !said.contains(&stored[..20]), "{said}");
    }

    async fn a_successor_is_published_at_once_and_used_when_all_can_know_it(database) {
        let (server, opaque, jwt) = house(database).await;
        let (old_opaque, old_jwt) = (server.own_token(&opaque).await, server.own_token(&jwt).await);
        let before = published(&server).await;
        let etag = server.get("/oauth2/jwks").await.header("etag").to_owned();
        server.cli(&["keys", "rotate"]).await.ok();
        within_a_second("the successors are published", async || published(&server).await.len() == 6).await;
        assert!(published(&server).await.is_superset(&before));
        assert_ne!(server.get("/oauth2/jwks").await.header("etag"), etag);
        let next = kids(&server, "ES256", "published").await;
        assert!(published(&server).await.contains(&next[0]));
        assert_eq!(kid(&server.own_token(&jwt).await), kid(&old_jwt), "a signing key waits until every cached JWKS has it");

        let said = server.cli(&["keys", "rotate"]).await.ok();
        assert!(said.contains("successor") || said.contains("sealing"), "{said}");
        assert_eq!(kids(&server, "ES256", "published").await, next, "a second rotation adds nothing");

        // The sealing key waits only until every node has followed.
        let old = sealed_by(&old_opaque);
        eventually(Duration::from_secs(10), "the next sealing key is in use", async || {
            sealed_by(&server.own_token(&opaque).await) != old
        })
        .await;
        assert!(server.is_active(&opaque, &old_opaque).await && server.is_active(&jwt, &old_jwt).await);
        assert!(server.is_active(&opaque, &server.own_token(&opaque).await).await);
        assert!(kids(&server, "A256GCMSIV", "retired").await.contains(&old));
    }

    async fn a_revoked_signing_key_takes_its_tokens_along(database) {
        let (server, opaque, jwt) = house(database).await;
        let (untouched, dead) = (server.own_token(&opaque).await, server.own_token(&jwt).await);
        let old = kid(&dead);
        server.cli(&["keys", "revoke", &old]).await.ok();
        within_a_second("the key is no longer published", async || !published(&server).await.contains(&old)).await;
        assert!(!server.is_active(&jwt, &dead).await);
        assert!(server.is_active(&opaque, &untouched).await, "other keys have nothing to do with it");
        let next = server.own_token(&jwt).await;
        assert!(kid(&next) != old && published(&server).await.contains(&kid(&next)));
        assert!(server.is_active(&jwt, &next).await);
        assert!(kids(&server, "ES256", "revoked").await.contains(&old));
        assert!(server.cli(&["keys", "revoke", &old]).await.failed(1).contains(&old));
        assert!(server.cli(&["keys", "revoke", "nobody"]).await.failed(1).contains("keys list"));
    }

    async fn with_a_successor_waiting_a_revoked_key_leaves_no_gap(database) {
        let (server, _, jwt) = house(database).await;
        let first = kid(&server.own_token(&jwt).await);
        server.cli(&["keys", "rotate"]).await.ok();
        let successor = kids(&server, "ES256", "published").await.remove(0);
        server.cli(&["keys", "revoke", &first]).await.ok();
        within_a_second("the successor takes over", async || kid(&server.own_token(&jwt).await) == successor).await;

        server.cli(&["keys", "rotate"]).await.ok();
        let third = kids(&server, "ES256", "published").await.remove(0);
        server.cli(&["keys", "revoke", &third]).await.ok();
        within_a_second("the revoked successor is gone", async || !published(&server).await.contains(&third)).await;
        assert_eq!(kid(&server.own_token(&jwt).await), successor);
        let list = server.cli(&["keys", "list", "--json"]).await.json();
        let row = list.as_array().unwrap().iter().find(|key| key["kid"] == json!(successor)).unwrap();
        assert_eq!(row["retired_at"], Value::Null, "a key whose successor is gone does not retire");
    }

    async fn a_revoked_sealing_key_takes_access_and_refresh_tokens_along(database) {
        let (server, opaque, jwt) = house(database).await;
        let password = "a lamp beside 7 green doors";
        server.user_add("anna", password, &[]).await;
        let app = server.client_add(&["--grant", "password", "--grant", "refresh_token"]).await;
        let held = server.sign_in(&app, "anna", password).await;
        let signed = server.own_token(&jwt).await;
        let key = sealed_by(&held.access_token());
        server.cli(&["keys", "revoke", &key]).await.ok();
        within_a_second("tokens under a revoked key", async || !server.is_active(&app, &held.access_token()).await).await;
        server.refresh(&app, &held.text("refresh_token")).await.refused(400, "invalid_grant");
        assert_eq!(server.revoke(&app, &held.access_token()).await.status, 200);
        assert!(server.is_active(&jwt, &signed).await);
        let next = server.own_token(&opaque).await;
        assert!(sealed_by(&next) != key && server.is_active(&opaque, &next).await);
        let again = server.sign_in(&app, "anna", password).await;
        server.refresh(&app, &again.text("refresh_token")).await.ok();
    }

    async fn tokens_outlive_restarts_under_every_key(database) {
        let (mut server, opaque, jwt) = house(database).await;
        let mut tokens = vec![(opaque.clone(), server.own_token(&opaque).await), (jwt.clone(), server.own_token(&jwt).await)];
        let old = sealed_by(&tokens[0].1);
        server.kill();
        server.cli(&["keys", "rotate"]).await.ok();
        server.restart().await;
        eventually(Duration::from_secs(10), "the next sealing key is in use", async || {
            sealed_by(&server.own_token(&opaque).await) != old
        })
        .await;
        tokens.push((opaque.clone(), server.own_token(&opaque).await));
        let before = published(&server).await;
        assert!(server.stop().await.success());
        server.restart().await;
        for (client, token) in &tokens {
            assert!(server.is_active(client, token).await);
        }
        assert_eq!(published(&server).await, before);
    }

    async fn with_the_wrong_key_encryption_key_nothing_starts(database) {
        let config = format!("{TOKENS}[keys]\nencryption_key_file = \"the-key\"\n");
        let right = STANDARD.encode([7u8; 32]);
        let mut server = Setup::new(database).config(&config).file("the-key", &right).start().await;
        let client = server.client_add(&SERVICE).await;
        let token = server.own_token(&client).await;
        server.kill();
        let start = |text: String| Setup::beside(&server).config(&config).file("the-key", &text).refused();
        let said = start(STANDARD.encode([8u8; 32])).await;
        assert!(said.contains("the-key") && said.contains("put the right key back"), "{said}");
        for wrong in ["", "c2hvcnQ=", "no base64 at all!"] {
            let said = start(wrong.to_owned()).await;
            assert!(said.contains("the-key") && said.contains("base64 of 32 bytes"), "{said}");
            assert!(wrong.is_empty() || !said.contains(wrong), "{said}");
        }
        std::fs::remove_file(server.directory().join("the-key")).unwrap();
        let said = server.cli(&["keys", "rotate"]).await.failed(1);
        assert!(said.contains("the-key") && said.contains("cannot read"), "{said}");
        std::fs::write(server.directory().join("the-key"), format!("{right}\n")).unwrap();
        server.restart().await;
        assert!(server.is_active(&client, &token).await, "with the right key everything is as before");
    }
}

#[tokio::test]
async fn postgres_without_a_key_encryption_key_does_not_start() {
    let database = Database::postgres();
    let (url, folder) = (database.url(), tempfile::TempDir::new().unwrap());
    std::fs::write(folder.path().join("c.toml"), format!("[database]\nurl = {url:?}\n")).unwrap();
    let output =
        crate::harness::countersign(folder.path(), &["serve", "--config", "c.toml"], &[("COUNTERSIGN_SERVER__LISTEN", "127.0.0.1:0")]);
    let said = output.failed(1);
    assert!(said.contains("keys.encryption_key_file") && said.contains("COUNTERSIGN_KEYS__ENCRYPTION_KEY"), "{said}");
    assert!(database.rows(folder.path(), "SELECT kid FROM keys").is_empty(), "no key was made");
}

#[tokio::test]
async fn sqlite_makes_its_key_once_and_never_again() {
    let mut server = Setup::new(Database::sqlite()).start().await;
    let file = server.directory().join("key-encryption-key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    server.kill();
    std::fs::remove_file(&file).unwrap();
    let said = Setup::beside(&server).refused().await;
    assert!(said.contains("key-encryption-key is missing"), "{said}");
    assert!(!file.exists(), "another key would open nothing of what is stored");
}
