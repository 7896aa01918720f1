//! Refresh tokens rotate: a family with one current generation (RFC 6749 section 6, RFC 9700 section 4.14.2).

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use crate::harness::{Answer, Client, Database, Server, Setup, on_both_databases};

const APP: [&str; 8] = ["--grant", "password", "--grant", "refresh_token", "--scope", "read", "--scope", "write"];
const PASSWORD: &str = "a lamp beside 7 green doors";

/// A server with the account anna and a client that may sign her in and refresh. `tokens` are lines of `[tokens]`.
async fn house(database: Database, tokens: &str) -> (Server, Client) {
    let server = Setup::new(database).config(&format!("[tokens]\n{tokens}")).start().await;
    server.user_add("anna", PASSWORD, &["--role", "reader"]).await;
    let client = server.client_add(&APP).await;
    (server, client)
}

async fn sign_in(server: &Server, client: &Client) -> (String, String) {
    tokens(&server.sign_in(client, "anna", PASSWORD).await)
}

/// Access and refresh token of an answer.
#[track_caller]
fn tokens(answer: &Answer) -> (String, String) {
    (answer.access_token(), answer.text("refresh_token"))
}

/// The refusals of the audit trail with their reasons; those of one kind are written a moment later, in batches.
fn audited(server: &Server, event: &str) -> Vec<String> {
    server.rows(&format!("SELECT reason FROM audit_records WHERE event = '{event}' ORDER BY id"))
}

fn generation(server: &Server) -> String {
    server.rows("SELECT generation FROM refresh_families").remove(0)
}

