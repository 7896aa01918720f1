//! Ten thousand idle connections, senders that never finish, bodies without an end, heads of 64 KiB: memory stays bounded, and others
//! are served meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Client, Database, Server, Setup, eventually};

/// Megabytes that the server may have at any time. Idle it has some 60 in this build.
const BOUND: u64 = 400;

async fn house(limits: &str) -> (Server, Client) {
    let server = Setup::new(Database::sqlite()).config(&format!("[limits]\n{limits}")).start().await;
    let client = server.client_add(&["--grant", "client_credentials"]).await;
    (server, client)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.origin().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Resident memory in MB.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Somebody with an honest request is answered, and the memory is bounded.
async fn others_are_served(server: &Server, client: &Client) {
    for _ in 0..10 {
        let token = server.own_token(client).await;
        assert!(server.is_active(client, &token).await);
    }
    assert!(memory(server) < BOUND, "{} MB", memory(server));
}

/// Connections made by another process, since one process may not have enough descriptors for both ends.
fn crowd(server: &Server, count: usize, say: &str) -> std::process::Child {
    let script = "
import resource, select, socket, sys
host, port, count, say = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = []
for _ in range(count):
    held.append(socket.create_connection((host, port)))
    held[-1].sendall(say)
print('held', flush=True)
sys.stdin.read()";
    let port = server.origin().rsplit(':').next().unwrap().to_owned();
    let mut child = std::process::Command::new("python3")
        .args(["-c", script, "127.0.0.1", &port, &count.to_string(), say])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0u8; 4];
    child.stdout.as_mut().unwrap().read_exact(&mut line).expect("all connections were made; see above for what was in the way");
    child
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections() {
    let (server, client) = house("request_timeout = \"1m\"").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.process())).unwrap();
    let files: Vec<&str> = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "it asked for as many descriptors as it may have");
    for say in ["", "POST /oauth2/token HTTP/1.1\r\nhost: x\r\n"] {
        let mut crowd = crowd(&server, 10_000, say);
        others_are_served(&server, &client).await;
        crowd.kill().unwrap();
        crowd.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_slowly_is_cut_and_holds_nobody_up() {
    let (server, client) = house("request_timeout = \"1s\"").await;
    let slow: Vec<TcpStream> = (0..200).map(|_| connect(&server)).collect();
    let request = format!(
        "POST /oauth2/token HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 29\r\n\r\n\
         grant_type=client_credentials",
        client.basic()
    );
    let mut cut = vec![false; slow.len()];
    let (mut round, mut bytes) = (0, request.bytes());
    while cut.iter().any(|cut| !cut) {
        let byte = bytes.next().expect("all are cut before their requests are whole");
        for (at, mut stream) in slow.iter().enumerate() {
            cut[at] = cut[at] || stream.write_all(&[byte]).is_err();
        }
        round += 1;
        if round % 10 == 0 {
            others_are_served(&server, &client).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_without_an_end() {
    let (server, client) = house("").await;
    let before = memory(&server);
    let senders: Vec<_> = (0..16)
        .map(|_| {
            let mut stream = connect(&server);
            std::thread::spawn(move || {
                let head = "POST /oauth2/token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                            transfer-encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes()).unwrap();
                let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
                let mut sent = 0u64;
                // Until it is told to stop, for a gigabyte at most.
                while sent < 1 << 30 && stream.write_all(chunk.as_bytes()).is_ok() {
                    sent += 0x10000;
                }
                sent
            })
        })
        .collect();
    others_are_served(&server, &client).await;
    for sender in senders {
        let sent = sender.join().unwrap();
        assert!(sent < 1 << 30, "it was read to the last byte");
    }
    assert!(memory(&server) < before + 100, "{before} {}", memory(&server));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_of_64_kib() {
    let (server, client) = house("").await;
    let one = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(64 * 1024));
    let many: String = (0..2_000).map(|n| format!("x-{n}: {}\r\n", "a".repeat(24))).collect();
    let many = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    let path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(64 * 1024));
    for head in [one, many, path] {
        for _ in 0..50 {
            let mut stream = connect(&server);
            // It may hang up before it has read all.
            let _ = stream.write_all(head.as_bytes());
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let status = String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or("none").to_owned();
            assert!(["431", "414", "400", "none"].contains(&status.as_str()), "{status}");
        }
        others_are_served(&server, &client).await;
    }
    eventually(Duration::from_secs(5), "all is as before", async || server.get("/readyz").await.status == 200).await;
}
