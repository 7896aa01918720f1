//! The key-encryption key is changed: nodes learn of both and are started again one by one, `keys rewrap` seals everything under the new
//! one in one transaction, and the old one can go. Nobody's token is touched.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Client, Server, Setup, on_both_databases};

const SERVICE: [&str; 4] = ["--grant", "client_credentials", "--scope", "read"];
const OLD: &str = "[server]\nissuer = \"https://tokens.example\"\n[keys]\nencryption_key_file = \"old-key\"\n";
const BOTH: &str = "encryption_key_file = \"new-key\"\nprevious_encryption_key_file = \"old-key\"";

fn key(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

/// The key-encryption keys that are in use.
async fn names(server: &Server) -> Vec<String> {
    let list = server.cli(&["keys", "list", "--json"]).await.json();
    let alive = list.as_array().unwrap().iter().filter(|key| key["removed_at"] == Value::Null && key["revoked_at"] == Value::Null);
    let mut names: Vec<String> = alive.map(|key| key["key_encryption_key"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

async fn works(server: &Server, client: &Client, token: &str) {
    assert!(server.is_active(client, token).await);
    assert!(server.is_active(client, &server.own_token(client).await).await);
}

on_both_databases! {
    async fn node_by_node_without_a_pause(database) {
        let two = database.is_postgres();
        let mut server = Setup::new(database).config(OLD).file("old-key", &key(1)).file("new-key", &key(2)).start().await;
        // Left with the old key alone until late.
        let mut slow = if two { Some(Setup::beside(&server).config(OLD).start().await) } else { None };
        let client = server.client_add(&SERVICE).await;
        let token = server.own_token(&client).await;
        let old = names(&server).await;

        server.edit_config("encryption_key_file = \"old-key\"", BOTH);
        server.restart().await;
        works(&server, &client, &token).await;
        // What is added meanwhile can be opened by the node that does not know the new key yet.
        server.cli(&["keys", "rotate"]).await.ok();
        assert_eq!(names(&server).await, old);
        if let Some(slow) = &mut slow {
            works(slow, &client, &server.own_token(&client).await).await;
            slow.edit_config("encryption_key_file = \"old-key\"", BOTH);
            slow.restart().await;
        }

        let said = server.cli(&["keys", "rewrap"]).await.ok();
        assert!(said.contains("8 keys are sealed") && said.contains("previous_encryption_key_file"), "{said}");
        let new = names(&server).await;
        assert!(new.len() == 1 && new != old, "{new:?}");
        assert!(server.cli(&["keys", "rewrap"]).await.ok().contains("already"), "a second time changes nothing");
        assert_eq!(server.rows("SELECT count(*) FROM audit_records WHERE event = 'keys_rewrapped'"), ["1"]);
        for node in [Some(&server), slow.as_ref()].into_iter().flatten() {
            works(node, &client, &token).await;
        }

        server.edit_config(BOTH, "encryption_key_file = \"new-key\"");
        std::fs::remove_file(server.directory().join("old-key")).unwrap();
        server.restart().await;
        works(&server, &client, &token).await;
        server.cli(&["keys", "rotate"]).await.ok();
        assert_eq!(names(&server).await, new);
    }

    async fn a_key_that_opens_nothing_changes_nothing(database) {
        let mut server = Setup::new(database).config(OLD).file("old-key", &key(1)).file("new-key", &key(2)).start().await;
        let client = server.client_add(&SERVICE).await;
        let token = server.own_token(&client).await;
        let stored = server.rows("SELECT kid, kek, sealed FROM keys ORDER BY kid");
        std::fs::write(server.directory().join("wrong-key"), key(3)).unwrap();
        server.edit_config("encryption_key_file = \"old-key\"", &BOTH.replace("old-key", "wrong-key"));
        let said = server.cli(&["keys", "rewrap"]).await.failed(1);
        assert!(said.contains("wrong-key") && said.contains("new-key") && said.contains("put the right key back"), "{said}");
        assert_eq!(server.rows("SELECT kid, kek, sealed FROM keys ORDER BY kid"), stored);
        works(&server, &client, &token).await;
        server.edit_config("wrong-key", "no-key");
        let said = server.cli(&["keys", "rewrap"]).await.failed(1);
        assert!(said.contains("previous_encryption_key_file") && said.contains("no-key"), "{said}");
        assert_eq!(json!(server.rows("SELECT count(*) FROM audit_records WHERE event = 'keys_rewrapped'")), json!(["0"]));
    }
}