on_both_databases! {
    async fn each_use_gives_the_next(database) {
        let (server, client) = house(database, "").await;
        let (first_access, first) = sign_in(&server, &client).await;
        assert!(first.starts_with("cs_rt_"));
        let answer = server.refresh(&client, &first).await;
        let (access, second) = tokens(&answer);
        assert!(access != first_access && second != first);
        assert_eq!((answer.text("scope"), answer.text("token_type")), ("read write".to_owned(), "Bearer".to_owned()));
        assert_eq!(answer.header("cache-control"), "no-store");
        let (before, after) = (server.introspect(&client, &first_access).await, server.introspect(&client, &access).await);
        for member in ["sub", "username", "roles", "source", "grant_id", "aud", "auth_time", "amr"] {
            assert_eq!(before.ok()[member], after.ok()[member], "{member}");
            assert!(!after.json[member].is_null(), "{member}");
        }
        assert!(server.is_active(&client, &first_access).await, "an access token outlives the next one");
        tokens(&server.refresh(&client, &second).await);
        assert_eq!(generation(&server), "3");
    }

    async fn all_who_race_end_with_a_working_token(database) {
        let (server, client) = house(database, "").await;
        let (_, first) = sign_in(&server, &client).await;
        let answers = join_all((0..16).map(|_| server.refresh(&client, &first))).await;
        assert_eq!(generation(&server), "2", "sixteen callers, one successor");
        let mut refreshed = HashSet::new();
        for answer in &answers {
            let (access, second) = tokens(answer);
            assert!(server.is_active(&client, &access).await);
            refreshed.insert(second);
        }
        // All of them name the same generation: after one is used, another one still counts as a repetition of it.
        let third = join_all(refreshed.iter().map(|second| server.refresh(&client, second))).await;
        let (_, third) = third.iter().map(tokens).next_back().unwrap();
        assert_eq!(generation(&server), "3");
        tokens(&server.refresh(&client, &third).await);
        assert!(audited(&server, "refresh_replayed").is_empty());
        assert!(!audited(&server, "refresh_repeated").is_empty());
    }

    async fn a_repetition_does_not_restart_the_grace(database) {
        let (server, client) = house(database, "refresh_grace = \"3s\"").await;
        let (_, first) = sign_in(&server, &client).await;
        let (_, second) = tokens(&server.refresh(&client, &first).await);
        sleep(Duration::from_secs(2)).await;
        let (repeated_access, _) = tokens(&server.refresh(&client, &first).await);
        assert_eq!(generation(&server), "2", "a repetition gets the current generation again");
        sleep(Duration::from_millis(2200)).await;
        server.refresh(&client, &first).await.refused(400, "invalid_grant");
        server.refresh(&client, &second).await.refused(400, "invalid_grant");
        assert!(!server.is_active(&client, &repeated_access).await);
    }

    async fn a_replay_ends_the_family_and_its_access_tokens_at_once(database) {
        let (server, client) = house(database, "refresh_grace = \"1s\"").await;
        let (first_access, first) = sign_in(&server, &client).await;
        let (second_access, second) = tokens(&server.refresh(&client, &first).await);
        let (elsewhere, other) = sign_in(&server, &client).await;
        sleep(Duration::from_millis(2100)).await;
        server.refresh(&client, &first).await.refused(400, "invalid_grant");
        for access in [&first_access, &second_access] {
            assert!(!server.is_active(&client, access).await, "an access token of a replayed family is active");
        }
        server.refresh(&client, &second).await.refused(400, "invalid_grant");
        assert_eq!(audited(&server, "refresh_replayed"), ["replayed"]);
        assert!(server.is_active(&client, &elsewhere).await, "another sign-in of the same person goes on");
        tokens(&server.refresh(&client, &other).await);
    }

    async fn two_generations_back_is_a_replay_even_within_the_grace(database) {
        let (server, client) = house(database, "").await;
        let (_, first) = sign_in(&server, &client).await;
        let (_, second) = tokens(&server.refresh(&client, &first).await);
        let (access, third) = tokens(&server.refresh(&client, &second).await);
        server.refresh(&client, &first).await.refused(400, "invalid_grant");
        server.refresh(&client, &third).await.refused(400, "invalid_grant");
        assert!(!server.is_active(&client, &access).await);
    }

    async fn what_is_no_refresh_token_of_this_client_has_no_effect(database) {
        let (server, client) = house(database, "").await;
        let (access, refresh) = sign_in(&server, &client).await;
        let other = server.client_add(&APP).await;
        server.refresh(&other, &refresh).await.refused(400, "invalid_grant");

        let half = &refresh[..refresh.len() / 2];
        let short = &refresh[..refresh.len() - 1];
        let with_change_at = |at: usize| {
            let mut bytes = refresh.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        };
        // Behind the prefix and the version stands the id of the key.
        let (changed, unknown_key) = (with_change_at(40), with_change_at("cs_rt_Axx".len()));
        let disguised = access.replacen("cs_at_", "cs_rt_", 1);
        let long = format!("{refresh}{}", "A".repeat(8000));
        for bad in [half, short, &changed, &access, &disguised, &unknown_key, &long, "cs_rt_", "nonsense", "a.b.c"] {
            server.refresh(&client, bad).await.refused(400, "invalid_grant");
        }
        let stranger = Setup::new(Database::sqlite()).start().await;
        stranger.user_add("anna", PASSWORD, &[]).await;
        let its_client = stranger.client_add_named(&client.id, &APP).await;
        let (_, foreign) = sign_in(&stranger, &its_client).await;
        server.refresh(&client, &foreign).await.refused(400, "invalid_grant");

        assert_eq!(generation(&server), "1");
        assert!(server.is_active(&client, &access).await);
        tokens(&server.refresh(&client, &refresh).await);
    }

    async fn narrowing_is_for_that_access_token_only(database) {
        let (server, client) = house(database, "").await;
        let (_, first) = sign_in(&server, &client).await;
        let ask = |token: String, scope: &'static str| {
            let (server, client) = (&server, &client);
            async move { server.token(client, &[("grant_type", "refresh_token"), ("refresh_token", &token), ("scope", scope)]).await }
        };
        let narrow = ask(first, "read").await;
        assert_eq!(narrow.text("scope"), "read");
        let (access, second) = tokens(&narrow);
        assert_eq!(server.introspect(&client, &access).await.ok()["scope"], json!("read"));
        let whole = server.refresh(&client, &second).await;
        assert_eq!(whole.text("scope"), "read write", "the family keeps its scope");

        let (_, third) = tokens(&whole);
        ask(third.clone(), "read admin").await.refused(400, "invalid_scope");
        let answer = server.token(&client, &[("grant_type", "password"), ("username", "anna"), ("password", PASSWORD), ("scope", "read")]).await;
        let (_, narrow_family) = tokens(&answer);
        ask(narrow_family, "read write").await.refused(400, "invalid_scope");
        tokens(&server.refresh(&client, &third).await);
    }

    async fn the_whole_life_is_absolute_and_idleness_slides(database) {
        let (server, client) = house(database, "refresh_lifetime = \"12s\"\nrefresh_idle = \"5s\"").await;
        let (_, idle) = sign_in(&server, &client).await;
        let (_, mut used) = sign_in(&server, &client).await;
        // Each use has seconds to spare, on a slow machine too.
        for _ in 0..2 {
            sleep(Duration::from_secs(3)).await;
            used = tokens(&server.refresh(&client, &used).await).1;
        }
        server.refresh(&client, &idle).await.refused(400, "invalid_grant");
        sleep(Duration::from_secs(3)).await;
        used = tokens(&server.refresh(&client, &used).await).1;
        sleep(Duration::from_secs(4)).await;
        server.refresh(&client, &used).await.refused(400, "invalid_grant");
        assert!(audited(&server, "refresh_replayed").is_empty(), "expiry is no replay");
    }

    async fn only_a_client_that_may_refresh_is_given_one(database) {
        let (server, client) = house(database, "").await;
        let (_, refresh) = sign_in(&server, &client).await;
        let plain = server.client_add(&["--grant", "password", "--grant", "client_credentials"]).await;
        assert!(server.sign_in(&plain, "anna", PASSWORD).await.ok().get("refresh_token").is_none());
        server.refresh(&plain, &refresh).await.refused(400, "unauthorized_client");
        let own = server.client_add(&["--grant", "client_credentials", "--grant", "refresh_token"]).await;
        assert!(server.token(&own, &[("grant_type", "client_credentials")]).await.ok().get("refresh_token").is_none());
        server.token(&client, &[("grant_type", "refresh_token")]).await.refused(400, "invalid_request");
    }

    async fn public_clients_and_those_with_jwts_refresh_too(database) {
        let (server, _) = house(database, "").await;
        let public = server.client_add(&[&APP[..], &["--public"]].concat()).await;
        let (_, refresh) = sign_in(&server, &public).await;
        let answer = server.refresh(&public, &refresh).await;
        let (_, refresh) = tokens(&answer);
        let confidential = server.client_add(&APP).await;
        server.refresh(&confidential, &refresh).await.refused(400, "invalid_grant");
        tokens(&server.refresh(&public, &refresh).await);

        let jwt = server.client_add(&[&APP[..], &["--token-format", "jwt", "--jwt-claim", "roles"]].concat()).await;
        let (first_access, first) = sign_in(&server, &jwt).await;
        assert!(first.starts_with("cs_rt_") && first_access.split('.').count() == 3);
        let (access, second) = tokens(&server.refresh(&jwt, &first).await);
        assert_eq!(server.introspect(&jwt, &access).await.ok()["roles"], json!(["reader"]));
        tokens(&server.refresh(&jwt, &second).await);
        server.refresh(&jwt, &first).await.refused(400, "invalid_grant");
        assert!(!server.is_active(&jwt, &access).await && !server.is_active(&jwt, &first_access).await);
    }
}
