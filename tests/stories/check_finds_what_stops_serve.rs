//! `countersign check` says beforehand whatever would stop `countersign serve`, and makes nothing.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::{Database, Setup, countersign, on_both_databases};

fn listing(directory: &Path) -> BTreeSet<String> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn logs_certificates_and_keys_are_looked_at_and_told_at_once() {
    let directory = tempfile::TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("certificate.pem", "no certificate");
    write("key.pem", "no key");
    write("kek", "c2hvcnQ=");
    let check = || countersign(directory.path(), &["check", "--config", "c.toml"], &[]);
    write(
        "c.toml",
        "[log]\nlevel = \"inof\"\n[server]\ntls_certificate = \"certificate.pem\"\ntls_key = \"key.pem\"\n\
         [keys]\nencryption_key_file = \"kek\"\n",
    );
    let before = listing(directory.path());
    let said = check().failed(1);
    for line in ["c.toml:2:1: log.level: ", "c.toml:4:1: server.tls_certificate: ", "c.toml:7:1: keys.encryption_key_file: "] {
        assert!(said.contains(line), "{line} is missing in\n{said}");
    }
    write("c.toml", "[database]\nurl = \"postgres://nobody@127.0.0.1:1/none\"\n");
    let said = check().failed(1);
    assert!(said.contains("c.toml: keys.encryption_key_file: PostgreSQL needs one"), "{said}");
    write("kek", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    write("c.toml", "[database]\nurl = \"postgres://nobody@127.0.0.1:1/none\"\n[keys]\nencryption_key_file = \"kek\"\n");
    let said = check().ok();
    assert!(said.contains("the configuration is valid") && said.contains("not compared: "), "{said}");
    assert_eq!(listing(directory.path()), before, "check made something");
}

on_both_databases! {
    async fn a_key_that_does_not_open_the_database(database) {
        let mut server = Setup::new(database).start().await;
        let key = server.directory().join("key-encryption-key");
        let right = std::fs::read_to_string(&key).unwrap();
        server.stop().await;
        server.cli(&["check"]).await.ok();
        std::fs::write(&key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let said = server.cli(&["check"]).await.failed(1);
        assert!(said.contains(": keys") && said.contains("put the right key back"), "{said}");
        std::fs::remove_file(&key).unwrap();
        assert!(server.cli(&["check"]).await.failed(1).contains("keys.encryption_key_file: "));
        assert!(!key.exists(), "check made a key");
        std::fs::write(&key, right).unwrap();
        server.cli(&["check"]).await.ok();
    }
}

#[test]
fn an_empty_postgresql_stays_empty() {
    let database = Database::postgres();
    let directory = tempfile::TempDir::new().unwrap();
    std::fs::write(directory.path().join("kek"), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    let text = format!("[database]\nurl = {:?}\n[keys]\nencryption_key_file = \"kek\"\n", database.url());
    std::fs::write(directory.path().join("c.toml"), text).unwrap();
    let said = countersign(directory.path(), &["check", "--config", "c.toml"], &[]).ok();
    assert!(said.contains("will be migrated at the next start"), "{said}");
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
    assert_eq!(database.rows(directory.path(), tables), ["0"]);
}
