//! The clock of the machine jumps 90 s ahead and back, under a running server. What was revoked stays so, and what lives goes on.

use std::path::PathBuf;

use serde_json::json;

use crate::harness::{Client, Database, Oidc, Server, Setup, eventually, on_both_databases};

const PASSWORD: &str = "a lamp beside 7 green doors";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The library that moves a program's clock; monotonic time stays as it is, as it does on a real machine.
fn library() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    found.into_iter().find(|path| path.exists()).expect("libfaketime is missing: run tests/run.sh, which installs it")
}

/// Steps the server's clock by so many seconds from the true time.
fn step(server: &Server, seconds: i64) {
    // Written beside and moved into place, so that it is never read half.
    let (new, file) = (server.directory().join("clock.new"), server.directory().join("clock"));
    std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
    std::fs::rename(new, file).unwrap();
}

async fn house(database: Database, okta: &Oidc) -> (Server, Client) {
    let setup = Setup::new(database).config("[[source]]\nname = \"local\"\ntype = \"local\"").okta("okta", okta, "");
    let setup = setup.file("clock", "+0\n");
    let clock = setup.path("clock");
    let setup = setup.environment("LD_PRELOAD", library()).environment("FAKETIME_TIMESTAMP_FILE", clock);
    let server = setup.environment("FAKETIME_NO_CACHE", "1").environment("FAKETIME_DONT_FAKE_MONOTONIC", "1").start().await;
    server.user_add("anna", PASSWORD, &[]).await;
    let grants = ["client_credentials", "password", "refresh_token", EXCHANGE];
    let flags: Vec<&str> = grants.iter().flat_map(|grant| ["--grant", grant]).collect();
    let client = server.client_add(&[&flags[..], &["--access-lifetime", "1m"]].concat()).await;
    (server, client)
}

on_both_databases! {
    async fn ninety_seconds_ahead_and_back(database) {
        let okta = Oidc::issuer().await;
        let (server, client) = house(database, &okta).await;
        let issued_at = |token: String| { let (server, client) = (&server, &client); async move {
            server.introspect(client, &token).await.ok()["iat"].as_i64().unwrap()
        }};
        let before = issued_at(server.own_token(&client).await).await;
        let signed_in = server.sign_in(&client, "anna", PASSWORD).await;
        let (revoked, kept) = (server.own_token(&client).await, server.own_token(&client).await);
        server.revoke(&client, &revoked).await;
        let used = okta.mint("alice").await;
        server.exchange(&client, &used, &[]).await.ok();

        step(&server, 90);
        let ahead = issued_at(server.own_token(&client).await).await;
        assert!(ahead - before >= 90, "the clock has moved: {before} {ahead}");
        assert!(!server.is_active(&client, &kept).await, "a minute has passed by this clock");
        assert!(!server.is_active(&client, &revoked).await);
        assert_eq!(server.get("/readyz").await.status, 200, "a step is no staleness");
        let refreshed = server.refresh(&client, &signed_in.text("refresh_token")).await;
        let of_tomorrow = refreshed.access_token();
        assert!(server.is_active(&client, &of_tomorrow).await);
        server.exchange(&client, &used, &[]).await.refused(400, "invalid_grant");
        server.exchange(&client, &okta.mint("alice").await, &[]).await.ok();
        let caught = server.own_token(&client).await;
        server.revoke(&client, &caught).await;

        step(&server, 0);
        assert!(!server.is_active(&client, &revoked).await, "revoked is revoked, whatever the time");
        assert!(!server.is_active(&client, &caught).await);
        assert!(server.is_active(&client, &of_tomorrow).await);
        server.exchange(&client, &used, &[]).await.refused(400, "invalid_grant");
        let next = server.refresh(&client, &refreshed.text("refresh_token")).await;
        assert!(server.is_active(&client, &next.access_token()).await);

        step(&server, -90);
        assert_eq!(server.get("/readyz").await.status, 200);
        assert!(!server.is_active(&client, &revoked).await && !server.is_active(&client, &caught).await);
        // By this clock the provider lives in the future, further than the skew that is allowed.
        server.exchange(&client, &okta.mint("alice").await, &[]).await.refused(400, "invalid_request");
        let own = server.own_token(&client).await;
        server.revoke(&client, &own).await;
        assert!(!server.is_active(&client, &own).await);
        let again = server.refresh(&client, &next.text("refresh_token")).await;
        assert!(server.is_active(&client, &again.access_token()).await);
        server.refresh(&client, &signed_in.text("refresh_token")).await.refused(400, "invalid_grant");
        eventually(std::time::Duration::from_secs(2), "the reason is in the audit", async || {
            server.rows("SELECT reason FROM audit_records WHERE reason = 'not_yet_valid'").len() == 1
        })
        .await;
        assert_eq!(server.introspect(&client, &again.access_token()).await.json["active"], json!(false), "its family was ended by the replay");
    }
}
