//! A server that is killed (SIGKILL) while it refreshes, revokes and exchanges. Whatever it had answered holds afterwards, and nothing
//! is accepted twice. Five times over in each run, two hundred with `tests/run.sh --slow`.

use std::time::Duration;

use futures_util::future::join_all;

use crate::harness::{Client, Database, Oidc, Server, Setup, on_both_databases, slow};

const PASSWORD: &str = "a lamp beside 7 green doors";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const FAMILIES: usize = 6;
const REVOKED: usize = 60;
const EXCHANGED: usize = 12;

async fn house(database: Database, okta: &Oidc) -> (Server, Client) {
    let setup = Setup::new(database)
        .config("[limits]\nrevocations = \"100000/1m\"\nexchange_failures = \"100000/1m\"\n[[source]]\nname = \"local\"\ntype = \"local\"");
    let server = setup.okta("okta", okta, "").start().await;
    server.user_add("anna", PASSWORD, &[]).await;
    let grants = ["client_credentials", "password", "refresh_token", EXCHANGE];
    let flags: Vec<&str> = grants.iter().flat_map(|grant| ["--grant", grant]).collect();
    let client = server.client_add(&flags).await;
    (server, client)
}

/// A refresh token with all that came before it, as far as their holder was told.
struct Family {
    /// Oldest first; the last is the current one.
    tokens: Vec<String>,
    /// The last request got no answer: it may have taken effect.
    cut: bool,
}

/// Uses each token for the next until the server is gone.
async fn refresh(server: &Server, client: &Client, mut family: Family) -> Family {
    loop {
        let token = family.tokens.last().unwrap().clone();
        match server.attempt("/oauth2/token", client, &[("grant_type", "refresh_token"), ("refresh_token", &token)]).await {
            Some(answer) => family.tokens.push(answer.text("refresh_token")),
            None => return Family { cut: true, ..family },
        }
    }
}

/// Revokes one after the other until the server is gone; answers those that it confirmed.
async fn revoke(server: &Server, client: &Client, tokens: &[String]) -> Vec<String> {
    let mut confirmed = Vec::new();
    for token in tokens {
        match server.attempt("/oauth2/revoke", client, &[("token", token)]).await {
            Some(answer) => assert_eq!(answer.status, 200, "{}", answer.body),
            None => break,
        }
        confirmed.push(token.clone());
    }
    confirmed
}

/// Exchanges until the server is gone: for each id token that was sent, the access token if there was an answer.
async fn exchange(server: &Server, client: &Client, id_tokens: &[String]) -> Vec<(String, Option<String>)> {
    let mut sent = Vec::new();
    for id_token in id_tokens {
        let subject_type = "urn:ietf:params:oauth:token-type:id_token";
        let form = [("grant_type", EXCHANGE), ("subject_token", id_token), ("subject_token_type", subject_type)];
        let answer = server.attempt("/oauth2/token", client, &form).await;
        let gone = answer.is_none();
        sent.push((id_token.clone(), answer.map(|answer| answer.access_token())));
        if gone {
            break;
        }
    }
    sent
}

/// One death under load, and what is found afterwards.
async fn die_once(server: &mut Server, client: &Client, okta: &Oidc, after: Duration) {
    let mut families = Vec::new();
    for _ in 0..FAMILIES {
        let first = server.sign_in(client, "anna", PASSWORD).await.text("refresh_token");
        families.push(Family { tokens: vec![first], cut: false });
    }
    let condemned: Vec<String> = join_all((0..REVOKED).map(|_| server.own_token(client))).await;
    let id_tokens: Vec<String> = join_all((0..EXCHANGED).map(|_| okta.mint("alice"))).await;

    let running = &*server;
    let kill = async {
        tokio::time::sleep(after).await;
        running.signal("KILL");
    };
    let refreshing = join_all(families.into_iter().map(|family| refresh(running, client, family)));
    let (confirmed, families, sent, ()) =
        tokio::join!(revoke(running, client, &condemned), refreshing, exchange(running, client, &id_tokens), kill);
    server.restart().await;

    for token in &confirmed {
        assert!(!server.is_active(client, token).await, "a revoked token is active again");
    }
    for (id_token, access_token) in &sent {
        if let Some(token) = access_token {
            assert!(server.is_active(client, token).await, "what was issued is lost");
            server.exchange(client, id_token, &[]).await.refused(400, "invalid_grant");
            continue;
        }
        // Nobody heard whether it was used. It can be used once more at most.
        let again = server.exchange(client, id_token, &[]).await;
        assert!(matches!(again.status, 200 | 400), "{}", again.body);
        server.exchange(client, id_token, &[]).await.refused(400, "invalid_grant");
    }
    for family in &families {
        assert!(family.cut);
        let held = family.tokens.last().unwrap();
        // Either it is the current one, or the one before, whose successor nobody heard of: then within the grace.
        let next = server.refresh(client, held).await.text("refresh_token");
        let after_next = server.refresh(client, &next).await;
        assert!(server.is_active(client, &after_next.access_token()).await);
        // Two generations back is a thief's.
        server.refresh(client, held).await.refused(400, "invalid_grant");
        server.refresh(client, &after_next.text("refresh_token")).await.refused(400, "invalid_grant");
    }
    let answered: usize = families.iter().map(|family| family.tokens.len() - 1).sum();
    eprintln!("after {after:?}: {answered} refreshes, {} revocations, {} exchanges were answered", confirmed.len(), sent.len());
}

on_both_databases! {
    async fn what_was_answered_holds(database) {
        let okta = Oidc::issuer().await;
        let (mut server, client) = house(database, &okta).await;
        let times = if slow() { 200 } else { 5 };
        for n in 0..times {
            // Sometimes at the first requests, sometimes when all is under way.
            die_once(&mut server, &client, &okta, Duration::from_millis(20 + 61 * (n % 9))).await;
        }
        // Every generation came from one refresh that was written down.
        assert_eq!(
            server.rows("SELECT sum(generation - 1) FROM refresh_families"),
            server.rows("SELECT count(*) FROM audit_records WHERE event = 'refreshed'")
        );
    }
}
