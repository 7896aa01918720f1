//! What the metrics say of directories, and that watching them changes nothing.

use crate::harness::{Database, Ldap, Setup, free_port};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_are_timed_and_scrapes_are_no_requests() {
    let port = free_port();
    let metrics = format!("[metrics]\nlisten = \"127.0.0.1:{port}\"");
    let server = Setup::new(Database::sqlite()).ldap("lab", &Ldap::shared(), "").config(&metrics).start().await;
    let client = server.client_add(&["--grant", "password"]).await;
    server.sign_in(&client, "alice", "pw-alice").await.ok();
    let scrape = async || reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.unwrap().text().await.unwrap();
    scrape().await;
    let text = scrape().await;
    for operation in ["connect", "bind", "search"] {
        let line = format!("countersign_ldap_operation_seconds_count{{source=\"lab\",operation=\"{operation}\"}} ");
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
    assert!(text.contains("countersign_http_requests_total{route=\"other\",status=\"200\"} 0"), "{text}");
}
