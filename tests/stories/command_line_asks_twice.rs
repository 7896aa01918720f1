//! What the command line is told by mistake it says, and what may be meant it does: revoking, adding clients, explaining.

use crate::harness::{Database, Setup, within_a_second};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoking_what_is_not_there() {
    let server = Setup::new(Database::sqlite()).start().await;
    let client = server.client_add(&["--grant", "client_credentials"]).await;
    let token = server.own_token(&client).await;
    assert!(server.is_active(&client, &token).await);
    let said = server.cli_with(&["revoke", "--token", "-"], &format!("{token}\n")).await.ok();
    assert!(said.starts_with("revoked the token"), "{said}");
    within_a_second("the revocation of the command line", async || !server.is_active(&client, &token).await).await;
    server.cli_with(&["revoke", "--token", "-"], "").await.failed(1);

    let said = server.cli(&["revoke", "--source", "gone"]).await.ok();
    assert!(said.contains("there is no source gone now") && said.contains("revoked "), "{said}");
    let said = server.cli(&["revoke", "--client", "gone"]).await.ok();
    assert!(said.contains("there is no client gone now") && said.contains("revoked "), "{said}");
    let said = server.cli(&["revoke", "--subject", "0123456789abcdef0123456789abcdef"]).await.failed(1);
    assert!(said.contains("is no account or client"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_name_sources_that_exist_and_explanations_their_age() {
    let server = Setup::new(Database::sqlite()).start().await;
    let said = server.cli(&["client", "add", "app", "--grant", "password", "--source", "corp"]).await.failed(1);
    assert!(said.contains("there is no source corp; the configuration has local"), "{said}");
    server.user_add("ann", "correct horse battery staple", &[]).await;
    let said = server.cli(&["explain", "--source", "local", "--user", "ann"]).await.ok();
    assert!(said.contains("\nasked now, 2") && said.ends_with("Z\n"), "{said}");
    let explained = server.cli(&["explain", "--source", "local", "--user", "ann", "--json"]).await.json();
    assert!(explained["asked_at"].as_str().unwrap().ends_with('Z') && explained["user"] == "ann", "{explained}");
}
