//! An operator keeps accounts of Countersign's own on the command line, beside the running server.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Database, Server, Setup, on_both_databases};

const PASSWORD: &str = "five blue herons crossing";
const OTHER: &str = "nine grey otters sleeping";
const PEOPLE: [&str; 6] = ["--grant", "password", "--grant", "refresh_token", "--scope", "read"];

/// A server with the account `Anna`, and a client through which people sign in.
async fn server_and_client(database: Database) -> (Server, Client) {
    let server = Setup::new(database).start().await;
    server.user_add("Anna", PASSWORD, &["--role", "editor", "--email", "anna@example.test"]).await;
    let client = server.client_add(&PEOPLE).await;
    (server, client)
}

async fn show(server: &Server, name: &str) -> Value {
    server.cli(&["user", "show", name, "--json"]).await.json()
}

/// The running server learns of the command line through the feed: within a second. Half of one more for a machine that is busy.
async fn dies_within_a_second(server: &Server, client: &Client, token: &str) {
    let since = Instant::now();
    while server.is_active(client, token).await {
        assert!(since.elapsed() < Duration::from_millis(1_500), "the token lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn tokens(answer: &Answer) -> (String, String) {
    (answer.access_token(), answer.text("refresh_token"))
}

on_both_databases! {
    async fn an_account_is_added_listed_and_shown(database) {
        let (server, client) = server_and_client(database).await;
        let list = server.cli(&["user", "list", "--json"]).await.json();
        assert_eq!(list.as_array().unwrap().len(), 1);
        let shown = show(&server, "Anna").await;
        assert_eq!(list[0], shown);
        for (member, value) in [
            ("username", json!("Anna")),
            ("source", json!("local")),
            ("email", json!("anna@example.test")),
            ("roles", json!(["editor"])),
            ("disabled", json!(false)),
            ("must_change_password", json!(false)),
            ("last_sign_in_at", json!(null)),
        ] {
            assert_eq!(shown[member], value, "{member}");
        }
        let id = shown["account_id"].as_str().unwrap();
        assert_eq!(show(&server, id).await, shown, "the account id names it too");

        let answer = server.sign_in(&client, "Anna", PASSWORD).await;
        let meaning = server.introspect(&client, &answer.access_token()).await;
        assert_eq!((&meaning.ok()["sub"], &meaning.json["username"]), (&json!(id), &json!("Anna")));
        assert_eq!((&meaning.json["roles"], &meaning.json["source"]), (&json!(["editor"]), &json!("local")));
        assert_eq!(meaning.json["amr"], json!(["pwd"]));
        assert!(show(&server, "Anna").await["last_sign_in_at"].is_i64());
        let texts = [server.cli(&["user", "list"]).await.ok(), server.cli(&["user", "show", "Anna"]).await.ok()];
        for text in texts {
            assert!(text.contains("Anna") && text.contains("editor") && text.contains(id), "{text}");
            assert!(!text.contains("argon2") && !text.contains(PASSWORD), "{text}");
        }
        let refused = server.cli(&["user", "show", "nobody"]).await.failed(1);
        assert!(refused.contains("nobody") && refused.contains("user list"), "{refused}");
    }

    async fn logins_are_compared_without_case(database) {
        let (server, client) = server_and_client(database).await;
        for login in ["Anna", "anna", "ANNA", " anna "] {
            let answer = server.sign_in(&client, login, PASSWORD).await;
            let meaning = server.introspect(&client, &answer.access_token()).await;
            assert_eq!(meaning.ok()["username"], json!("Anna"), "as stored, never as typed: {login:?}");
        }
        let taken = server.cli_with(&["user", "add", "aNNa", "--password-stdin"], &format!("{OTHER}\n")).await.failed(1);
        assert!(taken.contains("already"), "{taken}");
        // A composed and a decomposed letter are one.
        server.user_add("Zo\u{eb}", OTHER, &[]).await;
        server.sign_in(&client, "zoe\u{308}", OTHER).await.ok();
        server.sign_in(&client, "zoe", OTHER).await.refused(400, "invalid_grant");
    }

    async fn passwords_have_a_policy(database) {
        let config = "[accounts]\npassword_min_length = 12\npassword_min_score = 3";
        let server = Setup::new(database).config(config).start().await;
        for (password, advice) in [
            ("short", "12 characters"),
            ("passwordpassword", "too easy to guess"),
            ("annaannaannaanna", "too easy to guess"),
            ("", "no password on standard input"),
            (&"x".repeat(300), "256 bytes"),
        ] {
            let refused = server.cli_with(&["user", "add", "anna", "--password-stdin"], &format!("{password}\n")).await.failed(1);
            assert!(refused.contains(advice), "{password}: {refused}");
            assert!(password.is_empty() || !refused.contains(password), "the password is repeated: {refused}");
        }
        assert_eq!(server.cli(&["user", "list", "--json"]).await.json(), json!([]));

        server.user_add("anna", PASSWORD, &[]).await;
        let refused = server.cli_with(&["user", "set-password", "anna", "--password-stdin"], "aaaaaaaaaaaaaaaa\n").await.failed(1);
        assert!(refused.contains("too easy to guess"), "{refused}");
    }

    async fn a_password_is_made_up_and_shown_once(database) {
        let server = Setup::new(database).start().await;
        let client = server.client_add(&PEOPLE).await;
        let made = server.cli(&["user", "add", "berta", "--json"]).await.json();
        let password = made["password"].as_str().unwrap();
        assert!(password.starts_with("cs_pw_"), "{made}");
        assert_eq!(show(&server, "berta").await["must_change_password"], json!(true));
        server.sign_in(&client, "berta", password).await.ok();
        assert!(!server.log().contains(password));
        assert!(!show(&server, "berta").await.to_string().contains(password));
    }

    async fn a_new_password_replaces_the_old_and_leaves_tokens_alone(database) {
        let (server, client) = server_and_client(database).await;
        let (access, refresh) = tokens(&server.sign_in(&client, "Anna", PASSWORD).await);
        server.cli_with(&["user", "set-password", "anna", "--password-stdin"], &format!("{OTHER}\n")).await.ok();
        server.sign_in(&client, "Anna", PASSWORD).await.refused(400, "invalid_grant");
        server.sign_in(&client, "Anna", OTHER).await.ok();
        assert!(server.is_active(&client, &access).await);
        server.refresh(&client, &refresh).await.ok();
    }

    async fn a_disabled_account_is_out_at_once(database) {
        let (server, client) = server_and_client(database).await;
        let (access, refresh) = tokens(&server.sign_in(&client, "Anna", PASSWORD).await);
        server.cli(&["user", "disable", "Anna"]).await.ok();
        dies_within_a_second(&server, &client, &access).await;
        server.refresh(&client, &refresh).await.refused(400, "invalid_grant");
        let disabled = server.sign_in(&client, "Anna", PASSWORD).await;
        let wrong = server.sign_in(&client, "Anna", OTHER).await;
        assert_eq!(disabled.refused(400, "invalid_grant").body, wrong.refused(400, "invalid_grant").body, "one text for all");
        assert_eq!(show(&server, "Anna").await["disabled"], json!(true));

        server.cli(&["user", "enable", "Anna"]).await.ok();
        let (new, _) = tokens(&server.sign_in(&client, "Anna", PASSWORD).await);
        assert!(server.is_active(&client, &new).await, "a sign-in right after enable is good");
        assert!(!server.is_active(&client, &access).await, "what was dead stays dead");
        server.refresh(&client, &refresh).await.refused(400, "invalid_grant");
        assert!(server.is_active(&client, &new).await, "the dead token took a new one with it");
    }

    async fn signed_out_everywhere_but_welcome_again(database) {
        let (server, client) = server_and_client(database).await;
        let (access, refresh) = tokens(&server.sign_in(&client, "Anna", PASSWORD).await);
        let (second, _) = tokens(&server.sign_in(&client, "Anna", PASSWORD).await);
        server.user_add("berta", OTHER, &[]).await;
        let (hers, _) = tokens(&server.sign_in(&client, "berta", OTHER).await);
        server.cli(&["user", "sign-out", "anna"]).await.ok();
        dies_within_a_second(&server, &client, &access).await;
        assert!(!server.is_active(&client, &second).await);
        server.refresh(&client, &refresh).await.refused(400, "invalid_grant");
        assert!(server.is_active(&client, &hers).await, "somebody else was signed out too");
        let (new, _) = tokens(&server.sign_in(&client, "Anna", PASSWORD).await);
        assert!(server.is_active(&client, &new).await);
    }

    async fn a_removed_account_never_comes_back(database) {
        let (server, client) = server_and_client(database).await;
        let before = show(&server, "Anna").await;
        let (access, refresh) = tokens(&server.sign_in(&client, "Anna", PASSWORD).await);
        server.cli(&["user", "remove", "Anna"]).await.ok();
        dies_within_a_second(&server, &client, &access).await;
        server.refresh(&client, &refresh).await.refused(400, "invalid_grant");
        server.sign_in(&client, "Anna", PASSWORD).await.refused(400, "invalid_grant");
        assert_eq!(server.cli(&["user", "list", "--json"]).await.json(), json!([]));

        server.user_add("Anna", PASSWORD, &[]).await;
        let after = show(&server, "Anna").await;
        assert_ne!(after["account_id"], before["account_id"]);
        assert_ne!(after["number"], before["number"], "a number is never used again either");
        let (new, _) = tokens(&server.sign_in(&client, "Anna", PASSWORD).await);
        let meaning = server.introspect(&client, &new).await;
        assert_eq!((&meaning.ok()["sub"], &meaning.json["roles"]), (&after["account_id"], &json!([])));
        assert!(!server.is_active(&client, &access).await);
        server.refresh(&client, &refresh).await.refused(400, "invalid_grant");
    }

    async fn every_act_is_in_the_audit_trail(database) {
        let (server, client) = server_and_client(database).await;
        server.sign_in(&client, "Anna", PASSWORD).await.ok();
        server.sign_in(&client, "Anna", "wrong").await.refused(400, "invalid_grant");
        server.cli_with(&["user", "set-password", "anna", "--password-stdin"], &format!("{OTHER}\n")).await.ok();
        for act in ["disable", "enable", "sign-out", "remove"] {
            server.cli(&["user", act, "Anna"]).await.ok();
        }
        // Refusals are written in batches.
        let refused = "SELECT reason, username, address FROM audit_records WHERE event = 'sign_in_refused'";
        for _ in 0..100 {
            if !server.rows(refused).is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(server.rows(refused), ["bad_password|Anna|127.0.0.1"]);
        let events = server.rows("SELECT event FROM audit_records WHERE account_id IS NOT NULL ORDER BY event");
        let wanted = ["account_added", "account_disabled", "account_enabled", "account_removed", "password_changed", "revoked", "sign_in"];
        assert_eq!(events, wanted);
        let everything = server.rows("SELECT * FROM audit_records").join("\n");
        for secret in [PASSWORD, OTHER, client.secret(), "cs_at_", "cs_rt_"] {
            assert!(!everything.contains(secret), "a secret is in the audit trail");
        }
    }

    async fn names_that_cannot_be(database) {
        let server = Setup::new(database).start().await;
        for name in ["", " ", "a\u{200b}b", "\u{202e}nimda", "0123456789abcdef0123456789abcdef", &"x".repeat(256)] {
            server.cli_with(&["user", "add", name, "--password-stdin"], &format!("{PASSWORD}\n")).await.failed(1);
        }
        for more in [["--email", "nobody"], ["--role", "a b"], ["--role", ""]] {
            server.cli_with(&[&["user", "add", "anna", "--password-stdin"], &more[..]].concat(), &format!("{PASSWORD}\n")).await.failed(1);
        }
        assert_eq!(server.cli(&["user", "list", "--json"]).await.json(), json!([]));
    }

    async fn a_storm_of_sign_ins_is_turned_away_and_the_rest_goes_on(database) {
        let limits = "[limits]\nlogin_failures = \"10000/5m\"\naddress_failures = \"10000/5m\"";
        let setup = Setup::new(database).config("[accounts]\npassword_threads = 1\npassword_queue = 1").config(limits);
        let server = std::sync::Arc::new(setup.start().await);
        server.user_add("anna", PASSWORD, &[]).await;
        let client = server.client_add(&PEOPLE).await;
        let token = server.sign_in(&client, "anna", PASSWORD).await.access_token();

        let storm = (0..60).map(|n| {
            let (server, client) = (server.clone(), client.clone());
            // Every third comes with a wrong password, and must never be let in.
            // Each another, since the same one at the same time is one job.
            let password = if n % 3 == 0 { format!("wrong-{n}") } else { PASSWORD.to_owned() };
            tokio::spawn(async move {
                let answer = server.sign_in(&client, "anna", &password).await;
                (password, answer)
            })
        });
        let storm: Vec<_> = storm.collect();
        for _ in 0..5 {
            let asked = Instant::now();
            assert!(server.is_active(&client, &token).await, "introspection goes on");
            assert!(asked.elapsed() < Duration::from_secs(2), "introspection took {:?} in a storm", asked.elapsed());
        }
        let (mut decided, mut turned_away) = (0, 0);
        for answer in storm {
            let (password, answer) = answer.await.unwrap();
            match answer.status {
                200 => {
                    assert_eq!(password, PASSWORD);
                    decided += 1;
                }
                400 => {
                    assert_ne!(password, PASSWORD, "the right password was refused: {}", answer.body);
                    answer.refused(400, "invalid_grant");
                    decided += 1;
                }
                _ => {
                    let wait = answer.refused(503, "temporarily_unavailable").header("retry-after").parse::<u64>();
                    assert!(wait.is_ok_and(|seconds| seconds >= 1), "{:?}", answer.headers);
                    turned_away += 1;
                }
            }
        }
        assert!(decided > 0 && turned_away > 0, "{decided} decided, {turned_away} turned away");
        server.sign_in(&client, "anna", PASSWORD).await.ok();
    }
}
