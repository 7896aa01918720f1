//! Three nodes over one PostgreSQL, each asked for the same thing at the same moment: what may happen once happens once. And what one
//! of them changes the others know within a second.

use futures_util::future::join_all;
use serde_json::Value;

use crate::harness::{Client, Database, Oidc, Server, Setup, within_a_second};

const PASSWORD: &str = "a lamp beside 7 green doors";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const TRIES: usize = 24;

async fn three_nodes(okta: &Oidc) -> (Vec<Server>, Client) {
    let common = "[server]\nissuer = \"https://tokens.example\"\n[limits]\nexchange_failures = \"100000/1m\"\n[[source]]\nname = \"local\"\n\
                  type = \"local\"";
    let first = Setup::new(Database::postgres()).config(common).okta("okta", okta, "").start().await;
    let second = Setup::beside(&first).config(common).okta("okta", okta, "").start().await;
    let third = Setup::beside(&first).named("third.toml").config(common).okta("okta", okta, "").start().await;
    first.user_add("anna", PASSWORD, &[]).await;
    let grants = ["client_credentials", "password", "refresh_token", EXCHANGE];
    let flags: Vec<&str> = grants.iter().flat_map(|grant| ["--grant", grant]).collect();
    let client = first.client_add(&flags).await;
    (vec![first, second, third], client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_token_is_exchanged_once() {
    let okta = Oidc::issuer().await;
    let (nodes, client) = three_nodes(&okta).await;
    for _ in 0..5 {
        let id_token = okta.mint("alice").await;
        let answers = join_all((0..TRIES).map(|n| nodes[n % 3].exchange(&client, &id_token, &[]))).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        assert_eq!((won.len(), lost.len()), (1, TRIES - 1));
        for answer in lost {
            answer.refused(400, "invalid_grant");
        }
    }
    assert_eq!(nodes[0].rows("SELECT count(*) FROM grants"), ["5"], "those who lost left nothing behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generations_are_counted_once() {
    let okta = Oidc::issuer().await;
    let (nodes, client) = three_nodes(&okta).await;
    let mut token = nodes[0].sign_in(&client, "anna", PASSWORD).await.text("refresh_token");
    for round in 1..=5 {
        let answers = join_all((0..TRIES).map(|n| nodes[n % 3].refresh(&client, &token))).await;
        for answer in &answers {
            answer.ok();
        }
        assert_eq!(nodes[0].rows("SELECT generation, dead FROM refresh_families"), [format!("{}|f", round + 1)]);
        token = answers[round].text("refresh_token");
    }
    // A thief comes with the first of them to all nodes at once: the family is ended, on all of them.
    let stolen = nodes[0].sign_in(&client, "anna", PASSWORD).await;
    let (old, mut current) = (stolen.text("refresh_token"), stolen.text("refresh_token"));
    for node in &nodes {
        current = node.refresh(&client, &current).await.text("refresh_token");
    }
    for answer in join_all((0..TRIES).map(|n| nodes[n % 3].refresh(&client, &old))).await {
        answer.refused(400, "invalid_grant");
    }
    for node in &nodes {
        node.refresh(&client, &current).await.refused(400, "invalid_grant");
        let access = stolen.access_token();
        within_a_second("its access tokens are dead", async || !node.is_active(&client, &access).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_clients_are_known_to_all_within_a_second() {
    let okta = Oidc::issuer().await;
    let (nodes, client) = three_nodes(&okta).await;
    let kids = async |node: &Server| {
        let mut kids: Vec<String> = node.get("/oauth2/jwks").await.ok()["keys"].as_array().unwrap().iter().map(kid).collect();
        kids.sort();
        kids
    };
    let before = kids(&nodes[0]).await;
    nodes[1].cli(&["keys", "rotate"]).await.ok();
    for node in &nodes {
        within_a_second("the new keys are published", async || kids(node).await.len() == 2 * before.len()).await;
    }
    // Whatever each of them seals and signs with by now, the others open it.
    for from in &nodes {
        let token = from.own_token(&client).await;
        for to in &nodes {
            assert!(to.is_active(&client, &token).await);
        }
    }
    let token = nodes[2].own_token(&client).await;
    let other = nodes[0].client_add(&["--introspect", "any"]).await;
    nodes[1].cli(&["client", "remove", &client.id]).await.ok();
    for node in &nodes {
        let own = [("grant_type", "client_credentials")];
        within_a_second("the client is gone", async || node.token(&client, &own).await.status == 401).await;
        within_a_second("and its tokens", async || !node.is_active(&other, &token).await).await;
    }
}

fn kid(key: &Value) -> String {
    key["kid"].as_str().unwrap().to_owned()
}
