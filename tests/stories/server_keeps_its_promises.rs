//! What an operator relies on: TLS, proxies, health, metrics, logs that tell no secret, an orderly stop, and rows that go.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Answer, Certificates, Client, Database, Ldap, Oidc, Server, Setup, free_port, on_both_databases, slow};

const PASSWORD: &str = "five blue herons crossing";
const ALL: [&str; 10] = [
    "--grant",
    "client_credentials",
    "--grant",
    "password",
    "--grant",
    "refresh_token",
    "--grant",
    "urn:ietf:params:oauth:grant-type:token-exchange",
    "--scope",
    "read",
];

/// A new connection that must succeed, and the certificate that it was shown.
async fn certificate(certificates: &Certificates, server: &Server) -> String {
    let pem = std::fs::read(certificates.authority()).unwrap();
    let root = reqwest::Certificate::from_pem(&pem).unwrap();
    let http = reqwest::Client::builder().no_proxy().add_root_certificate(root).tls_info(true).build().unwrap();
    let answer = http.get(server.url("/healthz")).send().await.expect("the handshake succeeds");
    assert_eq!(answer.status(), 200);
    let info = answer.extensions().get::<reqwest::tls::TlsInfo>().expect("it spoke TLS");
    String::from_utf8_lossy(info.peer_certificate().expect("the server showed a certificate")).into_owned()
}

/// A request from another address of loopback.
async fn ask_from(address: &str, request: impl FnOnce(reqwest::Client) -> reqwest::RequestBuilder) -> Answer {
    let http = reqwest::Client::builder().no_proxy().local_address(Some(address.parse().unwrap())).build().unwrap();
    Answer::of(request(http).send().await.expect("the server answers")).await
}

