//! Servers that answer a bind, and decide nothing.

use tokio::io::AsyncWriteExt;

use super::*;
use crate::identity::ldap::gate;

/// A server whose answer to every bind is this result; answers its URL and how many binds came.
async fn answering(code: u8) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ldap://{}", listener.local_addr().unwrap());
    let binds = Arc::new(AtomicUsize::new(0));
    let counter = binds.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = counter.clone();
            tokio::spawn(async move {
                // The length and the number of a message this short are one byte each.
                while let Ok(message) = gate::read_message(&mut stream).await {
                    counter.fetch_add(1, Ordering::SeqCst);
                    let answer = [0x30, 0x0c, 0x02, 0x01, message[4], 0x61, 0x07, 0x0a, 0x01, code, 0x04, 0x00, 0x04, 0x00];
                    let _ = stream.write_all(&answer).await;
                }
            });
        }
    });
    (url, binds)
}

/// Alice's sign-in by the template, at a server that answers `code` and the real one behind it; the binds that the first has seen, and
/// the connections that the second has.
async fn alice_after(code: u8) -> (Authentication, usize, usize) {
    let (first, binds) = answering(code).await;
    let second = Proxy::start().await;
    let urls = [first.as_str(), &second.url].map(|url| url.parse().unwrap()).to_vec();
    let ldap = Source::at(&plain_url()).direct(false).with(|config| config.urls = urls).open();
    let outcome = sign_in(&ldap, "alice", "pw-alice").await;
    (outcome, binds.load(Ordering::SeqCst), second.connections())
}

#[tokio::test]
async fn busy_and_unavailable_are_followed_by_the_next_server() {
    for code in [51, 52] {
        let (outcome, first, second) = alice_after(code).await;
        assert_eq!(accepted(outcome).username, "alice");
        assert_eq!((first, second), (1, 1), "{code}");
    }
}

#[tokio::test]
async fn refusals_and_what_is_unclear_are_not() {
    for code in [1, 8, 80] {
        let (outcome, first, second) = alice_after(code).await;
        unavailable(outcome);
        assert_eq!((first, second), (1, 0), "{code}");
    }
    for code in [19, 49, 53] {
        let (outcome, first, second) = alice_after(code).await;
        refused(outcome);
        assert_eq!((first, second), (1, 0), "{code}");
    }
}
