//! `countersign doctor` about ourselves: configuration, issuer, database, keys, clocks, certificates, clients, accounts. Beside a
//! running server, and without changing anything.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::doctor_says_what_is_wrong::{doctor, read};
use crate::harness::{Certificates, Database, Ldap, Oidc, Samba, Setup, countersign, eventually, free_port, on_both_databases};

/// The library that moves a program's clock.
fn faketime() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    found.into_iter().find(|path| path.exists()).expect("libfaketime is missing: run tests/run.sh, which installs it")
}

/// Signs the certificate `name` again, to end in so many days, which may have passed.
fn lasting(certificates: &Certificates, name: &str, days: i64) {
    let authority = certificates.authority();
    let folder = authority.parent().unwrap();
    std::fs::write(folder.join("short.ext"), "subjectAltName = DNS:localhost,IP:127.0.0.1\n").unwrap();
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.current_dir(folder).args(arguments).env("LD_PRELOAD", faketime()).env("FAKETIME", format!("{:+}d", days - 365));
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let (key, request, certificate) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
    openssl(&["req", "-new", "-key", &key, "-subj", "/CN=short.lab.test", "-out", &request]);
    let sign = ["x509", "-req", "-in", &request, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "365"];
    openssl(&[&sign[..], &["-extfile", "short.ext", "-out", &certificate]].concat());
}

/// A TLS server that says nothing.
struct Mute(Child, u16);

