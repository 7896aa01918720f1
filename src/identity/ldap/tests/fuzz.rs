//! A directory that answers nearly right: whatever it says, the process lives and nothing is left behind.

use proptest::prelude::any;
use proptest::strategy::Strategy;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::fuzz::{mangled, survives};

/// A search result entry with one attribute, and the end of the search. Message ids are put in by the server.
const ENTRY: &[u8] = b"\x30\x50\x02\x01\x00\x64\x4b\x04\x1fuid=a,ou=people,dc=lab,dc=test\x00\x30\x28\x30\x0d\x04\x03uid\x31\x06\x04\x04abcd\x30\x17\x04\x09entryUUID\x31\x0a\x04\x08subject1";
const DONE: &[u8] = b"\x30\x0c\x02\x01\x00\x65\x07\x0a\x01\x00\x04\x00\x04\x00";
const REFERENCE: &[u8] = b"\x30\x1a\x02\x01\x00\x73\x15\x04\x13ldap://evil.test/dc";
const BOUND: &[u8] = b"\x30\x0c\x02\x01\x00\x61\x07\x0a\x01\x00\x04\x00\x04\x00";
const REFUSED: &[u8] = b"\x30\x42\x02\x01\x00\x61\x3d\x0a\x01\x31\x04\x00\x04\x3680090308: AcceptSecurityContext error, data 52e, v1db1";
const POLICY: &[u8] =
    b"\x30\x36\x02\x01\x00\x61\x07\x0a\x01\x00\x04\x00\x04\x00\xa0\x28\x30\x26\x04\x191.3.6.1.4.1.42.2.27.8.5.1\x04\x09\x30\x07\xa0\x05\x80\x03\x01\x02\x03";

#[test]
fn fuzz_answers_of_directories() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answers = || mangled([ENTRY, DONE, REFERENCE, BOUND, REFUSED, POLICY].map(<[u8]>::to_vec).to_vec());
    let strategy = (any::<bool>(), answers(), answers(), answers(), answers());
    survives(strategy.prop_map(|(honest, a, b, c, d)| (honest, [a, b, c, d])), |(honest, answers)| {
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("ldap://{}", listener.local_addr().unwrap());
            let server = tokio::spawn(answer(listener, honest, answers));
            let ldap = Source::at(&url).with(|config| {
                config.connect_timeout = Duration::from_millis(50);
                config.operation_timeout = Duration::from_millis(50);
                config.login_deadline = Duration::from_millis(100);
            });
            // Any of the three outcomes; what is tried is that there is one.
            let _ = sign_in(&ldap.open(), "abcd", "pw-abcd").await;
            server.abort();
        });
        Ok(())
    });
}

/// Answers each request with the next of `answers` and hangs up after the last; `honest` lets the first bind of a connection pass.
async fn answer(listener: TcpListener, honest: bool, answers: [Vec<u8>; 4]) {
    let mut next = answers.into_iter();
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut first = honest;
        while let Ok(request) = gate::read_message(&mut stream).await {
            let id = request.get(4).copied().unwrap_or_default();
            let mut reply = if std::mem::take(&mut first) { BOUND.to_vec() } else { next.next().unwrap_or_default() };
            if let Some(place) = reply.get_mut(4) {
                *place = id;
            }
            if reply.is_empty() || stream.write_all(&reply).await.is_err() {
                break;
            }
        }
    }
}
