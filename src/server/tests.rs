//! The listener against raw sockets and TLS clients. What a test waits for has a deadline of its own.

use std::path::Path;
use std::process::Command;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use warp::{Filter, Reply};

use super::*;
use crate::web::peer::{Peer, peer};

const GET: &[u8] = b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

fn routes() -> Routes {
    let who = warp::path!("who").and(peer()).map(|peer: Peer| peer.address.to_string().into_response());
    let slow = warp::path!("slow").then(|| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "done".into_response()
    });
    who.or(slow).unify().boxed()
}

fn limits(patience: u64) -> config::Limits {
    config::Limits { request_timeout: Duration::from_millis(patience), ..Default::default() }
}

fn loopback() -> config::Server {
    config::Server { listen: ([127, 0, 0, 1], 0).into(), ..Default::default() }
}

/// Address, what stops it, and the task that ends with it.
async fn start(server: &config::Server, limits: &config::Limits) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<usize>) {
    let listener = Listener::bind(server, limits).await.unwrap();
    let address = listener.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(listener.serve(routes(), async move { drop(stopped.await) }));
    (address, stop, task)
}

async fn within<F: Future>(seconds: u64, future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(seconds), future).await.expect("took too long")
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    within(5, stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// Writes a self-signed pair for localhost into `folder` and returns the certificate's bytes.
fn make_pair(folder: &Path) -> Vec<u8> {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            "key.pem",
            "-out",
            "certificate.pem",
        ])
        .current_dir(folder)
        .output()
        .expect("the openssl command makes the certificates of this test");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    CertificateDer::from_pem_file(folder.join("certificate.pem")).unwrap().to_vec()
}

fn with_tls(folder: &Path) -> config::Server {
    let file = |name: &str| Some(folder.join(name));
    config::Server { tls_certificate: file("certificate.pem"), tls_key: file("key.pem"), ..loopback() }
}

/// Shakes hands trusting only `certificate`; None where the server has another one.
async fn shake(address: SocketAddr, certificate: &[u8], alpn: &[u8]) -> Option<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    within(5, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.ok()
}

