//! The example of docs/examples: a resource server that keeps answers of introspection, and still honours a revocation within a second.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Proxy, Server, Setup, eventually, free_port, on_both_databases, within_a_second};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/resource_server.py");

/// The program, ended with the story.
struct ResourceServer {
    child: Child,
    url: String,
}

impl ResourceServer {
    fn start(server: &Server, client: &Client, feed: &str) -> ResourceServer {
        let mut command = Command::new("python3");
        command.arg(PROGRAM).env("COUNTERSIGN", server.origin()).env("FEED", feed).env("LISTEN_PORT", "0");
        command.env("CLIENT_ID", &client.id).env("CLIENT_SECRET", client.secret()).env("no_proxy", "*");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("python3 runs");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("its output")).read_line(&mut line).expect("it says where it listens");
        let url = line.trim().rsplit(' ').next().expect("a URL").to_owned();
        ResourceServer { child, url }
    }

    async fn get(&self, token: &str) -> Answer {
        let request = crate::harness::client(None).get(&self.url).header("authorization", format!("Bearer {token}"));
        Answer::of(request.send().await.expect("the resource server answers")).await
    }

    /// Whether it asked for the meaning of an active token, and whether it follows the revocations.
    async fn asked_and_following(&self, token: &str) -> (bool, bool) {
        let answer = self.get(token).await;
        let says = |member: &str| answer.ok()[member].as_bool().expect("true or false");
        (says("asked"), says("following"))
    }
}

impl Drop for ResourceServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

on_both_databases! {
    async fn it_keeps_answers_while_it_follows_the_revocations(database) {
        let port = free_port();
        let server = Setup::new(database).config(&format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n")).start().await;
        let introspections = async || {
            let text = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.unwrap().text().await.unwrap();
            let line = text.lines().find(|line| line.starts_with("countersign_introspections_total{active=\"true\"}")).unwrap().to_owned();
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        let app = server.client_add(&["--grant", "client_credentials"]).await;
        let api = server.client_add(&["--revocations", "--introspect", "any"]).await;
        let proxy = Proxy::to(server.origin().trim_start_matches("http://"));
        let resource = ResourceServer::start(&server, &api, &format!("http://127.0.0.1:{}", proxy.port()));
        resource.get("rubbish").await.refused_plainly();

        let token = server.own_token(&app).await;
        let follows = async || resource.asked_and_following(&token).await == (false, true);
        eventually(Duration::from_secs(20), "it follows, and keeps answers", follows).await;
        let before = introspections().await;
        for _ in 0..20 {
            assert_eq!(resource.asked_and_following(&token).await, (false, true));
        }
        assert_eq!(introspections().await, before, "a kept answer is not asked for again");
        server.revoke(&app, &token).await;
        within_a_second("a revoked token", async || resource.get(&token).await.status == 401).await;
        assert_eq!(introspections().await, before, "it learnt that from the stream");

        // The stream goes silent: nothing is kept, and every request asks.
        let token = server.own_token(&app).await;
        resource.get(&token).await.ok();
        assert_eq!(resource.asked_and_following(&token).await, (false, true));
        proxy.hang();
        let lost = async || resource.asked_and_following(&token).await == (true, false);
        eventually(Duration::from_secs(20), "it notices the silence", lost).await;
        assert_eq!(resource.asked_and_following(&token).await, (true, false));
        server.revoke(&app, &token).await;
        resource.get(&token).await.refused_plainly();

        // The stream is back: what was revoked meanwhile is known.
        let token = server.own_token(&app).await;
        proxy.stop();
        proxy.resume();
        let follows = async || resource.asked_and_following(&token).await == (false, true);
        eventually(Duration::from_secs(20), "it follows again", follows).await;
        server.cli(&["revoke", "--all"]).await.ok();
        within_a_second("everything is revoked", async || resource.get(&token).await.status == 401).await;
    }
}

impl Answer {
    /// What the example says to a token that means nothing.
    #[track_caller]
    fn refused_plainly(&self) {
        assert_eq!((self.status, &self.json), (401, &json!({"error": "invalid_token"})), "{}", self.body);
        assert_ne!(self.json, Value::Null);
    }
}
