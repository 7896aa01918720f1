//! Clients of the configuration file are what the file says: after a start, after a change of their secrets, and after they left it.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Client, Database, Server, Setup, eventually, on_both_databases};

const APP: &str = "[[client]]\nid = \"app\"\nsecrets_file = \"app.secrets\"\ngrants = [\"client_credentials\"]\nscopes = [\"read\"]\n";
const SPARE: &str = "[[client]]\nid = \"spare\"\nsecrets_file = \"spare.secrets\"\ngrants = [\"client_credentials\"]\n";
const OLD: &str = "the-old-secret-of-the-app-0123456789";
const NEW: &str = "the-new-secret-of-the-app-0123456789-and-more";
const SHARED: &str = "the-secret-of-the-spare-client-0123456789";
const OWN: [(&str, &str); 1] = [("grant_type", "client_credentials")];
/// A glance at the files each second, and the feed after it.
const SOON: Duration = Duration::from_millis(2_500);

async fn start(database: Database) -> Server {
    Setup::new(database).config(APP).config(SPARE).file("app.secrets", OLD).file("spare.secrets", SHARED).start().await
}

fn app(secret: &str) -> Client {
    Client::new("app", secret)
}

fn write(server: &Server, file: &str, text: &str) {
    std::fs::write(server.directory().join(file), text).unwrap();
}

async fn works(server: &Server, secret: &str) -> bool {
    let answer = server.token(&app(secret), &OWN).await;
    assert!(matches!(answer.status, 200 | 401), "{}", answer.body);
    answer.status == 200
}

/// What the lines of `check` announce.
async fn announced(server: &Server) -> Vec<String> {
    let said = server.cli(&["check"]).await.ok();
    said.lines().filter(|line| line.contains(" will be ")).map(str::to_owned).collect()
}

fn written(server: &Server) -> Vec<String> {
    let tables = ["audit_records", "feed_entries", "clients", "client_secrets"];
    tables.iter().flat_map(|table| server.rows(&format!("SELECT count(*) FROM {table}"))).collect()
}