#[tokio::test]
async fn plain_http_is_answered_with_the_peer_in_the_request() {
    let (address, stop, task) = start(&loopback(), &limits(2000)).await;
    let answer = exchange(address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n127.0.0.1"), "{answer}");
    stop.send(()).unwrap();
    assert_eq!(within(5, task).await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn plain_http_off_loopback_needs_proxies_and_answers_only_them() {
    let mut server = config::Server { listen: ([0, 0, 0, 0], 0).into(), ..Default::default() };
    let refused = Listener::bind(&server, &limits(2000)).await.unwrap_err().to_string();
    assert!(refused.starts_with("server.listen: plain http off loopback"), "{refused}");
    server.trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()];
    let (address, _stop, _task) = start(&server, &limits(2000)).await;
    let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
    let answer = exchange(address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("server.trusted_proxies"), "{answer}");
    let health = exchange(address, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(health.starts_with("HTTP/1.1 404"), "the route decides: {health}");
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let (address, _stop, _task) = start(&loopback(), &limits(2000)).await;
    let error = Listener::bind(&config::Server { listen: address, ..loopback() }, &limits(2000)).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn tls_speaks_both_protocols_and_a_new_pair_is_picked_up() {
    let folder = tempfile::tempdir().unwrap();
    let first = make_pair(folder.path());
    let (address, _stop, _task) = start(&with_tls(folder.path()), &limits(5000)).await;
    let mut http1 = shake(address, &first, b"http/1.1").await.unwrap();
    http1.write_all(GET).await.unwrap();
    let mut answer = String::new();
    let _ = within(5, http1.read_to_string(&mut answer)).await;
    assert!(answer.ends_with("\r\n127.0.0.1"), "{answer}");
    let mut http2 = shake(address, &first, b"h2").await.unwrap();
    http2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await.unwrap();
    // HEADERS of stream 1, its last frame: GET, https, /who, authority x (RFC 9113 section 6.2, RFC 7541 section 6).
    http2.write_all(b"\x00\x00\x0b\x01\x05\x00\x00\x00\x01\x82\x87\x04\x04/who\x41\x01x").await.unwrap();
    let answered = within(5, async {
        loop {
            let mut head = [0; 9];
            http2.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            http2.read_exact(&mut payload).await.unwrap();
            if head[3] == 0 {
                return String::from_utf8(payload).unwrap();
            }
        }
    })
    .await;
    assert_eq!(answered, "127.0.0.1");

    std::fs::write(folder.path().join("key.pem"), "broken").unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(shake(address, &first, b"http/1.1").await.is_some(), "a broken pair leaves the old one in use");
    let second = make_pair(folder.path());
    within(10, async {
        while shake(address, &second, b"http/1.1").await.is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(shake(address, &first, b"http/1.1").await.is_none());
}

#[tokio::test]
async fn a_pair_that_does_not_work_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Listener::bind(&with_tls(folder.path()), &limits(1000)).await.unwrap_err().to_string();
    assert!(missing.starts_with("server.tls_certificate: ") && missing.contains("certificate.pem"), "{missing}");
    make_pair(folder.path());
    let other = tempfile::tempdir().unwrap();
    make_pair(other.path());
    std::fs::copy(other.path().join("key.pem"), folder.path().join("key.pem")).unwrap();
    let mismatch = Listener::bind(&with_tls(folder.path()), &limits(1000)).await.unwrap_err().to_string();
    assert!(mismatch.starts_with("server.tls_key: ") && mismatch.contains("does not work with"), "{mismatch}");
    let alone = config::Server { tls_key: None, ..with_tls(folder.path()) };
    assert!(Listener::bind(&alone, &limits(1000)).await.unwrap_err().to_string().contains("needs server.tls_key"));
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_end() {
    let (address, stop, task) = start(&loopback(), &limits(2000)).await;
    let request = tokio::spawn(async move { exchange(address, b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.send(()).unwrap();
    let answer = within(5, request).await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
    assert_eq!(within(5, task).await.unwrap(), 0);
}

#[tokio::test]
async fn clients_that_dawdle_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = make_pair(folder.path());
    let (plain, _stop, _task) = start(&loopback(), &limits(200)).await;
    let (secure, _stop_too, _task_too) = start(&with_tls(folder.path()), &limits(200)).await;
    for (address, sent) in [(plain, &b"GET /who HTTP/1.1\r\nx-slow: "[..]), (secure, b"\x16\x03\x01")] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        let _ = within(5, stream.read_to_end(&mut rest)).await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
    let mut silent = shake(secure, &certificate, b"h2").await.unwrap();
    let _ = within(5, silent.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn one_connection_too_many_waits_for_its_turn() {
    let (address, _stop, _task) = start(&loopback(), &config::Limits { connections: 1, ..limits(5000) }).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(within(5, first.read(&mut [0; 1024])).await.unwrap() > 0);
    let waiting = tokio::spawn(async move { exchange(address, GET).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    drop(first);
    assert!(within(5, waiting).await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() {
    let (address, _stop, _task) = start(&loopback(), &limits(2000)).await;
    let large = format!("GET /who HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET /who HTTP/1.1\r\n{}\r\n", "x: a\r\n".repeat(101));
    for request in [large, many] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = [0; 12];
        within(5, stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
}

#[tokio::test]
async fn idle_connections_are_kept_longer_than_heads() {
    let (address, _stop, _task) = start(&loopback(), &limits(200)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(within(5, stream.read(&mut [0; 1024])).await.unwrap() > 0);
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    stream.write_all(b"GET /who").await.unwrap();
    assert_eq!(within(5, stream.read(&mut [0; 1024])).await.unwrap_or(0), 0, "a slow head on a kept connection is cut");
}
