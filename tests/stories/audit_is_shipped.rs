//! The audit trail outside of the database: on the command line, in a file, and at a syslog collector. Nothing is lost on the way, and
//! nobody waits for it.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Database, Server, Setup, eventually, on_both_databases};

const APP: [&str; 4] = ["--grant", "password", "--scope", "read"];
const PASSWORD: &str = "a lamp beside 7 green doors";
const LONG: Duration = Duration::from_secs(20);

async fn house(database: Database, config: &str) -> (Server, Client) {
    let server = Setup::new(database).config(config).start().await;
    server.user_add("anna", PASSWORD, &[]).await;
    let app = server.client_add(&APP).await;
    (server, app)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|reason| panic!("{reason}: {line}"))).collect()
}

fn ids(entries: &[Value]) -> Vec<String> {
    entries.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

fn trail(server: &Server) -> Vec<String> {
    server.rows("SELECT id FROM audit_records ORDER BY id")
}

on_both_databases! {
    async fn the_command_shows_what_was_asked_for(database) {
        let (server, app) = house(database, "").await;
        server.sign_in(&app, "anna", PASSWORD).await.ok();
        let guess = [("grant_type", "password"), ("username", "an\u{1b}[2Jna"), ("password", "wrong")];
        server.token(&app, &guess).await.refused(400, "invalid_grant");
        server.rows_when(1, "SELECT id FROM audit_records WHERE event = 'sign_in_refused'").await;

        let all = lines(&server.cli(&["audit", "--json"]).await.ok());
        assert_eq!(ids(&all), trail(&server));
        let signed = lines(&server.cli(&["audit", "--json", "--event", "sign_in", "--user", "anna", "--client", &app.id]).await.ok());
        assert_eq!(signed.len(), 1);
        for member in ["id", "time", "at", "event", "outcome", "client_id", "account_id", "username", "source", "address", "reason", "request_id", "detail"] {
            assert!(signed[0].get(member).is_some(), "{member}");
        }
        assert_eq!((&signed[0]["username"], &signed[0]["outcome"]), (&json!("anna"), &json!("ok")));
        let text = server.cli(&["audit", "--outcome", "refused"]).await.ok();
        assert!(text.contains("sign_in_refused") && text.contains("\\u{1b}[2J") && !text.contains('\u{1b}'), "{text:?}");
        assert!(server.cli(&["audit", "--since", "2100-01-01T00:00:00Z"]).await.ok().is_empty());
        assert!(server.cli(&["audit", "--since", "1h", "--event", "key_added"]).await.ok().lines().count() == 4);
        assert!(server.cli(&["audit", "--since", "yesterday"]).await.failed(1).contains("2h, 7d"));
        assert!(server.cli(&["audit", "--outcome", "fine"]).await.failed(1).contains("ok, refused and error"));
        let said = server.cli(&["audit", "--json"]).await.ok();
        assert!(!said.contains(PASSWORD) && !said.contains(app.secret()));
    }

    async fn who_follows_hears_each_record_once(database) {
        let (server, app) = house(database, "").await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(["audit", "--follow", "--json", "--since", "1h", "--config", "countersign.toml"]).current_dir(server.directory());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (heard, hear) = std::sync::mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| drop(heard.send(line))));
        for _ in 0..5 {
            server.sign_in(&app, "anna", PASSWORD).await.ok();
        }
        server.cli(&["user", "disable", "anna"]).await.ok();
        let mut all = Vec::new();
        eventually(LONG, "everything was heard", async || {
            all.extend(hear.try_iter());
            all.len() >= trail(&server).len()
        })
        .await;
        let _ = child.kill();
        let _ = child.wait();
        let mut heard = ids(&lines(&all.join("\n")));
        heard.sort();
        assert_eq!(heard, trail(&server));
    }

    async fn a_file_gets_everything_and_may_be_rotated(database) {
        let (mut server, app) = house(database, "[audit]\nfile = \"trail.jsonl\"\n").await;
        let (file, rotated) = (server.directory().join("trail.jsonl"), server.directory().join("trail.1"));
        let read = |path: &std::path::Path| lines(&std::fs::read_to_string(path).unwrap_or_default());
        server.sign_in(&app, "anna", PASSWORD).await.ok();
        eventually(LONG, "the file has the trail", async || read(&file).len() == trail(&server).len()).await;
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        std::fs::rename(&file, &rotated).unwrap();
        server.sign_in(&app, "anna", PASSWORD).await.ok();
        eventually(LONG, "a new file has what came after", async || read(&file).len() == 1).await;

        // A directory in its place: the records wait, and nobody else does.
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        server.sign_in(&app, "anna", PASSWORD).await.ok();
        eventually(LONG, "the log says so", async || server.log().contains("audit records wait in the database")).await;
        server.sign_in(&app, "anna", PASSWORD).await.ok();
        assert!(server.stop().await.success());
        std::fs::remove_dir(&file).unwrap();
        server.cli(&["user", "disable", "anna"]).await.ok();
        server.restart().await;
        eventually(LONG, "what waited, and what was written while no server ran", async || read(&file).len() >= 3).await;
        let events: Vec<Value> = read(&file).iter().map(|entry| entry["event"].clone()).collect();
        assert!(events.iter().filter(|event| **event == json!("sign_in")).count() == 2 && events.contains(&json!("account_disabled")), "{events:?}");
        let mut shipped = [ids(&read(&rotated)), ids(&read(&file))].concat();
        shipped.sort();
        let unshipped: Vec<String> = trail(&server).into_iter().filter(|id| !shipped.contains(id)).collect();
        // The one in the file that was removed.
        assert_eq!(unshipped.len(), 1);
    }
}

