//! GET /oauth2/revocations: resource servers follow the revocations, by asking again or by a stream, and learn nothing else.

use std::io::{Read, Write};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{
    ASSERTION_TYPE, Answer, Client, ClientKey, Database, Proxy, Server, Setup, eventually, form, on_both_databases, within_a_second,
};

const APP: [&str; 6] = ["--grant", "client_credentials", "--grant", "password", "--grant", "refresh_token"];
const FOLLOWER: [&str; 1] = ["--revocations"];
const PATH: &str = "/oauth2/revocations";
const PASSWORD: &str = "a lamp beside 7 green doors";

async fn get(server: &Server, client: &Client, since: Option<&str>, headers: &[(&str, &str)]) -> Answer {
    let query = since.map(|since| format!("?since={since}")).unwrap_or_default();
    let mut request = crate::harness::client(None).get(server.url(&format!("{PATH}{query}"))).header("authorization", client.basic());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().await.expect("the server answers")).await
}

/// base64url(SHA-256(kind, 0x00, value)), as whoever holds a token computes it.
fn h(kind: &str, value: &str) -> String {
    use base64::Engine;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{kind}\0{value}").as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
}

/// (kind, h) of each entry.
fn entries(news: &Value) -> Vec<(String, String)> {
    let text = |entry: &Value, name: &str| entry[name].as_str().expect("a text").to_owned();
    news["entries"].as_array().expect("entries").iter().map(|entry| (text(entry, "kind"), text(entry, "h"))).collect()
}

fn entry(kind: &str, value: &str) -> (String, String) {
    (kind.to_owned(), h(kind, value))
}

async fn jti(server: &Server, client: &Client, token: &str) -> String {
    server.introspect(client, token).await.text("jti")
}

