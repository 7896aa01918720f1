//! A service has a client of its own, gets a token for itself, and resource servers ask what the token means.

use serde_json::json;

use crate::harness::{Client, Setup, eventually, on_both_databases};

const SERVICE: [&str; 6] = ["--grant", "client_credentials", "--scope", "read", "--scope", "write"];
const OWN: [(&str, &str); 1] = [("grant_type", "client_credentials")];

on_both_databases! {
    async fn by_basic_and_by_post(database) {
        let server = Setup::new(database).start().await;
        let client = server.client_add(&SERVICE).await;

        let by_basic = server.token(&client, &OWN).await;
        let by_post = server
            .raw("/oauth2/token", &[], format!("grant_type=client_credentials&client_id={}&client_secret={}", client.id, client.secret()))
            .await;
        for answer in [by_basic, by_post] {
            assert!(answer.access_token().starts_with("cs_at_"), "{}", answer.body);
            assert_eq!(answer.text("token_type"), "Bearer");
            assert_eq!(answer.text("scope"), "read write");
            assert_eq!(answer.ok()["expires_in"], json!(900));
            assert!(answer.json.get("refresh_token").is_none(), "a refresh token for a client's own token (RFC 6749 section 4.4.3)");
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }

    async fn every_token_is_another(database) {
        let server = Setup::new(database).start().await;
        let client = server.client_add(&SERVICE).await;
        assert_ne!(server.own_token(&client).await, server.own_token(&client).await);
    }

    async fn introspection_tells_all_that_is_promised(database) {
        let server = Setup::new(database).start().await;
        let client = server.client_add(&[&SERVICE[..], &["--role", "backup", "--role", "audit"]].concat()).await;
        let token = server.own_token(&client).await;

        let answer = server.introspect(&client, &token).await;
        let meaning = answer.ok();
        assert_eq!(meaning["active"], json!(true), "{}", answer.body);
        assert_eq!(meaning["client_id"], json!(client.id));
        assert_eq!(meaning["sub"], json!(client.id));
        assert_eq!(meaning["iss"], json!(server.origin()));
        assert_eq!(meaning["scope"], json!("read write"));
        assert_eq!(meaning["token_type"], json!("Bearer"));
        let mut roles: Vec<&str> = meaning["roles"].as_array().unwrap().iter().filter_map(|r| r.as_str()).collect();
        roles.sort_unstable();
        assert_eq!(roles, ["audit", "backup"]);
        assert_eq!(meaning["exp"].as_i64().unwrap() - meaning["iat"].as_i64().unwrap(), 900);
        assert_eq!(meaning["cache_for"], json!(60));
        assert!(meaning["rv"].is_i64() && meaning["jti"].is_string() && !meaning["aud"].is_null(), "{}", answer.body);
        assert_eq!(answer.header("cache-control"), "no-store");
    }

    async fn only_those_concerned_see_a_token(database) {
        let server = Setup::new(database).start().await;
        let resource_server = server.client_add(&[]).await;
        let stranger = server.client_add(&[]).await;
        let watcher = server.client_add(&["--introspect", "any"]).await;
        let public = server.client_add(&["--public", "--grant", "refresh_token"]).await;
        let client = server.client_add(&[&SERVICE[..], &["--audience", &resource_server.id]].concat()).await;
        let token = server.own_token(&client).await;

        for sees in [&client, &resource_server, &watcher] {
            assert!(server.is_active(sees, &token).await, "{} is concerned", sees.id);
        }
        assert_eq!(server.introspect(&stranger, &token).await.ok(), &json!({"active": false}));
        server.introspect(&public, &token).await.refused(401, "invalid_client");
    }

    async fn asking_for_less_gives_less(database) {
        let server = Setup::new(database).start().await;
        let client = server.client_add(&SERVICE).await;
        let answer = server.token(&client, &[OWN[0], ("scope", "read")]).await;
        assert_eq!(answer.text("scope"), "read");
        assert_eq!(server.introspect(&client, &answer.access_token()).await.ok()["scope"], json!("read"));

        server.token(&client, &[OWN[0], ("scope", "read admin")]).await.refused(400, "invalid_scope");
        server.token(&client, &[OWN[0], ("scope", "read \"write")]).await.refused(400, "invalid_scope");
        server.token(&client, &[OWN[0], ("resource", "https://elsewhere.test/")]).await.refused(400, "invalid_target");
    }

    async fn a_client_without_the_grant_gets_no_token(database) {
        let server = Setup::new(database).start().await;
        let client = server.client_add(&[]).await;
        server.token(&client, &OWN).await.refused(400, "unauthorized_client");
        let password = [("grant_type", "password"), ("username", "alice"), ("password", "secret")];
        server.token(&client, &password).await.refused(400, "unauthorized_client");
    }

    async fn a_secret_is_changed_without_a_gap(database) {
        let server = Setup::new(database).start().await;
        let old = server.client_add(&SERVICE).await;
        let new = Client::from_json(&server.cli(&["client", "secret", "add", &old.id, "--json"]).await.json());
        assert_eq!(new.id, old.id);
        assert_ne!(new.secret, old.secret);
        assert!(new.secret().starts_with("cs_sec_"));

        let token = server.own_token(&old).await;
        server.own_token(&new).await;
        server.cli(&["client", "secret", "remove", &old.id, old.secret_id.as_deref().unwrap()]).await.ok();
        // The running server hears of it through the feed, within a second.
        let mut refused = false;
        for _ in 0..50 {
            refused = server.token(&old, &OWN).await.status == 401;
            if refused {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(refused, "the removed secret still works after a second");
        server.token(&old, &OWN).await.refused(401, "invalid_client");
        assert!(server.is_active(&new, &token).await, "a token outlives the secret that fetched it");
    }

    async fn basic_is_form_encoded(database) {
        let server = Setup::new(database).start().await;
        let client = server.client_add_named("app:one+two%20three", &SERVICE).await;
        assert_eq!(server.introspect(&client, &server.own_token(&client).await).await.ok()["client_id"], json!("app:one+two%20three"));
    }

    async fn tokens_outlive_a_restart(database) {
        let mut server = Setup::new(database).start().await;
        let client = server.client_add(&SERVICE).await;
        let token = server.own_token(&client).await;
        server.kill();
        server.restart().await;
        assert!(server.is_active(&client, &token).await);
        assert!(server.stop().await.success(), "SIGTERM ends it in order");
    }

    async fn a_removed_client_is_gone_at_once_with_its_tokens(database) {
        let server = Setup::new(database).start().await;
        let client = server.client_add(&SERVICE).await;
        let watcher = server.client_add(&["--introspect", "any"]).await;
        let token = server.own_token(&client).await;
        server.cli(&["client", "remove", &client.id]).await.ok();
        let mut active = true;
        for _ in 0..50 {
            active = server.is_active(&watcher, &token).await;
            if !active {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(!active, "the token of a removed client is active after a second");
        server.token(&client, &OWN).await.refused(401, "invalid_client");
    }

    async fn the_command_line_and_the_server_write_beside_each_other(database) {
        let server = Setup::new(database).start().await;
        let log = server.directory().join("countersign.db-wal");
        let inode = || std::fs::metadata(&log).ok().map(|data| std::os::unix::fs::MetadataExt::ino(&data));
        let before = inode();
        for _ in 0..5 {
            let client = server.client_add(&SERVICE).await;
            server.own_token(&client).await;
            assert_eq!(inode(), before, "a command line deleted the log that the server writes to: its commits are lost");
        }
    }

    async fn the_command_line_lists_and_shows_without_secrets(database) {
        let server = Setup::new(database).start().await;
        let client = server.client_add(&SERVICE).await;
        let list = server.cli(&["client", "list", "--json"]).await.ok();
        assert!(list.contains(&client.id) && !list.contains(client.secret()), "{list}");
        let shown = server.cli(&["client", "show", &client.id]).await.ok();
        assert!(shown.contains(client.secret_id.as_deref().unwrap()) && !shown.contains(client.secret()), "{shown}");
        assert!(!server.log().contains(client.secret()));
    }

    async fn tokens_and_introspections_write_nothing(database) {
        let tables = match database.is_postgres() {
            true => "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
            false => "SELECT name FROM sqlite_master WHERE type = 'table'",
        };
        let server = Setup::new(database).start().await;
        let opaque = server.client_add(&SERVICE).await;
        let jwt = server.client_add(&[&SERVICE[..], &["--token-format", "jwt"]].concat()).await;
        let tables = server.rows(tables);
        assert!(tables.iter().any(|table| table == "audit_records") && tables.len() > 10, "{tables:?}");
        let rows = || tables.iter().map(|table| (table, server.rows(&format!("SELECT count(*) FROM {table}")))).collect::<Vec<_>>();
        let before = rows();
        for client in [&opaque, &jwt] {
            for _ in 0..20 {
                let token = server.own_token(client).await;
                assert!(server.is_active(client, &token).await);
            }
        }
        assert_eq!(rows(), before);
    }

    async fn a_secret_past_its_expiry_is_refused(database) {
        let server = Setup::new(database).start().await;
        let client = server.client_add(&SERVICE).await;
        let brief = Client::from_json(&server.cli(&["client", "secret", "add", &client.id, "--expires-in", "4s", "--json"]).await.json());
        server.own_token(&brief).await;
        let shown = server.cli(&["client", "show", &client.id]).await.ok();
        assert!(shown.contains("expires "), "{shown}");
        eventually(std::time::Duration::from_secs(6), "it expires", async || server.token(&brief, &OWN).await.status == 401).await;
        server.token(&brief, &OWN).await.refused(401, "invalid_client");
        server.introspect(&brief, "cs_at_any").await.refused(401, "invalid_client");
        server.own_token(&client).await;
    }

    async fn settings_come_from_a_file(database) {
        let server = Setup::new(database).start().await;
        let write = |text: &str| std::fs::write(server.directory().join("client.toml"), text).unwrap();
        write("grants = [\"client_credentials\"]\nscopes = [\"read\"]\nroles = [\"backup\"]\naccess_lifetime = \"5m\"\n");
        let client = server.client_add_named("from-a-file", &["--from", "client.toml"]).await;
        let answer = server.token(&client, &OWN).await;
        assert_eq!((answer.text("scope"), &answer.ok()["expires_in"]), ("read".to_owned(), &json!(300)));
        assert_eq!(server.introspect(&client, &answer.access_token()).await.roles(), ["backup"]);

        for (text, told) in [
            ("grants = []\nscops = [\"read\"]\n", &["line 2", "scops"][..]),
            ("grants = []\n\nscopes = \"read\"\n", &["line 3"]),
            ("grants = [\"magic\"]\n", &["grants", "magic"]),
            ("id = \"another\"\n", &["another", "wrong-file"]),
            ("secrets_file = \"secret\"\n", &["secrets_file"]),
        ] {
            write(text);
            let said = server.cli(&["client", "add", "wrong-file", "--from", "client.toml"]).await.failed(1);
            assert!(told.iter().all(|part| said.contains(part)), "{text}: {said}");
        }
        let said = server.cli(&["client", "add", "wrong-file", "--from", "absent.toml"]).await.failed(1);
        assert!(said.contains("absent.toml"), "{said}");
        server.cli(&["client", "show", "wrong-file"]).await.failed(1);
    }
}