/// Waits until `holds`, for so many seconds at most.
async fn eventually(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    for _ in 0..seconds * 20 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within {seconds} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_without_a_restart() {
    let certificates = Certificates::new(&["one", "two"]);
    let server = Setup::new(Database::sqlite()).tls(&certificates, "one").start().await;
    let client = server.client_add(&["--grant", "client_credentials"]).await;
    let token = server.own_token(&client).await;
    assert_eq!(server.introspect(&client, &token).await.ok()["iss"], json!(server.origin()));
    assert!(server.origin().starts_with("https://"));
    assert!(certificate(&certificates, &server).await.contains("one.lab.test"));

    std::fs::copy(certificates.certificate("two"), certificates.certificate("one")).unwrap();
    std::fs::copy(certificates.key("two"), certificates.key("one")).unwrap();
    eventually("the new pair is read", 20, || server.log().contains("were read again")).await;
    let shown = certificate(&certificates, &server).await;
    assert!(shown.contains("two.lab.test") && !shown.contains("one.lab.test"), "a new connection gets the new certificate");
    assert!(server.is_active(&client, &token).await, "a connection from before goes on");

    // A broken file changes nothing, and the log says so.
    std::fs::write(certificates.certificate("one"), "nonsense").unwrap();
    eventually("the broken file is noticed", 20, || server.log().contains("the old ones stay")).await;
    assert!(certificate(&certificates, &server).await.contains("two.lab.test"));

    // Plain http at a TLS port gets no answer, and leaves the server as it was.
    let plain = server.url("/healthz").replace("https://", "http://");
    assert!(reqwest::get(plain).await.is_err());
    server.get("/healthz").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_off_loopback_is_refused_at_the_start() {
    let said = Setup::new(Database::sqlite()).config("[server]\nlisten = \"0.0.0.0:0\"").refused().await;
    for part in ["countersign.toml:2:", "server.listen", "tls_certificate", "tls_key", "trusted_proxies", "127.0.0.1"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let certificates = Certificates::new(&["one", "two"]);
    let said = Setup::new(Database::sqlite())
        .config(&format!("[server]\ntls_key = {:?}", certificates.key("two").to_string_lossy()))
        .tls(&certificates, "one")
        .refused()
        .await;
    assert!(said.contains("server.tls_key") && said.contains("two.key") && said.contains("one.crt"), "{said}");
}

on_both_databases! {
    async fn behind_a_proxy_the_address_is_the_clients(database) {
        let server = Setup::new(database).config("[server]\ntrusted_proxies = [\"127.0.0.1/32\"]").start().await;
        let client = server.client_add(&ALL).await;
        server.user_add("anna", PASSWORD, &[]).await;
        let form = format!("grant_type=password&username=anna&password={}", PASSWORD.replace(' ', "+"));
        let headers = [("authorization", &*client.basic()), ("x-forwarded-for", "192.0.2.1, 203.0.113.7")];
        server.raw("/oauth2/token", &headers, form.clone()).await.ok();
        let sign_ins = "SELECT address FROM audit_records WHERE event = 'sign_in' ORDER BY id";
        assert_eq!(server.rows(sign_ins), ["203.0.113.7"], "the rightmost that is no proxy; what stands left of it anybody may write");

        // Nobody but a proxy is believed.
        let answer = ask_from("127.0.0.9", |http| {
            let request = http.post(server.url("/oauth2/token")).header("authorization", client.basic());
            request.header("x-forwarded-for", "203.0.113.7").header("content-type", "application/x-www-form-urlencoded").body(form)
        });
        answer.await.ok();
        let mut addresses = server.rows(sign_ins);
        addresses.sort();
        assert_eq!(addresses, ["127.0.0.9", "203.0.113.7"]);
    }

    async fn off_loopback_only_proxies_are_answered(database) {
        let config = "[server]\nissuer = \"https://auth.example.org\"\ntrusted_proxies = [\"127.0.0.2/32\"]";
        let server = Setup::new(database).off_loopback().config(config).start().await;
        let client = server.client_add(&ALL).await;
        let own = [("grant_type", "client_credentials")];
        server.token(&client, &own).await.refused(400, "invalid_request");
        for path in ["/", "/oauth2/jwks", "/.well-known/openid-configuration", "/metrics", "/readyz/x"] {
            server.get(path).await.refused(400, "invalid_request");
        }
        let forged = server.raw("/oauth2/token", &[("x-forwarded-for", "127.0.0.2")], "grant_type=client_credentials").await;
        forged.refused(400, "invalid_request");
        for path in ["/healthz", "/readyz"] {
            server.get(path).await.ok();
        }
        ask_from("127.0.0.2", |http| http.post(server.url("/oauth2/token")).header("authorization", client.basic()).form(&own)).await.ok();
    }

    async fn health_tells_alive_from_ready(database) {
        let server = Setup::new(database).start().await;
        for path in ["/healthz", "/readyz"] {
            let answer = server.get(path).await;
            assert_eq!((answer.ok(), answer.header("cache-control")), (&json!({"status": "ok"}), "no-store"));
        }
    }

    async fn counters_move_on_a_listener_of_their_own(database) {
        let port = free_port();
        let server = Setup::new(database).config(&format!("[metrics]\nlisten = \"127.0.0.1:{port}\"")).start().await;
        let client = server.client_add(&ALL).await;
        server.user_add("anna", PASSWORD, &[]).await;
        let scrape = async || reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.unwrap().text().await.unwrap();
        let value = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
            line.trim().parse::<f64>().unwrap()
        };
        let before = scrape().await;
        assert_eq!(value(&before, "countersign_tokens_issued_total{grant=\"client_credentials\"}"), 0.0);

        let token = server.own_token(&client).await;
        server.own_token(&client).await;
        server.is_active(&client, &token).await;
        server.is_active(&client, "nothing").await;
        server.sign_in(&client, "anna", PASSWORD).await.ok();
        server.sign_in(&client, "anna", "wrong").await.refused(400, "invalid_grant");
        server.token(&Client::new("nobody", "x"), &[("grant_type", "client_credentials")]).await.refused(401, "invalid_client");
        let after = scrape().await;
        for (name, wanted) in [
            ("countersign_tokens_issued_total{grant=\"client_credentials\"}", 2.0),
            ("countersign_tokens_issued_total{grant=\"password\"}", 1.0),
            ("countersign_introspections_total{active=\"true\"}", 1.0),
            ("countersign_introspections_total{active=\"false\"}", 1.0),
            ("countersign_sign_ins_total{source=\"local\",outcome=\"ok\"}", 1.0),
            ("countersign_sign_ins_total{source=\"local\",outcome=\"refused\"}", 1.0),
            ("countersign_sign_in_refusals_total{reason=\"bad_password\"}", 1.0),
            ("countersign_refusals_total{reason=\"invalid_client\"}", 1.0),
            ("countersign_http_requests_total{route=\"token\",status=\"200\"}", 3.0),
            ("countersign_http_requests_total{route=\"token\",status=\"401\"}", 1.0),
            ("countersign_http_requests_total{route=\"introspect\",status=\"200\"}", 2.0),
            ("countersign_password_hash_queue", 0.0),
        ] {
            assert_eq!(value(&after, name), wanted, "{name}");
        }
        // The client and the account that the command line added came by the feed.
        assert!(value(&after, "countersign_feed_applied") >= 1.0 && value(&after, "countersign_feed_age_seconds") < 5.0, "{after}");
        assert!(!after.contains("anna") && !after.contains(&client.id), "labels name nobody");

        assert_eq!(server.get("/metrics").await.status, 404, "the main listener has no metrics");
        let elsewhere = reqwest::get(format!("http://127.0.0.1:{port}/healthz")).await.unwrap();
        assert_eq!(elsewhere.status(), 404, "the metrics listener has nothing else");
    }

    async fn a_failure_is_found_by_its_request_id(database) {
        let dead = format!("urls = [\"ldaps://127.0.0.1:{}\"]", free_port());
        let setup = Setup::new(database).config("[log]\nformat = \"json\"\nlevel = \"info,countersign=debug\"");
        let server = setup.ldap("corp", &Ldap::shared(), &dead).start().await;
        let client = server.client_add(&ALL).await;
        let failed = server.sign_in(&client, "alice", PASSWORD).await;
        assert!(!failed.refused(503, "temporarily_unavailable").header("retry-after").is_empty());
        assert!(!failed.body.contains("127.0.0.1"), "the cause stays inside: {}", failed.body);
        server.token(&Client::new(&client.id, "x"), &[("grant_type", "client_credentials")]).await.refused(401, "invalid_client");
        server.sign_in(&client, "", "x").await.refused(400, "invalid_request");

        let lines: Vec<Value> = server.log().lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
        let line = |error: &str| lines.iter().find(|l| l["error"] == json!(error)).unwrap_or_else(|| panic!("no {error} in {lines:#?}"));
        let outage = line("temporarily_unavailable");
        assert_eq!(outage["level"], json!("ERROR"));
        assert!(outage["cause"].as_str().is_some_and(|cause| cause.contains("corp")), "{outage}");
        for failure in [outage, line("invalid_client"), line("invalid_request")] {
            let id = failure["request"].as_str().expect("a failure names its request");
            assert!(id.split_once('-').is_some_and(|(process, number)| process.len() == 8 && number.parse::<u64>().is_ok()), "{id}");
            assert_eq!(failure["client"], json!("127.0.0.1"));
        }
    }

    async fn no_log_level_tells_a_secret(database) {
        let (okta, ldap) = (Oidc::issuer().await, Ldap::shared());
        let setup = Setup::new(database).config("[log]\nlevel = \"trace\"\n[dialect.croit]");
        let setup = setup.config("[[source]]\nname = \"local\"\ntype = \"local\"");
        let server = setup.ldap("corp", &ldap, "").okta("okta", &okta, "").start().await;
        let client = server.client_add(&ALL).await;
        server.user_add("anna", PASSWORD, &[]).await;
        let person = ldap.add_person(&[]);

        let own = server.own_token(&client).await;
        let posted = format!("grant_type=client_credentials&client_id={}&client_secret={}", client.id, client.secret());
        let by_post = server.raw("/oauth2/token", &[], posted).await.access_token();
        let signed_in = server.sign_in(&client, "anna", PASSWORD).await;
        server.sign_in(&client, &person.uid, &person.password).await.ok();
        server.sign_in(&client, "anna", "a wrong password").await.refused(400, "invalid_grant");
        server.sign_in(&client, &person.uid, "a wrong password").await.refused(400, "invalid_grant");
        let refreshed = server.refresh(&client, &signed_in.text("refresh_token")).await;
        let id_token = okta.mint("alice").await;
        let exchanged = server.exchange(&client, &id_token, &[]).await.access_token();
        assert!(server.is_active(&client, &refreshed.access_token()).await);
        let mut basic = format!("Basic {}", STANDARD.encode(format!("anna:{PASSWORD}")));
        let croit = server.raw("/api/auth/login", &[("authorization", &basic)], "").await.access_token();
        server.get_as("/api/auth/token-info", &croit).await.ok();
        server.revoke(&client, &refreshed.text("refresh_token")).await;
        server.introspect(&Client::new(&client.id, "cs_sec_wrong"), &own).await.refused(401, "invalid_client");

        let log = server.log();
        assert!(log.contains("TRACE") && log.contains("DEBUG"), "the level is trace");
        let secrets = [
            ("password", PASSWORD.to_owned()),
            ("password in a form", PASSWORD.replace(' ', "+")),
            ("password in Basic", basic.split_off(6)),
            ("wrong password", "a wrong password".to_owned()),
            ("wrong password in a form", "a+wrong+password".to_owned()),
            ("password of a directory", person.password),
            ("password of the directory's service", Ldap::SERVICE_PASSWORD.to_owned()),
            ("client secret", client.secret().to_owned()),
            ("client secret in Basic", client.basic().split_off(6)),
            ("wrong client secret", "cs_sec_wrong".to_owned()),
            ("own token", own),
            ("token got by post", by_post),
            ("access token", signed_in.access_token()),
            ("refresh token", signed_in.text("refresh_token")),
            ("second refresh token", refreshed.text("refresh_token")),
            ("second access token", refreshed.access_token()),
            ("id token", id_token),
            ("exchanged token", exchanged),
            ("token of the croit shape", croit),
        ];
        for (what, secret) in secrets {
            let line = log.lines().find(|line| line.contains(&secret));
            assert_eq!(line, None, "the {what} is in the log");
        }
    }

    async fn a_stop_lets_the_request_under_way_end(database) {
        let mut server = Setup::new(database).start().await;
        let client = server.client_add(&ALL).await;
        let address = server.origin().split_off("http://".len());
        let body = "grant_type=client_credentials";
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let head = format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
            client.basic(),
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body.as_bytes()[..10]).unwrap();
        // An idle connection does not hold up the end.
        let _idle = TcpStream::connect(&address).unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.signal("TERM");
        eventually("new connections are refused", 5, || TcpStream::connect(&address).is_err()).await;

        stream.write_all(&body.as_bytes()[10..]).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("cs_at_"), "{answer}");
        assert!(server.stop().await.success());
        assert!(server.log().contains("stopped cut=0"), "{}", server.log());
    }

    async fn others_at_the_database_take_nothing_from_the_server(database) {
        let sqlite = !database.is_postgres();
        let mut server = Setup::new(database).start().await;
        let client = server.client_add(&ALL).await;
        for n in 1..=4 {
            let name = format!("person-{n}");
            server.user_add(&name, PASSWORD, &[]).await;
            server.sign_in(&client, &name, PASSWORD).await.ok();
            server.cli(&["user", "list"]).await.ok();
            assert_eq!(server.rows("SELECT count(*) FROM grants"), [n.to_string()]);
            // A process that closes the file as its last user deletes the log; the server uses it still.
            assert!(!sqlite || server.directory().join("countersign.db-wal").exists(), "the log is gone");
        }
        server.kill();
        server.restart().await;
        assert_eq!(server.rows("SELECT count(*) FROM grants"), ["4"]);
    }

    async fn rows_that_expired_are_purged(database) {
        if !slow() {
            eprintln!("rows_that_expired_are_purged waits three minutes for real time: tests/run.sh --slow");
            return;
        }
        let port = free_port();
        let lifetimes = "[tokens]\naccess_lifetime = \"1s\"\nrefresh_lifetime = \"2s\"\nrefresh_idle = \"2s\"";
        let server = Setup::new(database).config(lifetimes).config(&format!("[metrics]\nlisten = \"127.0.0.1:{port}\"")).start().await;
        let client = server.client_add(&ALL).await;
        server.user_add("anna", PASSWORD, &[]).await;
        let before = server.sign_in(&client, "anna", PASSWORD).await;
        server.revoke(&client, &before.text("refresh_token")).await;
        server.sign_in(&client, "anna", PASSWORD).await.ok();
        let count = |table: &str| server.rows(&format!("SELECT count(*) FROM {table}"));
        assert_eq!((count("refresh_families"), count("grants")), (vec!["2".to_owned()], vec!["2".to_owned()]));
        let seen = count("audit_records");
        // A family is gone with the first round, a grant two minutes after the last that was issued from it.
        eventually("families are purged", 75, || count("refresh_families") == ["0"]).await;
        eventually("grants are purged", 200, || count("grants") == ["0"]).await;
        assert_eq!(count("audit_records"), seen, "the audit trail is kept for longer");
        let metrics = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.unwrap().text().await.unwrap();
        for line in ["countersign_purged_rows_total{table=\"refresh_families\"} 2", "countersign_purged_rows_total{table=\"grants\"} 2"] {
            assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
        }
        server.sign_in(&client, "anna", PASSWORD).await.ok();
    }
}
