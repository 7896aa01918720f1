//! Two nodes over one PostgreSQL: what one issues the other knows, what one revokes both refuse, and a node that is cut off says
//! that it cannot know rather than guess.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Client, Database, Proxy, Server, Setup, eventually, within_a_second};

const COMMON: &str = "[server]\nissuer = \"https://tokens.example\"\n[tokens]\nmax_staleness = \"1s\"\n";
const APP: [&str; 8] = ["--grant", "password", "--grant", "refresh_token", "--grant", "client_credentials", "--scope", "read"];
const OWN: [(&str, &str); 1] = [("grant_type", "client_credentials")];
const PASSWORD: &str = "a lamp beside 7 green doors";

/// Two nodes, one issuer, one client, one account.
async fn two_nodes() -> (Server, Server, Client) {
    let a = Setup::new(Database::postgres()).config(COMMON).start().await;
    let b = Setup::beside(&a).config(COMMON).start().await;
    a.user_add("anna", PASSWORD, &[]).await;
    let client = a.client_add(&APP).await;
    (a, b, client)
}

/// The second node reaches the database through a proxy that the story breaks.
async fn with_a_proxy_before_b() -> (Server, Server, Proxy, Client) {
    let database = Database::postgres();
    let mut url = url::Url::parse(&database.url()).unwrap();
    let proxy = Proxy::to(&format!("127.0.0.1:{}", url.port().unwrap()));
    url.set_port(Some(proxy.port())).unwrap();
    let a = Setup::new(database).config(COMMON).start().await;
    let b = Setup::beside(&a).config(&format!("{COMMON}[database]\nurl = \"{url}\"\n")).start().await;
    let client = a.client_add(&APP).await;
    (a, b, proxy, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_one_node_means_the_same_on_the_other() {
    let (a, b, client) = two_nodes().await;
    let jwt = b.client_add(&[&APP[..], &["--token-format", "jwt"]].concat()).await;
    for (client, from, to) in [(&client, &a, &b), (&jwt, &b, &a), (&jwt, &a, &b)] {
        for token in [from.own_token(client).await, from.sign_in(client, "anna", PASSWORD).await.access_token()] {
            let (here, there) = (from.introspect(client, &token).await, to.introspect(client, &token).await);
            assert_eq!(here.ok()["active"], json!(true), "{}", here.body);
            for member in ["active", "sub", "username", "iss", "aud", "exp", "jti", "roles", "scope"] {
                assert_eq!(here.json[member], there.ok()[member], "{member}");
            }
        }
    }
    assert_eq!(a.get("/oauth2/jwks").await.ok(), b.get("/oauth2/jwks").await.ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_on_one_node_holds_on_the_other_within_a_second() {
    let (a, b, client) = two_nodes().await;
    let own = a.own_token(&client).await;
    let held = a.sign_in(&client, "anna", PASSWORD).await;
    assert!(b.is_active(&client, &own).await && b.is_active(&client, &held.access_token()).await);
    a.revoke(&client, &own).await;
    within_a_second("an access token revoked on A", async || !b.is_active(&client, &own).await).await;
    b.revoke(&client, &held.text("refresh_token")).await;
    within_a_second("a refresh token revoked on B", async || !a.is_active(&client, &held.access_token()).await).await;
    a.refresh(&client, &held.text("refresh_token")).await.refused(400, "invalid_grant");

    let (on_a, on_b) = (a.own_token(&client).await, b.own_token(&client).await);
    a.cli(&["revoke", "--client", &client.id]).await.ok();
    within_a_second("revoked by the command line", async || !a.is_active(&client, &on_b).await && !b.is_active(&client, &on_a).await).await;
    assert!(b.is_active(&client, &a.own_token(&client).await).await, "what is issued afterwards lives on both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_know_a_new_client_at_its_first_request() {
    let (a, b, _) = two_nodes().await;
    for _ in 0..5 {
        let client = a.client_add(&APP).await;
        let token = b.own_token(&client).await;
        assert!(a.is_active(&client, &token).await);
        let second = Client::from_json(&a.cli(&["client", "secret", "add", &client.id, "--json"]).await.json());
        b.own_token(&second).await;
        a.own_token(&second).await;
        a.cli(&["client", "secret", "remove", &client.id, client.secret_id.as_deref().unwrap()]).await.ok();
        within_a_second("a removed secret", async || {
            a.token(&client, &OWN).await.status == 401 && b.token(&client, &OWN).await.status == 401
        })
        .await;
        a.own_token(&second).await;
        b.own_token(&second).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_generation_used_on_both_at_once_has_one_successor() {
    let (a, b, client) = two_nodes().await;
    let answer = a.sign_in(&client, "anna", PASSWORD).await;
    let refresh = answer.text("refresh_token");
    let answers = join_all((0..16).map(|n| if n % 2 == 0 { a.refresh(&client, &refresh) } else { b.refresh(&client, &refresh) })).await;
    for answer in &answers {
        assert!(a.is_active(&client, &answer.access_token()).await && b.is_active(&client, &answer.access_token()).await);
    }
    assert_eq!(a.rows("SELECT generation, dead FROM refresh_families"), ["2|f"]);
    let count = |event| a.rows(&format!("SELECT count(*) FROM audit_records WHERE event = '{event}'")).remove(0);
    assert_eq!((count("refreshed"), count("refresh_repeated"), count("refresh_replayed")), ("1".into(), "15".into(), "0".into()));
    // Whichever a caller got is the current one.
    let next = b.refresh(&client, &answers[0].text("refresh_token")).await;
    a.refresh(&client, &answers[15].text("refresh_token")).await.ok();
    a.refresh(&client, &next.text("refresh_token")).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_is_refused_by_both() {
    let (a, b, client) = two_nodes().await;
    let (old, list) = (a.own_token(&client).await, a.cli(&["keys", "list", "--json"]).await.json());
    let sealing = list.as_array().unwrap().iter().find(|key| key["purpose"] == "sealing").unwrap();
    a.cli(&["keys", "revoke", sealing["kid"].as_str().unwrap()]).await.ok();
    within_a_second("a revoked key", async || !a.is_active(&client, &old).await && !b.is_active(&client, &old).await).await;
    for (from, to) in [(&a, &b), (&b, &a)] {
        assert!(to.is_active(&client, &from.own_token(&client).await).await, "the next key is in use on both");
    }
}

/// Everything that depends on the feed says that it cannot know.
async fn is_cut_off(b: &Server, client: &Client, token: &str) {
    eventually(Duration::from_secs(5), "the node notices that it is cut off", async || b.get("/readyz").await.status == 503).await;
    for _ in 0..3 {
        b.token(client, &OWN).await.refused(503, "temporarily_unavailable");
        let answer = b.introspect(client, token).await;
        answer.refused(503, "temporarily_unavailable");
        assert_eq!(answer.json.get("active"), None::<&Value>);
        assert!(!answer.header("retry-after").is_empty());
        b.revoke(client, token).await.refused(503, "temporarily_unavailable");
        assert_eq!((b.get("/readyz").await.status, b.get("/healthz").await.status), (503, 200));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn is_back(a: &Server, b: &Server, client: &Client, kept: &str, revoked: &str) {
    eventually(Duration::from_secs(20), "the node is back", async || b.get("/readyz").await.status == 200).await;
    assert!(!b.is_active(client, revoked).await, "what was revoked meanwhile");
    assert!(b.is_active(client, kept).await);
    assert!(a.is_active(client, &b.own_token(client).await).await);
    assert_eq!(b.revoke(client, kept).await.status, 200);
    within_a_second("a revocation by the node that is back", async || !a.is_active(client, kept).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_behind_a_silent_partition_answers_503_and_recovers() {
    let (a, b, proxy, client) = with_a_proxy_before_b().await;
    let (kept, revoked) = (a.own_token(&client).await, b.own_token(&client).await);
    assert!(b.is_active(&client, &kept).await);
    let asked = b.own_token(&client).await;
    proxy.hang();
    assert_eq!(a.revoke(&client, &revoked).await.status, 200);
    // A request that is on its way to the database when the line goes silent is answered too.
    let caught = async { b.revoke(&client, &asked).await.refused(503, "temporarily_unavailable").clone() };
    tokio::join!(caught, is_cut_off(&b, &client, &kept));
    proxy.resume();
    is_back(&a, &b, &client, &kept, &revoked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_connections_are_cut_answers_503_and_recovers() {
    let (a, b, proxy, client) = with_a_proxy_before_b().await;
    let (kept, revoked) = (a.own_token(&client).await, b.own_token(&client).await);
    assert!(b.is_active(&client, &kept).await);
    proxy.stop();
    assert_eq!(a.revoke(&client, &revoked).await.status, 200);
    is_cut_off(&b, &client, &kept).await;
    proxy.resume();
    is_back(&a, &b, &client, &kept, &revoked).await;
}