/// One message of RFC 5424: its head, and the record.
fn message(text: &str) -> (String, Value) {
    let (head, json) = text.split_once(" - {").unwrap_or_else(|| panic!("{text}"));
    (head.to_owned(), serde_json::from_str(&format!("{{{json}")).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syslog_by_datagrams() {
    let folder = tempfile::TempDir::new().unwrap();
    let local = UnixDatagram::bind(folder.path().join("log")).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    local.set_read_timeout(Some(LONG)).unwrap();
    udp.set_read_timeout(Some(LONG)).unwrap();
    let targets = [format!("unix:{}", folder.path().join("log").display()), format!("udp://{}", udp.local_addr().unwrap())];
    for target in targets {
        let (server, app) = house(Database::sqlite(), &format!("[audit]\nsyslog = \"{target}\"\n")).await;
        server.sign_in(&app, "anna", PASSWORD).await.ok();
        let mut heard = Vec::new();
        while heard.len() < trail(&server).len() {
            let mut buffer = [0u8; 65_536];
            let length = if target.starts_with("unix") { local.recv(&mut buffer).unwrap() } else { udp.recv(&mut buffer).unwrap() };
            let (head, record) = message(std::str::from_utf8(&buffer[..length]).unwrap());
            assert!(head.starts_with("<86>1 20") && head.ends_with(record["event"].as_str().unwrap()), "{head}");
            heard.push(record);
        }
        let mut heard = ids(&heard);
        heard.sort();
        assert_eq!(heard, trail(&server));
    }
}

/// Reads one message with its length before it (RFC 6587).
fn counted(stream: &mut impl Read) -> Option<(String, Value)> {
    let mut length = String::new();
    loop {
        let mut byte = [0u8];
        stream.read_exact(&mut byte).ok()?;
        match byte[0] {
            b' ' => break,
            digit => length.push(digit.into()),
        }
    }
    let mut text = vec![0u8; length.parse().unwrap()];
    stream.read_exact(&mut text).ok()?;
    Some(message(std::str::from_utf8(&text).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_was_away_gets_what_it_missed() {
    let port = crate::harness::free_port();
    let (server, app) = house(Database::postgres(), &format!("[audit]\nsyslog = \"tcp://127.0.0.1:{port}\"\n")).await;
    server.sign_in(&app, "anna", PASSWORD).await.ok();
    eventually(LONG, "the log says that nobody takes it", async || server.log().contains("audit records wait in the database")).await;
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let count = trail(&server).len();
    let receive = move |listener: TcpListener, count: usize| {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let heard: Vec<Value> = std::iter::from_fn(|| counted(&mut stream)).take(count).map(|(_, record)| record).collect();
        (listener, stream, heard)
    };
    let (listener, stream, heard) = tokio::task::spawn_blocking(move || receive(listener, count)).await.unwrap();
    assert_eq!(ids(&heard), trail(&server), "in order");
    eventually(LONG, "the table knows", async || server.rows("SELECT count(*) FROM audit_records WHERE in_syslog IS NULL") == ["0"]).await;
    // It goes away between two records.
    drop(stream);
    server.sign_in(&app, "anna", PASSWORD).await.ok();
    let (_, _, heard) = tokio::task::spawn_blocking(move || receive(listener, 1)).await.unwrap();
    assert_eq!(ids(&heard), trail(&server)[count..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_one_writes_and_the_other_takes_over() {
    let a = Setup::new(Database::postgres()).config("[audit]\nfile = \"a.jsonl\"\n").start().await;
    let mut first = a;
    let second = Setup::beside(&first).config("[audit]\nfile = \"b.jsonl\"\n").start().await;
    let written = |server: &Server| {
        let text = |name: &str| std::fs::read_to_string(server.directory().join(name)).unwrap_or_default();
        ids(&lines(&(text("a.jsonl") + &text("b.jsonl"))))
    };
    first.user_add("anna", PASSWORD, &[]).await;
    eventually(LONG, "the trail is written", async || written(&first).len() == trail(&first).len()).await;
    assert!(first.stop().await.success());
    second.user_add("bert", PASSWORD, &[]).await;
    eventually(LONG, "the node that is left goes on", async || written(&second).len() >= trail(&second).len()).await;
    let mut all = written(&second);
    all.sort();
    assert_eq!(all, trail(&second), "each record once");
    assert!(std::fs::metadata(second.directory().join("b.jsonl")).is_ok());
}