on_both_databases! {
    async fn a_start_applies_them_and_the_same_file_again_changes_nothing(database) {
        let mut server = start(database).await;
        let token = server.own_token(&app(OLD)).await;
        assert_eq!(server.introspect(&app(OLD), &token).await.ok()["scope"], json!("read"));
        let shown = server.cli(&["client", "show", "app", "--json"]).await.json();
        assert_eq!((&shown["declared"], shown["secrets"].as_array().map(Vec::len)), (&json!(true), Some(1)));
        let before = written(&server);
        assert_eq!(announced(&server).await, Vec::<String>::new());
        for _ in 0..2 {
            assert!(server.stop().await.success());
            server.restart().await;
        }
        assert_eq!(written(&server), before, "a restart wrote something");
        assert!(server.is_active(&app(OLD), &token).await);
        assert!(!server.log().contains(OLD) && !server.rows("SELECT * FROM client_secrets").join(" ").contains(OLD));
    }

    async fn check_tells_what_a_start_would_change(database) {
        let mut server = start(database).await;
        server.edit_config("scopes = [\"read\"]", "scopes = [\"read\", \"write\"]");
        server.edit_config("id = \"spare\"", "id = \"third\"");
        let expected = ["third will be added", "app will be changed", "spare will be removed"].map(|what| format!("the declared client {what}"));
        assert_eq!(announced(&server).await, expected);
        assert_eq!(announced(&server).await, expected, "check itself changed something");
        server.restart().await;
        assert_eq!(announced(&server).await, Vec::<String>::new());
        assert_eq!(server.token(&app(OLD), &OWN).await.text("scope"), "read write");
        server.own_token(&Client::new("third", SHARED)).await;
        server.token(&Client::new("spare", SHARED), &OWN).await.refused(401, "invalid_client");

        server.kill();
        write(&server, "app.secrets", NEW);
        assert_eq!(announced(&server).await, [&expected[1][..]], "a secret is a difference too");
    }

    async fn the_command_line_does_not_touch_them(database) {
        let server = start(database).await;
        let id = server.cli(&["client", "show", "spare", "--json"]).await.json()["secrets"][0]["id"].as_str().unwrap().to_owned();
        let config = std::fs::read_to_string(server.directory().join("countersign.toml")).unwrap();
        let line = config[..config.find(SPARE).unwrap()].lines().count() + 1;
        for command in [&["client", "remove", "spare"][..], &["client", "secret", "add", "spare"], &["client", "secret", "remove", "spare", &id]] {
            let said = server.cli(command).await.failed(1);
            assert!(said.contains(&format!("countersign.toml:{line}:")) && said.contains("spare"), "{command:?}: {said}");
        }
        let said = server.cli(&["client", "add", "spare", "--grant", "client_credentials"]).await.failed(1);
        assert!(said.contains("already"), "{said}");
        server.own_token(&Client::new("spare", SHARED)).await;
    }

    async fn a_changed_secrets_file_counts_while_the_server_runs(database) {
        let server = start(database).await;
        let token = server.own_token(&app(OLD)).await;
        write(&server, "app.secrets", &format!("{OLD}\n{NEW}\n"));
        eventually(SOON, "the new secret works", async || works(&server, NEW).await).await;
        assert!(works(&server, OLD).await, "both are in the file");
        write(&server, "app.secrets", &format!("{NEW}\n"));
        eventually(SOON, "the old secret is refused", async || !works(&server, OLD).await).await;
        assert!(works(&server, NEW).await);
        assert!(server.is_active(&app(NEW), &token).await, "a token outlives the secret that fetched it");
        server.own_token(&Client::new("spare", SHARED)).await;
        assert!(!server.log().contains(NEW));
    }

    async fn a_broken_secrets_file_changes_nothing(database) {
        let mut server = start(database).await;
        let short = "too-short-to-count";
        write(&server, "app.secrets", &format!("{NEW}\n{short}\n"));
        eventually(SOON, "the log tells of it", async || server.log().contains("the secrets before it stay in force")).await;
        let log = server.log();
        assert!(log.contains("app.secrets:2") && log.contains("at least 32"), "{log}");
        assert!(!log.contains(short) && !log.contains(NEW), "a secret is in the log");
        assert!(works(&server, OLD).await && !works(&server, short).await && !works(&server, NEW).await);
        std::fs::remove_file(server.directory().join("app.secrets")).unwrap();
        eventually(SOON, "the log tells of it", async || server.log().contains("cannot read")).await;
        assert!(works(&server, OLD).await);
        write(&server, "app.secrets", NEW);
        eventually(SOON, "the mended file counts", async || works(&server, NEW).await).await;
        assert!(!works(&server, OLD).await);
        server.restart().await;
        assert!(works(&server, NEW).await);
    }

    async fn who_leaves_the_file_is_gone_with_its_tokens(database) {
        let mut server = start(database).await;
        let watcher = server.client_add(&["--introspect", "any"]).await;
        let (gone, kept) = (server.own_token(&app(OLD)).await, server.own_token(&Client::new("spare", SHARED)).await);
        server.edit_config(APP, "");
        assert!(server.is_active(&watcher, &gone).await, "the running server has read the file already");
        server.restart().await;
        server.token(&app(OLD), &OWN).await.refused(401, "invalid_client");
        assert!(!server.is_active(&watcher, &gone).await, "the token outlives its client");
        assert!(server.is_active(&watcher, &kept).await);
        server.cli(&["client", "show", "app"]).await.failed(1);
        // Whoever has the name later does not inherit its tokens.
        server.edit_config(SPARE, &format!("{SPARE}{APP}"));
        server.restart().await;
        assert!(works(&server, OLD).await && !server.is_active(&watcher, &gone).await);
    }
}