impl Mute {
    async fn new(certificates: &Certificates, name: &str) -> Mute {
        let port = free_port();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")]);
        command.arg("-cert").arg(certificates.certificate(name)).arg("-key").arg(certificates.key(name));
        let child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
        eventually(std::time::Duration::from_secs(10), "openssl listens", async || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        Mute(child, port)
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_end_soon_are_told_in_time() {
    let certificates = Certificates::new(&["short"]);
    for (days, outcome, detail) in [(10, "warn", "days)"), (1, "fail", "days)"), (-5, "fail", "expired on")] {
        lasting(&certificates, "short", days);
        let found = doctor(&Setup::new(Database::sqlite()).tls(&certificates, "short"), &[]).await;
        found.says(outcome, "configuration", "certificate", detail);
        found.says("pass", "configuration", "listener", "with TLS");
    }
    let directory = |server: &Mute| {
        let section = format!(
            "[[source]]\nname = \"mute\"\ntype = \"ldap\"\nurls = [\"ldaps://127.0.0.1:{}\"]\nca_file = {:?}\nbind_dn = \"cn=a\"\n\
             bind_password_file = \"p\"\nuser_base = \"dc=a\"\ngroup_base = \"dc=a\"\noperation_timeout = \"200ms\"\n",
            server.1,
            certificates.authority()
        );
        Setup::new(Database::sqlite()).file("p", "secret").config(&section)
    };
    let expired = Mute::new(&certificates, "short").await;
    doctor(&directory(&expired), &["mute"]).await.says("fail", "mute ldaps://", "tls", "has expired: CN=short.lab.test");
    lasting(&certificates, "short", 10);
    let ending = Mute::new(&certificates, "short").await;
    let found = doctor(&directory(&ending), &["mute"]).await;
    found.says("warn", "mute ldaps://", "certificate", "CN=short.lab.test").says(
        "fail",
        "mute ldaps://",
        "service bind",
        "no answer within",
    );
    let issuer = format!("[[source]]\nname = \"okta\"\ntype = \"okta\"\nclient_id = \"x\"\nca_file = {:?}\n", certificates.authority());
    let of = |server: &Mute| Setup::new(Database::sqlite()).config(&format!("{issuer}issuer = \"https://127.0.0.1:{}\"", server.1));
    doctor(&of(&expired), &["okta"]).await.says("fail", "okta", "tls", "has expired");
    doctor(&of(&ending), &["okta"]).await.says("warn", "okta", "certificate", "days)");
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_apart_are_told() {
    let okta = Oidc::issuer().await;
    let setup = Setup::new(Database::postgres()).active_directory("corp", &Samba::shared(), "").okta("okta", &okta, "");
    setup.cli(&["migrate"]).await.ok();
    for (step, outcome) in [("+30s", "warn"), ("-30s", "warn"), ("+90s", "fail"), ("+0s", "pass")] {
        let library = faketime();
        let environment = [("LD_PRELOAD", library.to_str().unwrap()), ("FAKETIME", step), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        let found = read(countersign(Path::new(&setup.path("")), &["doctor", "--json", "--config", "countersign.toml"], &environment));
        for subject in ["database", "corp ldaps://", "okta"] {
            found.says(outcome, subject, "clock", "");
        }
    }
}

on_both_databases! {
    async fn a_key_that_opens_nothing_and_a_file_that_others_read(database) {
        use std::os::unix::fs::PermissionsExt;
        let mut server = Setup::new(database).config("[keys]\nencryption_key_file = \"kek\"")
            .file("kek", "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").start().await;
        let found = read(server.cli(&["doctor", "--json"]).await);
        found.says("pass", "keys", "stored keys", "opens every one").says("pass", "keys", "key-encryption key", "for its owner alone");
        found.says("pass", "keys", "in use", "ES256").says("pass", "keys", "in use", "sealing").says("pass", "issuer", "reachable", "calls itself so");
        assert_eq!(found.status, 0, "{}", found.shown());
        let file = server.directory().join("kek");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        read(server.cli(&["doctor", "--json"]).await).says("warn", "keys", "key-encryption key", "kek (644)");
        server.stop().await;
        std::fs::write(&file, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let found = read(server.cli(&["doctor", "--json"]).await);
        found.says("fail", "keys", "stored keys", "put the right key back").says("warn", "issuer", "reachable", "refused");
    }

    async fn clients_and_accounts_that_want_a_look(database) {
        let server = Setup::new(database).start().await;
        let old = server.client_add_named("old-app", &["--grant", "password"]).await;
        server.client_add_named("new-app", &["--grant", "client_credentials"]).await;
        server.cli(&["user", "add", "anna"]).await.ok();
        let before = server.rows("SELECT count(*) FROM audit_records");
        let found = read(server.cli(&["doctor", "--json"]).await);
        found.says("warn", "clients", "password grant", "old-app").says("pass", "clients", "clients", "2, of them 0 disabled");
        found.says("warn", "local accounts", "passwords", "anna");
        assert!(!found.lines.iter().any(|line| line["check"] == "password grant" && line["detail"].as_str().unwrap().contains("new-app")));
        assert_eq!(server.rows("SELECT count(*) FROM audit_records"), before, "doctor wrote something");
        drop(old);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_ready() {
    let missing = doctor(&Setup::new(Database::sqlite()), &[]).await;
    missing.says("warn", "database", "reachable", "not there yet");
    assert_eq!(missing.status, 0, "{}", missing.shown());
    let empty = Setup::new(Database::postgres());
    doctor(&empty, &[]).await.says("fail", "database", "migrations", "are missing");
    let gone = Setup::new(Database::sqlite())
        .config("[database]\nurl = \"postgres://nobody@127.0.0.1:1/none\"\n[keys]\nencryption_key_file = \"kek\"");
    let gone = gone.file("kek", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    doctor(&gone, &[]).await.says("fail", "database", "reachable", "127.0.0.1:1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_leads_elsewhere_and_a_line_that_is_wrong() {
    let other = Setup::new(Database::sqlite()).start().await;
    let mistaken =
        Setup::new(Database::sqlite()).config(&format!("[server]\nissuer = \"{}\"", other.origin().replace("127.0.0.1", "localhost")));
    doctor(&mistaken, &[]).await.says("warn", "issuer", "reachable", "calls itself http://127.0.0.1:");
    let wrong = Setup::new(Database::sqlite()).config("[server]\nlisen = \"127.0.0.1:1\"");
    doctor(&wrong, &[]).await.says("fail", "configuration", "file", "countersign.toml:");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_beside_a_server_and_costs_nobody_a_try() {
    let ldap = Ldap::shared();
    let server = Setup::new(Database::sqlite()).ldap("lab", &ldap, "").start().await;
    let person = ldap.add_person(&[]);
    let client = server.client_add(&["--grant", "password"]).await;
    for _ in 0..3 {
        assert_eq!(read(server.cli(&["doctor", "--json"]).await).status, 0);
    }
    server.sign_in(&client, &person.uid, &person.password).await;
    assert_eq!(server.rows("SELECT count(*) FROM audit_records WHERE reason = 'bad_password'"), ["0"]);
    ldap.delete(&person.dn);
}
