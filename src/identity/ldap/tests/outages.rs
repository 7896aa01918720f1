use std::path::PathBuf;
use std::time::Instant;

use super::*;
use RefusalReason::BadPassword;

/// Short limits, so that the tests are quick.
fn impatient(config: &mut LdapSource) {
    config.connect_timeout = Duration::from_millis(400);
    config.operation_timeout = Duration::from_millis(400);
    config.login_deadline = Duration::from_secs(1);
    config.breaker_open = Duration::from_millis(50);
}

/// Waits until alice is let in: a server that was down is passed over for a moment.
async fn alice_gets_in_again(ldap: &Ldap) -> Identity {
    for _ in 0..100 {
        if let Authentication::Authenticated(identity) = sign_in(ldap, "alice", "pw-alice").await {
            return *identity;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not come back by itself");
}

/// A server that takes connections and never says anything.
async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn a_password_that_proves_nothing_reaches_no_directory() {
    let proxy = Proxy::start().await;
    let long = "x".repeat(257);
    for source in [Source::at(&proxy.url), Source::at(&proxy.url).direct(true), Source::at(&proxy.url).direct(false)] {
        let ldap = source.open();
        for password in ["", "\0", "pw-alice\0", &long] {
            assert_eq!(refused(sign_in(&ldap, "alice", password).await), BadPassword);
        }
        for login in ["", " ", "alice\0", &long] {
            assert_eq!(refused(sign_in(&ldap, login, "pw-alice").await), RefusalReason::UnknownUser);
        }
    }
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_name_is_an_outage() {
    let other = foreign_authority();
    let starttls = || Source::at(&plain_url()).starttls();
    for source in [Source::at(&tls_url()), starttls()] {
        let stranger = source.with(|config| config.ca_file = Some(other.clone()));
        let reason = unavailable(sign_in(&stranger.open(), "alice", "pw-alice").await);
        assert!(reason.contains("certificate"), "{reason}");
    }
    for source in [Source::at(&tls_url()), starttls()] {
        let wrong = source.with(|config| config.server_name = Some("other.lab.test".to_owned()));
        let reason = unavailable(sign_in(&wrong.open(), "alice", "pw-alice").await);
        assert!(reason.contains("certificate"), "{reason}");
    }
    for source in [Source::at(&tls_url()), starttls()] {
        let right = source.with(|config| config.server_name = Some("slapd.lab.test".to_owned()));
        accepted(sign_in(&right.open(), "alice", "pw-alice").await);
    }
}

/// The certificate of an authority that signed nothing here.
fn foreign_authority() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/stranger-ca.crt"))
}

#[tokio::test]
async fn a_server_without_starttls_gets_no_password() {
    let (listener, address) = silent().await;
    let ldap = Source::at(&format!("ldap://{address}")).starttls().direct(false).with(impatient).open();
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 4096];
        let length = stream.read(&mut heard).await.unwrap();
        heard.truncate(length);
        // ExtendedResponse, protocolError.
        stream.write_all(&[0x30, 0x0c, 0x02, 0x01, 0x01, 0x78, 0x07, 0x0a, 0x01, 0x02, 0x04, 0x00, 0x04, 0x00]).await.unwrap();
        let _ = stream.read_to_end(&mut heard).await;
        heard
    });
    unavailable(sign_in(&ldap, "alice", "pw-alice").await);
    drop(ldap);
    let heard = server.await.unwrap();
    assert!(!heard.windows(8).any(|bytes| bytes == b"pw-alice"));
}

#[tokio::test]
async fn a_stopped_directory_is_unavailable_at_every_step() {
    let proxy = Proxy::start().await;
    let ldap = Source::at(&proxy.url).with(impatient).open();
    let subject = accepted(sign_in(&ldap, "alice", "pw-alice").await).subject;
    for flow in [Flow::Cut, Flow::Frozen] {
        proxy.set(flow);
        let started = Clock::monotonic();
        unavailable(sign_in(&ldap, "alice", "pw-alice").await);
        unavailable(sign_in(&ldap, "alice", "wrong").await);
        unavailable(sign_in(&ldap, "stranger", "x").await);
        unavailable(ldap.recheck(&subject).await);
        assert!(Clock::since(started) < Duration::from_secs(5));
        proxy.set(Flow::Passing);
        assert_eq!(alice_gets_in_again(&ldap).await.username, "alice");
        assert_eq!(refused(sign_in(&ldap, "alice", "wrong").await), BadPassword);
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_unavailable_in_time() {
    let (_listener, address) = silent().await;
    for source in [
        Source::at(&format!("ldap://{address}")),
        Source::at(&format!("ldap://{address}")).starttls(),
        Source::at(&format!("ldaps://{address}")),
        Source::at(&format!("ldap://{address}")).direct(false),
    ] {
        let ldap = source.with(impatient).open();
        let started: Instant = Clock::monotonic();
        let reason = unavailable(sign_in(&ldap, "alice", "pw-alice").await);
        assert!(reason.contains("no answer within 400ms"), "{reason}");
        assert!(Clock::since(started) < Duration::from_millis(1_500));
    }
}

#[tokio::test]
async fn nonsense_from_a_server_is_unavailable_and_harms_nothing() {
    let bottomless = nested(200_000);
    let answers: [&[u8]; 7] = [
        &bottomless,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0x30, 0x00],
        // A BindResponse whose words are not UTF-8.
        &[0x30, 0x0d, 0x02, 0x01, 0x01, 0x61, 0x08, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x01, 0xff],
        // One without its fields.
        &[0x30, 0x05, 0x02, 0x01, 0x01, 0x61, 0x00],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0xff; 64],
    ];
    for answer in answers.map(<[u8]>::to_vec) {
        let (listener, address) = silent().await;
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(&answer).await;
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    drop(stream);
                });
            }
        });
        for source in [Source::at(&format!("ldap://{address}")), Source::at(&format!("ldap://{address}")).direct(false)] {
            unavailable(sign_in(&source.with(impatient).open(), "alice", "pw-alice").await);
        }
    }
}