on_both_databases! {
    async fn a_snapshot_and_then_what_comes_after(database) {
        let server = Setup::new(database).start().await;
        let (app, follower) = (server.client_add(&APP).await, server.client_add(&FOLLOWER).await);
        let empty = get(&server, &follower, None, &[]).await;
        assert_eq!((entries(empty.ok()), &empty.json["more"]), (vec![], &json!(false)));
        let start = empty.text("cursor");
        assert_eq!((empty.header("cache-control"), empty.header("vary")), ("private, no-cache", "Authorization, Accept"));

        let (first, second) = (server.own_token(&app).await, server.own_token(&app).await);
        let (first_id, second_id) = (jti(&server, &app, &first).await, jti(&server, &app, &second).await);
        let exp = server.introspect(&app, &first).await.ok()["exp"].as_i64().unwrap();
        server.revoke(&app, &first).await;
        let after = get(&server, &follower, Some(&start), &[]).await;
        assert_eq!(entries(after.ok()), [entry("jti", &first_id)]);
        assert!(after.json["entries"][0]["until"].as_i64().unwrap() >= exp, "it matters for as long as the token would have lived");
        server.revoke(&app, &second).await;
        let next = get(&server, &follower, Some(&after.text("cursor")), &[]).await;
        assert_eq!(entries(next.ok()), [entry("jti", &second_id)]);
        assert_eq!(entries(get(&server, &follower, Some(&start), &[]).await.ok()).len(), 2);
        assert_eq!(entries(get(&server, &follower, None, &[]).await.ok()).len(), 2, "the snapshot has both");

        // Nothing new: 304 for the same question, until there is.
        let cursor = next.text("cursor");
        let same = get(&server, &follower, Some(&cursor), &[]).await;
        let etag = same.header("etag").to_owned();
        let unchanged = get(&server, &follower, Some(&cursor), &[("if-none-match", &etag)]).await;
        assert_eq!((unchanged.status, unchanged.body.as_str(), unchanged.header("etag")), (304, "", etag.as_str()));
        server.cli(&["revoke", "--client", &app.id]).await.ok();
        within_a_second("a revocation by the command line", async || {
            let news = get(&server, &follower, Some(&cursor), &[("if-none-match", &etag)]).await;
            news.status == 200 && entries(&news.json) == [entry("client_id", &app.id)]
        }).await;
    }

    async fn every_kind_of_revocation_and_nothing_else(database) {
        let mut server = Setup::new(database).start().await;
        let (app, follower) = (server.client_add(&APP).await, server.client_add(&FOLLOWER).await);
        server.user_add("anna", PASSWORD, &[]).await;
        let held = server.sign_in(&app, "anna", PASSWORD).await;
        let seen = server.introspect(&app, &held.access_token()).await;
        let (sub, grant) = (seen.text("sub"), seen.text("grant_id"));
        let start = get(&server, &follower, None, &[]).await.text("cursor");
        // What is no revocation moves the cursor at most.
        server.client_add(&APP).await;
        server.cli(&["keys", "rotate"]).await.ok();
        server.revoke(&app, &held.text("refresh_token")).await;
        for arguments in [&["--subject", sub.as_str()][..], &["--source", "local"], &["--all"]] {
            server.cli(&[&["revoke"], arguments].concat()).await.ok();
        }
        server.cli(&["client", "remove", &app.id]).await.ok();
        let expected = [entry("grant_id", &grant), entry("sub", &sub), entry("source", "local"), entry("all", ""), entry("client_id", &app.id)];
        within_a_second("all are seen", async || entries(get(&server, &follower, Some(&start), &[]).await.ok()) == expected).await;
        // From the database it is the same.
        server.restart().await;
        assert_eq!(entries(get(&server, &follower, Some(&start), &[]).await.ok()), expected);
        let all = get(&server, &follower, None, &[]).await;
        assert_eq!(entries(all.ok()), expected);
        for secret in [&sub, &grant, &app.id, "local", "client_changed", "keys_changed"] {
            assert!(!all.body.contains(secret), "{secret} in {}", all.body);
        }
    }

    async fn only_for_clients_that_may(database) {
        let server = Setup::new(database).start().await;
        let (app, follower) = (server.client_add(&APP).await, server.client_add(&FOLLOWER).await);
        server.get(PATH).await.refused(401, "invalid_client");
        let wrong = get(&server, &Client::new(&follower.id, "wrong"), None, &[]).await;
        assert!(wrong.refused(401, "invalid_client").header("www-authenticate").starts_with("Basic"));
        get(&server, &app, None, &[]).await.refused(403, "unauthorized_client");
        assert_eq!(server.events(&app, &[]).await.response.status(), 403);
        let public = server.client_add(&["--public", "--grant", "password"]).await;
        server.get(&format!("{PATH}?client_id={}", public.id)).await.refused(401, "invalid_client");
        let said = server.cli(&["client", "add", "nobody", "--public", "--revocations"]).await.failed(1);
        assert!(said.contains("revocations: a public client"), "{said}");
        let in_the_url = format!("{PATH}?client_id={}&client_secret={}", follower.id, follower.secret());
        server.get(&in_the_url).await.refused(400, "invalid_request");
        server.get_as(PATH, &server.own_token(&app).await).await.refused(401, "invalid_client");

        for bad in ["x", ".", "1", "zz.1", "00.-1", "00.1.1", "00.99999999999999999999"] {
            get(&server, &follower, Some(bad), &[]).await.refused(400, "invalid_request");
        }
        let cursor = get(&server, &follower, None, &[]).await.text("cursor");
        let (feed, n) = cursor.split_once('.').unwrap();
        let future = format!("{feed}.{}", n.parse::<i64>().unwrap() + 1_000);
        for gone in [format!("00000000000000000000000000000000.{n}"), future] {
            get(&server, &follower, Some(&gone), &[]).await.refused(410, "invalid_request");
            assert_eq!(server.events(&follower, &[("last-event-id", &gone)]).await.response.status(), 410);
        }

        // Who proves itself by its key asks by POST.
        let key = ClientKey::new("ES256");
        let file = server.directory().join("key.json");
        std::fs::write(&file, key.jwks().to_string()).unwrap();
        let arguments = ["--revocations", "--auth-method", "private_key_jwt", "--jwks", file.to_str().unwrap()];
        let by_key = server.client_add(&arguments).await;
        let assertion = key.assertion(&by_key.id, &server.url(PATH));
        let body = form(&[("client_assertion_type", ASSERTION_TYPE), ("client_assertion", &assertion), ("since", &cursor)]);
        assert_eq!(server.raw(PATH, &[], body.clone()).await.ok()["entries"], json!([]));
        server.raw(PATH, &[], body).await.refused(401, "invalid_client");
        server.get(&format!("{PATH}?client_assertion=x")).await.refused(400, "invalid_request");
    }

    async fn a_stream_brings_each_within_a_second_and_can_be_taken_up_again(database) {
        let server = Setup::new(database).start().await;
        let (app, follower) = (server.client_add(&APP).await, server.client_add(&FOLLOWER).await);
        let old = server.own_token(&app).await;
        let old_id = jti(&server, &app, &old).await;
        server.revoke(&app, &old).await;
        let mut events = server.events(&follower, &[]).await;
        assert_eq!(events.response.status(), 200);
        let header = |events: &crate::harness::Events, name: &str| events.response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!((header(&events, "content-type"), header(&events, "cache-control")), ("text/event-stream".into(), "no-store".into()));
        let (id, snapshot) = events.next().await.unwrap();
        assert_eq!((entries(&snapshot), &snapshot["more"], &snapshot["cursor"]), (vec![entry("jti", &old_id)], &json!(false), &json!(id)));

        let mut last = id;
        for _ in 0..3 {
            let token = server.own_token(&app).await;
            let id = jti(&server, &app, &token).await;
            server.revoke(&app, &token).await;
            let (cursor, news) = tokio::time::timeout(Duration::from_secs(1), events.next()).await.expect("within a second").unwrap();
            assert_eq!(entries(&news), [entry("jti", &id)]);
            last = cursor;
        }
        // What is no revocation brings no event, only signs of life.
        let mut quiet = Box::pin(events.next());
        let other = server.client_add(&APP).await;
        assert!(tokio::time::timeout(Duration::from_secs(3), &mut quiet).await.is_err());
        drop(quiet);
        assert!(events.heartbeats >= 2, "{}", events.heartbeats);
        drop(events);

        let missed = server.own_token(&other).await;
        let missed_id = jti(&server, &other, &missed).await;
        server.revoke(&other, &missed).await;
        let mut again = server.events(&follower, &[("last-event-id", &last)]).await;
        let (_, news) = again.next().await.unwrap();
        assert_eq!(entries(&news), [entry("jti", &missed_id)], "all that was missed, and nothing twice");
    }

    async fn a_stream_ends_with_its_client_and_with_the_server(database) {
        let mut server = Setup::new(database).start().await;
        let (follower, other) = (server.client_add(&FOLLOWER).await, server.client_add(&FOLLOWER).await);
        let (mut events, mut others) = (server.events(&follower, &[]).await, server.events(&other, &[]).await);
        events.next().await.unwrap();
        others.next().await.unwrap();
        server.cli(&["client", "remove", &follower.id]).await.ok();
        tokio::time::timeout(Duration::from_secs(5), events.ended()).await.expect("a removed client hears nothing more");
        assert_eq!(server.events(&follower, &[]).await.response.status(), 401);
        // A secret that is taken away ends what was opened with it; the other secret opens it again.
        let second = Client::from_json(&server.cli(&["client", "secret", "add", &other.id, "--json"]).await.json());
        tokio::time::timeout(Duration::from_secs(5), others.ended()).await.expect("any change ends the stream");
        let mut others = server.events(&second, &[]).await;
        others.next().await.unwrap();
        let ended = tokio::spawn(async move { others.ended().await });
        let status = server.stop().await;
        assert!(status.success(), "{status}");
        tokio::time::timeout(Duration::from_secs(5), ended).await.expect("the end is seen").unwrap();
        assert!(server.log().contains("cut=0"), "no connection had to be cut:\n{}", server.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_recovery_everybody_begins_anew() {
    let server = Setup::new(Database::sqlite()).start().await;
    let follower = server.client_add(&FOLLOWER).await;
    let mut events = server.events(&follower, &[]).await;
    let (cursor, old) = events.next().await.unwrap();
    server.cli(&["keys", "recover"]).await.ok();
    events.ended().await;
    let refused = async || get(&server, &follower, Some(&cursor), &[]).await.status == 410;
    eventually(Duration::from_secs(10), "the old cursor is of another feed", refused).await;
    assert_eq!(server.events(&follower, &[("last-event-id", &cursor)]).await.response.status(), 410);
    let anew = get(&server, &follower, None, &[]).await;
    assert_ne!(anew.ok()["feed"], old["feed"]);
    assert!(entries(&anew.json).contains(&entry("all", "")), "{}", anew.body);
    let (_, streamed) = server.events(&follower, &[]).await.next().await.unwrap();
    assert_eq!((&streamed["feed"], entries(&streamed)), (&anew.json["feed"], entries(&anew.json)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_bounded_for_each_client() {
    let server = Setup::new(Database::sqlite()).start().await;
    let (follower, other) = (server.client_add(&FOLLOWER).await, server.client_add(&FOLLOWER).await);
    let mut open = join_all((0..64).map(|_| server.events(&follower, &[]))).await;
    assert!(open.iter().all(|events| events.response.status() == 200));
    let refused = Answer::of(server.events(&follower, &[]).await.response).await;
    refused.refused(429, "temporarily_unavailable");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(server.events(&other, &[]).await.response.status(), 200);
    open.pop();
    eventually(Duration::from_secs(10), "a seat is free again", async || server.events(&follower, &[]).await.response.status() == 200)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_ends_its_streams_and_answers_503() {
    const COMMON: &str = "[server]\nissuer = \"https://tokens.example\"\n[tokens]\nmax_staleness = \"3s\"\n";
    let database = Database::postgres();
    let mut url = url::Url::parse(&database.url()).unwrap();
    let proxy = Proxy::to(&format!("127.0.0.1:{}", url.port().unwrap()));
    url.set_port(Some(proxy.port())).unwrap();
    let a = Setup::new(database).config(COMMON).start().await;
    let b = Setup::beside(&a).config(&format!("{COMMON}[database]\nurl = \"{url}\"\n")).start().await;
    let (app, follower) = (a.client_add(&APP).await, a.client_add(&FOLLOWER).await);
    let mut events = b.events(&follower, &[]).await;
    let (cursor, _) = events.next().await.unwrap();
    let token = a.own_token(&app).await;
    let id = jti(&a, &app, &token).await;
    a.revoke(&app, &token).await;
    let (_, news) = tokio::time::timeout(Duration::from_secs(1), events.next()).await.expect("across nodes, within a second").unwrap();
    assert_eq!(entries(&news), [entry("jti", &id)]);
    proxy.hang();
    tokio::time::timeout(Duration::from_secs(20), events.ended()).await.expect("who follows is told that nothing more is known");
    get(&b, &follower, None, &[]).await.unavailable();
    assert_eq!(b.events(&follower, &[]).await.response.status(), 503);
    proxy.resume();
    eventually(Duration::from_secs(20), "the node is back", async || b.get("/readyz").await.status == 200).await;
    let mut again = b.events(&follower, &[("last-event-id", &cursor)]).await;
    assert_eq!(entries(&again.next().await.unwrap().1), [entry("jti", &id)]);
}

/// Rows of a kind of their own making: pages are long, and a reader that takes nothing is only noticed behind full buffers.
fn many(server: &Server, count: usize) {
    server.rows(&format!(
        "INSERT INTO feed_entries (n, kind, value, until, at) SELECT i, 'jti', 'v' || i, 9999999999, 1 FROM generate_series(1001, {}) AS i; \
         UPDATE feed SET head = {}",
        1000 + count,
        1000 + count
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_lists_come_in_pages() {
    let mut server = Setup::new(Database::postgres()).start().await;
    let follower = server.client_add(&FOLLOWER).await;
    many(&server, 2_500);
    server.restart().await;
    let (mut since, mut found, mut sizes) = (None, Vec::new(), Vec::new());
    loop {
        let page = get(&server, &follower, since.as_deref(), &[]).await;
        let read = entries(page.ok());
        sizes.push(read.len());
        found.extend(read);
        since = Some(page.text("cursor"));
        if page.json["more"] == json!(false) {
            break;
        }
    }
    assert_eq!(sizes, [1000, 1000, 500]);
    let expected: Vec<_> = (1001..=3500).map(|i| entry("jti", &format!("v{i}"))).collect();
    assert_eq!(found, expected);
    let mut events = server.events(&follower, &[]).await;
    let mut streamed = Vec::new();
    loop {
        let (_, news) = events.next().await.unwrap();
        streamed.extend(entries(&news));
        if news["more"] == json!(false) {
            break;
        }
    }
    assert_eq!(streamed, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_is_hung_up_on() {
    let mut server = Setup::new(Database::postgres()).start().await;
    let follower = server.client_add(&FOLLOWER).await;
    many(&server, 150_000);
    server.restart().await;
    let origin = server.origin();
    let mut stream = std::net::TcpStream::connect(origin.trim_start_matches("http://")).unwrap();
    let request = format!("GET {PATH} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\nauthorization: {}\r\n\r\n", follower.basic());
    stream.write_all(request.as_bytes()).unwrap();
    eventually(Duration::from_secs(90), "it is noticed", async || server.log().contains("did not keep up")).await;
    // What was on its way comes, and then the end, long before the last page.
    let read = tokio::task::spawn_blocking(move || {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (mut buffer, mut all) = (vec![0; 1 << 20], 0);
        while let Ok(count) = stream.read(&mut buffer)
            && count > 0
        {
            all += count;
        }
        all
    });
    let read = read.await.unwrap();
    assert!(read < 14_000_000, "{read} bytes, where all would be some 15 MB");
    let mut events = server.events(&follower, &[]).await;
    assert!(events.next().await.is_some(), "others are served");
}
