//! The ground itself: what stories lean on does what it says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::harness::{Certificates, Database, Ldap, Oidc, Proxy};

/// Answers each byte by itself.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut byte = [0u8; 1];
                while connection.read_exact(&mut byte).is_ok() && connection.write_all(&byte).is_ok() {}
            });
        }
    });
    port
}

fn through(stream: &mut TcpStream) -> bool {
    let mut byte = [0u8; 1];
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok() && byte == *b"x"
}

#[test]
fn a_proxy_passes_hangs_stops_and_counts() {
    let proxy = Proxy::to(&format!("127.0.0.1:{}", echo()));
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream
    };
    let mut stream = connect();
    assert!(through(&mut stream));
    proxy.hang();
    assert!(!through(&mut stream), "a byte passed through a hanging proxy");
    proxy.resume();
    let mut hung = [0u8; 1];
    stream.read_exact(&mut hung).expect("the byte that hung arrives after all");
    assert!(through(&mut stream));
    proxy.stop();
    assert!(!through(&mut stream) && !through(&mut connect()), "a stopped proxy closes");
    proxy.resume();
    assert!(through(&mut connect()));
    assert_eq!(proxy.connections(), 2, "refused connections do not count");
}

#[test]
fn a_database_is_fresh_and_gone_at_the_end() {
    let directory = tempfile::TempDir::new().unwrap();
    for database in [Database::sqlite(), Database::postgres()] {
        database.rows(directory.path(), "CREATE TABLE things (a TEXT, b BIGINT)");
        database.rows(directory.path(), "INSERT INTO things VALUES ('x', 1), ('y', NULL)");
        assert_eq!(database.rows(directory.path(), "SELECT * FROM things ORDER BY a"), ["x|1", "y|"]);
    }
    let database = Database::postgres();
    let url = database.url();
    drop(database);
    assert!(!Command::new("psql").args([&url, "-Xc", "SELECT 1"]).output().unwrap().status.success());
}

fn can_bind(ldap: &Ldap, dn: &str, password: &str) -> bool {
    // Its own nettimeout does not cover the TLS handshake with a server that hangs.
    let mut whoami = Command::new("timeout");
    whoami.args(["--signal=KILL", "3", "ldapwhoami", "-x", "-H", &ldap.tls_url(), "-D", dn, "-w", password]);
    whoami.env("LDAPTLS_CACERT", ldap.authority());
    whoami.output().unwrap().status.success()
}

fn member_of(ldap: &Ldap, dn: &str) -> String {
    let mut search = Command::new("ldapsearch");
    search.args(["-x", "-LLL", "-H", &ldap.url(), "-D", Ldap::SERVICE_DN, "-w", Ldap::SERVICE_PASSWORD, "-b", dn, "memberOf"]);
    String::from_utf8(search.output().unwrap().stdout).unwrap()
}

#[test]
fn people_of_a_story_join_leave_and_go() {
    let ldap = Ldap::shared();
    assert!(can_bind(&ldap, &Ldap::person_dn("alice"), "pw-alice"));
    let person = ldap.add_person(&["app-users"]);
    assert!(can_bind(&ldap, &person.dn, &person.password) && !can_bind(&ldap, &person.dn, "wrong"));
    let group = ldap.add_group(&[&person.dn]);
    assert!(member_of(&ldap, &person.dn).contains(&format!("memberOf: {}", Ldap::group_dn(&group))));
    ldap.leave("app-users", &person.dn);
    assert!(!member_of(&ldap, &person.dn).contains("app-users"));
    ldap.delete(&Ldap::group_dn(&group));
    ldap.delete(&person.dn);
    assert!(!can_bind(&ldap, &person.dn, &person.password));
    assert!(!person.uid.is_empty());
}

#[test]
fn a_directory_of_its_own_hangs_stops_and_returns() {
    let ldap = Ldap::private();
    let reachable = || can_bind(&ldap, Ldap::SERVICE_DN, Ldap::SERVICE_PASSWORD);
    assert!(reachable());
    ldap.hang();
    assert!(!reachable());
    ldap.resume();
    assert!(reachable());
    ldap.stop();
    assert!(!reachable());
    ldap.start_again();
    assert!(reachable());
}

#[tokio::test]
async fn an_issuer_of_its_own_mints_and_rotates() {
    let oidc = Oidc::issuer().await;
    let part = |token: &str, at: usize| -> Value {
        let part = token.split('.').nth(at).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let first = oidc.mint("alice").await;
    let claims = part(&first, 1);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(oidc.url()), &json!(Oidc::CLIENT_ID)));
    assert!(claims["groups"].as_array().is_some_and(|g| g.contains(&json!("app-admins"))), "{claims}");
    let stale = oidc.mint_with(json!({"account": "bob", "claims": {"acr": "gold"}, "expires_at": 1_000_000_000})).await;
    assert_eq!((&part(&stale, 1)["exp"], &part(&stale, 1)["acr"]), (&json!(1_000_000_000), &json!("gold")));
    oidc.rotate().await;
    assert_ne!(part(&first, 0)["kid"], part(&oidc.mint("alice").await, 0)["kid"]);

    let keys = || async { reqwest::get(format!("{}/v1/keys", oidc.url())).await.map(|a| a.status().as_u16()).unwrap_or(0) };
    assert_eq!(keys().await, 200);
    oidc.break_keys(503).await;
    assert_eq!(keys().await, 503);
    oidc.break_keys(0).await;
    assert_eq!(keys().await, 0);
    assert_eq!(oidc.key_fetches().await, 3);
}

#[test]
fn a_certificate_is_good_for_loopback_under_its_authority() {
    let certificates = Certificates::new(&["server"]);
    let mut verify = Command::new("openssl");
    verify.args(["verify", "-verify_ip", "127.0.0.1", "-CAfile"]).arg(certificates.authority()).arg(certificates.certificate("server"));
    let output = verify.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read_to_string(certificates.key("server")).unwrap().contains("PRIVATE KEY"));
}
