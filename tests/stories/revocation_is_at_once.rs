//! What is revoked is dead: at once where the client asked (RFC 7009), within a second where the command line did it beside a
//! running server. Nothing hangs on clocks: what is issued in the same second afterwards lives.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Database, Server, Setup, eventually, on_both_databases, within_a_second};

const APP: [&str; 8] = ["--grant", "password", "--grant", "refresh_token", "--grant", "client_credentials", "--scope", "read"];
const PASSWORD: &str = "a lamp beside 7 green doors";

async fn house(database: Database) -> (Server, Client) {
    let server = Setup::new(database).start().await;
    for name in ["anna", "berta"] {
        server.user_add(name, PASSWORD, &[]).await;
    }
    let client = server.client_add(&APP).await;
    (server, client)
}

/// One sign-in of a person.
struct Held {
    access: String,
    refresh: String,
}

impl Held {
    fn of(answer: &Answer) -> Held {
        Held { access: answer.access_token(), refresh: answer.text("refresh_token") }
    }

    async fn new(server: &Server, client: &Client, name: &str) -> Held {
        Held::of(&server.sign_in(client, name, PASSWORD).await)
    }

    /// Alive in both tokens. Spends the refresh token.
    async fn lives(self, server: &Server, client: &Client) {
        assert!(server.is_active(client, &self.access).await);
        server.refresh(client, &self.refresh).await.ok();
    }

    async fn is_dead(&self, server: &Server, client: &Client) {
        assert!(!server.is_active(client, &self.access).await, "the access token is active");
        server.refresh(client, &self.refresh).await.refused(400, "invalid_grant");
    }
}

/// Revokes on the command line and waits until `token` is inactive, which must be within a second.
async fn revoke_by_cli(server: &Server, client: &Client, arguments: &[&str], token: &str) {
    server.cli(&[&["revoke"], arguments].concat()).await.ok();
    within_a_second("the revocation of the command line", async || !server.is_active(client, token).await).await;
}

/// Rows that a revocation may write.
fn written(server: &Server) -> Vec<String> {
    let count = |table: &str| server.rows(&format!("SELECT count(*) FROM {table}")).remove(0);
    [count("feed_entries"), count("audit_records"), server.rows("SELECT head FROM feed").remove(0)].into()
}