#[tokio::test]
async fn the_next_url_is_for_servers_that_cannot_be_reached_only() {
    let closed = silent().await.1;
    let proxy = Proxy::start().await;
    let two = |first: &str| [first, &proxy.url].map(|url| url.parse().unwrap()).to_vec();
    let first_down = Source::at(&plain_url()).with(|config| config.urls = two(&format!("ldap://{closed}"))).open();
    accepted(sign_in(&first_down, "alice", "pw-alice").await);
    let used = proxy.connections();
    assert_eq!(used, 2, "one for the service account, one for the person");
    let first_up = Source::at(&plain_url()).with(|config| config.urls = two(&plain_url())).open();
    assert_eq!(refused(sign_in(&first_up, "alice", "wrong").await), BadPassword);
    assert_eq!(proxy.connections(), used, "a refusal is an answer");
}

#[tokio::test]
async fn a_refused_service_account_is_our_mistake_until_the_file_is_right() {
    let source = Source::at(&plain_url());
    std::fs::write(source.password.path(), "wrong").unwrap();
    let ldap = source.open();
    let reason = unavailable(sign_in(&ldap, "alice", "pw-alice").await);
    assert!(reason.contains("cn=svc") && reason.contains("bind_password_file") && !reason.contains("wrong"), "{reason}");
    std::fs::write(source.password.path(), "svcpw\n").unwrap();
    accepted(sign_in(&ldap, "alice", "pw-alice").await);
    let no_base = Source::at(&plain_url()).with(|config| config.user_base = Some("ou=nowhere,dc=lab,dc=test".to_owned())).open();
    assert!(unavailable(sign_in(&no_base, "alice", "pw-alice").await).contains("user_base"));
    let no_groups = Source::at(&plain_url()).with(|config| config.group_base = Some("ou=nowhere,dc=lab,dc=test".to_owned())).open();
    assert!(unavailable(sign_in(&no_groups, "alice", "pw-alice").await).contains("group_base"));
    let no_subject = Source::at(&plain_url()).with(|config| config.subject_attribute = Some("employeeNumber".to_owned())).open();
    assert!(unavailable(sign_in(&no_subject, "alice", "pw-alice").await).contains("employeeNumber"));
}

#[tokio::test]
async fn many_sign_ins_at_once_share_few_connections_and_mix_nobody_up() {
    let proxy = Proxy::start().await;
    let ldap = Arc::new(Source::at(&proxy.url).with(|config| config.pool.size = 3).open());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..60 {
        let (ldap, uid) = (ldap.clone(), format!("u{n:05}"));
        tasks.spawn(async move {
            let right = accepted(sign_in(&ldap, &uid, &format!("pw-{uid}")).await);
            assert_eq!(right.username, uid);
            assert_eq!(refused(sign_in(&ldap, &uid, "pw-alice").await), BadPassword);
            assert_eq!(groups(&right).len(), usize::from(n % 5 == 0));
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(proxy.connections() <= 3 + 120, "{}", proxy.connections());
}

#[tokio::test]
async fn a_busy_pool_is_unavailable_after_acquire_timeout() {
    let (_listener, address) = silent().await;
    let source = Source::at(&format!("ldap://{address}")).with(|config| {
        config.pool.size = 1;
        config.pool.acquire_timeout = Duration::from_millis(100);
    });
    let ldap = source.open();
    let (_, second) = tokio::join!(
        tokio::time::timeout(Duration::from_millis(300), ldap.lookup("alice")),
        tokio::time::timeout(Duration::from_millis(300), ldap.lookup("bob"))
    );
    assert!(unavailable(second.unwrap()).contains("pool.size"));
}

#[tokio::test]
async fn referrals_are_dropped_or_refused_and_never_followed() {
    let whole = |source: Source| source.with(|config| config.user_base = Some(BASE.to_owned()));
    let ignoring = whole(Source::at(&plain_url())).open();
    assert_eq!(accepted(sign_in(&ignoring, "alice", "pw-alice").await).username, "alice");
    let rejecting = whole(Source::at(&plain_url())).with(|config| config.referrals = crate::config::Referrals::Reject).open();
    assert!(unavailable(sign_in(&rejecting, "alice", "pw-alice").await).contains("referrals"));
    // A base that lies elsewhere is an error in either case, and finds nobody.
    let away = Source::at(&plain_url()).with(|config| config.user_base = Some(format!("cn=elsewhere,ou=services,{BASE}"))).open();
    assert!(unavailable(sign_in(&away, "alice", "pw-alice").await).contains("another server"));
}