on_both_databases! {
    async fn an_access_token_is_given_back(database) {
        let (server, client) = house(database).await;
        let held = Held::new(&server, &client, "anna").await;
        let own = server.own_token(&client).await;
        for token in [&held.access, &own] {
            let answer = server.revoke(&client, token).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert!(!server.is_active(&client, token).await);
            assert_eq!(server.revoke(&client, token).await.status, 200, "twice is as good as once");
        }
        let next = server.own_token(&client).await;
        assert!(server.is_active(&client, &next).await, "a token of the same second lives");
        // Only that token: the refresh token goes on.
        server.refresh(&client, &held.refresh).await.ok();
    }

    async fn a_refresh_token_takes_its_access_tokens_along(database) {
        let (server, client) = house(database).await;
        let (held, other) = (Held::new(&server, &client, "anna").await, Held::new(&server, &client, "anna").await);
        let next = Held::of(&server.refresh(&client, &held.refresh).await);
        let hinted = [("token", next.refresh.as_str()), ("token_type_hint", "access_token")];
        assert_eq!(server.post("/oauth2/revoke", &client, &hinted).await.status, 200, "a wrong hint does no harm");
        held.is_dead(&server, &client).await;
        next.is_dead(&server, &client).await;
        other.lives(&server, &client).await;

        let jwt = server.client_add(&[&APP[..], &["--token-format", "jwt"]].concat()).await;
        let held = Held::new(&server, &jwt, "anna").await;
        server.revoke(&jwt, &held.access).await;
        assert!(!server.is_active(&jwt, &held.access).await);
    }

    async fn what_is_unknown_is_200_and_what_is_anothers_is_refused(database) {
        let (server, client) = house(database).await;
        let held = Held::new(&server, &client, "anna").await;
        let before = written(&server);
        for unknown in ["nonsense", "cs_at_AAAA", "cs_rt_AAAA", "a.b.c", &held.access[..40]] {
            assert_eq!(server.revoke(&client, unknown).await.status, 200, "{unknown}");
        }
        assert_eq!(written(&server), before, "unknown tokens write nothing");

        let other = server.client_add(&APP).await;
        for token in [&held.access, &held.refresh] {
            server.revoke(&other, token).await.refused(400, "unauthorized_client");
            server.raw("/oauth2/revoke", &[], format!("token={token}")).await.refused(401, "invalid_client");
        }
        held.lives(&server, &client).await;
    }

    async fn what_has_expired_writes_nothing(database) {
        let server = Setup::new(database).config("[tokens]\nrefresh_lifetime = \"1s\"\nrefresh_idle = \"1s\"").start().await;
        server.user_add("anna", PASSWORD, &[]).await;
        let client = server.client_add(&[&APP[..], &["--access-lifetime", "1s"]].concat()).await;
        let held = Held::new(&server, &client, "anna").await;
        tokio::time::sleep(Duration::from_millis(2100)).await;
        let before = written(&server);
        for token in [&held.access, &held.refresh] {
            assert_eq!(server.revoke(&client, token).await.status, 200);
            let said = server.cli(&["revoke", "--token", token]).await.ok();
            assert!(said.contains("expired"), "{said}");
        }
        assert_eq!(written(&server), before);
    }

    async fn one_token_or_one_grant_by_the_command_line(database) {
        let (server, client) = house(database).await;
        let (first, second) = (Held::new(&server, &client, "anna").await, Held::new(&server, &client, "anna").await);
        let untouched = Held::new(&server, &client, "anna").await;
        revoke_by_cli(&server, &client, &["--token", &first.access], &first.access).await;
        let next = Held::of(&server.refresh(&client, &first.refresh).await);
        revoke_by_cli(&server, &client, &["--token", &next.refresh], &next.access).await;
        next.is_dead(&server, &client).await;

        let grant = server.introspect(&client, &second.access).await.text("grant_id");
        revoke_by_cli(&server, &client, &["--grant", &grant], &second.access).await;
        second.is_dead(&server, &client).await;
        untouched.lives(&server, &client).await;

        assert!(server.cli(&["revoke", "--token", "nonsense"]).await.failed(1).contains("no token of ours"));
        assert!(server.cli(&["revoke", "--grant", "nobody"]).await.failed(1).contains("no grant nobody"));
        assert!(server.cli(&["revoke", "--subject", "nobody"]).await.failed(1).contains("nobody"));
        assert!(server.cli(&["revoke", "--source", "corp"]).await.ok().contains("no source corp now"));
        server.cli(&["revoke"]).await.failed(2);
        server.cli(&["revoke", "--all", "--client", "x"]).await.failed(2);
    }

    async fn a_subject_by_name_id_or_client(database) {
        let (server, client) = house(database).await;
        let berta = Held::new(&server, &client, "berta").await;
        let own = server.own_token(&client).await;
        let by_name = Held::new(&server, &client, "anna").await;
        let id = server.introspect(&client, &by_name.access).await.text("sub");
        revoke_by_cli(&server, &client, &["--subject", "anna"], &by_name.access).await;
        by_name.is_dead(&server, &client).await;

        let by_id = Held::new(&server, &client, "anna").await;
        assert!(server.is_active(&client, &by_id.access).await, "a sign-in right after the revocation works");
        revoke_by_cli(&server, &client, &["--subject", &id], &by_id.access).await;
        by_id.is_dead(&server, &client).await;
        assert!(server.is_active(&client, &own).await);

        revoke_by_cli(&server, &client, &["--subject", &client.id], &own).await;
        berta.lives(&server, &client).await;
        Held::new(&server, &client, "anna").await.lives(&server, &client).await;
    }

    async fn a_client_a_source_and_everything(database) {
        let (server, client) = house(database).await;
        let other = server.client_add(&APP).await;
        let (held, own, elsewhere) =
            (Held::new(&server, &client, "anna").await, server.own_token(&client).await, Held::new(&server, &other, "anna").await);
        revoke_by_cli(&server, &client, &["--client", &client.id], &own).await;
        held.is_dead(&server, &client).await;
        elsewhere.lives(&server, &other).await;

        let (held, own) = (Held::new(&server, &client, "anna").await, server.own_token(&client).await);
        revoke_by_cli(&server, &client, &["--source", "local"], &held.access).await;
        held.is_dead(&server, &client).await;
        assert!(server.is_active(&client, &own).await, "a client's own token comes from no source");

        let held = Held::new(&server, &client, "anna").await;
        revoke_by_cli(&server, &client, &["--all"], &own).await;
        held.is_dead(&server, &client).await;
        Held::new(&server, &client, "anna").await.lives(&server, &client).await;
        let audited = server.rows("SELECT detail FROM audit_records WHERE event = 'revoked'");
        let kind = |detail: &String| serde_json::from_str::<Value>(detail).unwrap()["kind"].as_str().unwrap().to_owned();
        assert_eq!(audited.iter().map(kind).collect::<BTreeSet<_>>(), ["all", "client_id", "source"].map(str::to_owned).into());
    }

    async fn nothing_issued_while_the_revocation_is_written_escapes(database) {
        let (server, client) = house(database).await;
        let issue = async {
            let mut tokens = Vec::new();
            for _ in 0..400 {
                tokens.push(server.own_token(&client).await);
            }
            tokens
        };
        let revoke = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let said = server.cli(&["revoke", "--all"]).await.ok();
            said.trim().rsplit(' ').next().unwrap().parse::<i64>().unwrap()
        };
        let (tokens, n) = tokio::join!(issue, revoke);
        within_a_second("the first token dies", async || !server.is_active(&client, &tokens[0]).await).await;
        let last = server.own_token(&client).await;
        assert!(server.is_active(&client, &last).await);
        // Each token says how far its node had read: exactly those that had read the revocation live.
        for token in &tokens {
            let answer = server.introspect(&client, token).await;
            if answer.ok()["active"] == json!(true) {
                assert!(answer.json["rv"].as_i64().unwrap() >= n, "{}", answer.body);
            }
        }
    }

    async fn a_revocation_survives_a_crash_right_after_the_answer(database) {
        let (mut server, client) = house(database).await;
        let (first, second) = (Held::new(&server, &client, "anna").await, Held::new(&server, &client, "anna").await);
        let (own, kept) = (server.own_token(&client).await, Held::new(&server, &client, "berta").await);
        // Somebody looks at the database and closes it again: a SQLite that takes itself for the last one deletes the log.
        assert_eq!(server.rows("SELECT count(*) FROM clients"), ["1"]);
        server.revoke(&client, &own).await;
        server.revoke(&client, &first.refresh).await;
        assert_eq!(server.revoke(&client, &second.access).await.status, 200);
        server.kill();
        // And one that is made while no server runs.
        server.cli(&["revoke", "--token", &second.refresh]).await.ok();
        server.restart().await;
        assert!(!server.is_active(&client, &own).await);
        first.is_dead(&server, &client).await;
        second.is_dead(&server, &client).await;
        kept.lives(&server, &client).await;
    }

    async fn a_public_client_gives_back_its_own_and_asks_about_none(database) {
        let (server, client) = house(database).await;
        let public = server.client_add(&["--public", "--grant", "password", "--grant", "refresh_token"]).await;
        let watcher = server.client_add(&["--introspect", "any"]).await;
        let (own, other) = (Held::new(&server, &public, "anna").await, Held::new(&server, &client, "anna").await);
        for token in [&own.access, &own.refresh, &other.access] {
            server.introspect(&public, token).await.refused(401, "invalid_client");
        }
        server.revoke(&public, &other.access).await.refused(400, "unauthorized_client");
        server.revoke(&public, &other.refresh).await.refused(400, "unauthorized_client");
        assert!(server.is_active(&watcher, &own.access).await);
        assert_eq!(server.revoke(&public, &own.refresh).await.status, 200);
        assert!(!server.is_active(&watcher, &own.access).await, "its access token lives on");
        server.refresh(&public, &own.refresh).await.refused(400, "invalid_grant");
        other.lives(&server, &client).await;
    }

    async fn nobody_slips_in_with_the_old_password(database) {
        let config = "[limits]\nlogin_failures = \"1000/5m\"\naddress_failures = \"1000/5m\"\n[accounts]\npassword_queue = 200\n";
        let server = Arc::new(Setup::new(database).config(config).start().await);
        server.user_add("anna", PASSWORD, &[]).await;
        let client = server.client_add(&APP).await;
        let done = Arc::new(AtomicBool::new(false));
        let storm = (0..30).map(|_| {
            let (server, client, done) = (server.clone(), client.clone(), done.clone());
            tokio::spawn(async move {
                let mut held = Vec::new();
                // Each has a sign-in under way while the commands work, and begins its last one after the first of them.
                loop {
                    let last = done.load(Ordering::Relaxed);
                    let answer = server.sign_in(&client, "anna", PASSWORD).await;
                    if answer.status == 200 {
                        held.push(Held::of(&answer));
                    } else {
                        answer.refused(400, "invalid_grant");
                    }
                    if last || answer.status != 200 {
                        return held;
                    }
                }
            })
        });
        let storm: Vec<_> = storm.collect();
        let count = "SELECT count(*) FROM audit_records WHERE event = 'sign_in'";
        eventually(Duration::from_secs(20), "the first are in", async || server.rows(count).first().is_some_and(|n| n != "0")).await;
        server.cli_with(&["user", "set-password", "anna", "--password-stdin"], "nine grey otters sleeping\n").await.ok();
        server.cli(&["user", "sign-out", "anna"]).await.ok();
        done.store(true, Ordering::Relaxed);
        let mut held = Vec::new();
        for task in storm {
            held.extend(task.await.unwrap());
        }
        assert!(!held.is_empty());
        for Held { access, refresh } in &held {
            eventually(Duration::from_secs(2), "a token of the old password dies", async || !server.is_active(&client, access).await).await;
            server.refresh(&client, refresh).await.refused(400, "invalid_grant");
        }
        server.sign_in(&client, "anna", PASSWORD).await.refused(400, "invalid_grant");
        Held::of(&server.sign_in(&client, "anna", "nine grey otters sleeping").await).lives(&server, &client).await;
    }
}
