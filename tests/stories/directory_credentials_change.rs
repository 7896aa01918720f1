//! The service account's password and the certificates lie in files that change while the server runs.

use std::fs;

use crate::harness::{Certificates, Client, Database, Ldap, Oidc, Proxy, Server, Setup, on_both_databases};

const PASSWORD: [&str; 2] = ["--grant", "password"];

async fn start(setup: Setup) -> (Server, Client) {
    let server = setup.start().await;
    let client = server.client_add(&PASSWORD).await;
    (server, client)
}

on_both_databases! {
    async fn a_new_bind_password_is_taken_up_by_the_next_sign_in(database) {
        let ldap = Ldap::private();
        let proxy = Proxy::to(&ldap.plain_address());
        let section = ldap.plain_section("lab", "lab.password", &[&proxy], "");
        let (server, client) = start(Setup::new(database).file("lab.password", Ldap::SERVICE_PASSWORD).config(&section)).await;
        let file = server.directory().join("lab.password");
        let binds = || proxy.binds(Ldap::SERVICE_DN);
        let set_password = |password: &str| {
            let dn = Ldap::SERVICE_DN;
            ldap.modify(&format!("dn: {dn}\nchangetype: modify\nreplace: userPassword\nuserPassword: {password}\n"));
            // The policy of the lab wants passwords changed that an administrator has set.
            ldap.modify(&format!("dn: {dn}\nchangetype: modify\nreplace: pwdReset\n"));
        };
        let let_in = async || server.sign_in(&client, "alice", "pw-alice").await.ok().clone();
        let_in().await;
        let_in().await;
        assert_eq!(binds(), 1, "one connection is kept");

        set_password("another");
        fs::write(&file, "another\n").unwrap();
        let_in().await;
        assert_eq!(binds(), 2, "connections under the old password are dropped");

        // As a mounted secret changes: by a new file in place of the old.
        set_password("a third");
        let replacement = server.directory().join("replacement");
        fs::write(&replacement, "a third\n").unwrap();
        fs::rename(&replacement, &file).unwrap();
        let_in().await;
        assert_eq!(binds(), 3);
        let_in().await;
        assert_eq!(binds(), 3);
    }

    async fn a_wrong_bind_password_is_tried_once(database) {
        let proxy = Proxy::to(&Ldap::shared().plain_address());
        let section = Ldap::shared().plain_section("lab", "lab.password", &[&proxy], "");
        let (server, client) = start(Setup::new(database).file("lab.password", "not the password").config(&section)).await;
        let alice = || server.sign_in(&client, "alice", "pw-alice");
        let (a, b, c, d) = tokio::join!(alice(), alice(), alice(), alice());
        for answer in [a, b, c, d, alice().await] {
            answer.unavailable();
        }
        assert_eq!(proxy.binds(Ldap::SERVICE_DN), 1, "as often as people sign in it would lock the account");
        let log = server.log();
        assert!(log.contains("bind_password_file") && log.contains("tried again in"), "{log}");

        fs::write(server.directory().join("lab.password"), "still not it").unwrap();
        alice().await.unavailable();
        assert_eq!(proxy.binds(Ldap::SERVICE_DN), 2, "a changed file is worth a try");
        fs::write(server.directory().join("lab.password"), Ldap::SERVICE_PASSWORD).unwrap();
        alice().await.ok();
    }

    async fn certificates_are_read_again(database) {
        let ldap = Ldap::shared();
        let right = fs::read_to_string(ldap.authority()).unwrap();
        let stranger = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/stranger-ca.crt")).unwrap();
        let section = ldap.section("lab", "lab.password", "breaker_open = \"1h\"\n").replace(&ldap.authority(), "directory-ca.pem");
        let setup = Setup::new(database).file("lab.password", Ldap::SERVICE_PASSWORD).file("directory-ca.pem", &stranger).config(&section);
        let (server, client) = start(setup).await;
        let (alice, file) = (|| server.sign_in(&client, "alice", "pw-alice"), server.directory().join("directory-ca.pem"));
        alice().await.unavailable();
        alice().await.unavailable();

        fs::write(&file, &right).unwrap();
        // At once: what was held against the server under other files is forgotten.
        alice().await.ok();
        // Half a file changes nothing; the connections of before are not dropped for it.
        fs::write(&file, &right[..right.len() / 2]).unwrap();
        alice().await.ok();
        fs::write(&file, &stranger).unwrap();
        alice().await.unavailable();
        fs::write(&file, &right).unwrap();
        alice().await.ok();
        assert!(server.log().contains("files have changed and are wrong"), "{}", server.log());
    }

    async fn a_client_certificate_is_shown_and_read_again(database) {
        let ldap = Ldap::private_with_client_certificates();
        let [certificate, key] = ldap.client_pair();
        let strangers = Certificates::new(&["stranger"]);
        let stranger = [strangers.certificate("stranger"), strangers.key("stranger")].map(|path| fs::read_to_string(path).unwrap());
        let pair = "breaker_open = \"1h\"\nclient_certificate = \"client.pem\"\nclient_key = \"client.key\"\n";
        let setup = Setup::new(database).file("client.pem", &certificate).file("client.key", &key).ldap("lab", &ldap, pair);
        let (server, client) = start(setup.ldap("without", &ldap, "breaker_open = \"1h\"\n")).await;
        let at = async |source: &str| {
            let named = [("grant_type", "password"), ("username", "alice"), ("password", "pw-alice"), ("source", source)];
            server.token(&client, &named).await
        };
        at("lab").await.ok();
        at("without").await.unavailable();

        let write = |name: &str, text: &str| fs::write(server.directory().join(name), text).unwrap();
        write("client.pem", &stranger[0]);
        at("lab").await.ok();
        // Its key has followed: now it counts, and the directory knows nobody by it.
        write("client.key", &stranger[1]);
        at("lab").await.unavailable();
        at("lab").await.unavailable();
        write("client.key", &key);
        write("client.pem", &certificate);
        at("lab").await.ok();
    }

    async fn a_secret_goes_to_no_host_that_never_had_it(database) {
        let ldap = Ldap::shared();
        let thief = Proxy::to(&ldap.tls_address());
        let (mut server, client) = start(Setup::new(database).ldap("lab", &ldap, "")).await;
        server.sign_in(&client, "alice", "pw-alice").await.ok();
        assert!(server.stop().await.success());

        let new_url = format!("ldaps://localhost:{}", thief.port());
        server.edit_config(&ldap.tls_url(), &new_url);
        for command in ["check", "serve"] {
            let said = server.cli(&[command]).await.failed(1);
            let place = said.contains("countersign.toml:") && said.contains("source[0].urls: localhost would be sent the secret in ");
            assert!(place && said.contains("lab.password") && said.contains("127.0.0.1"), "{said}");
            assert!(said.contains("countersign check --confirm-hosts lab"), "{said}");
        }
        assert_eq!(thief.connections(), 0, "the new host was told something");
        let kept = server.rows("SELECT value FROM settings WHERE name LIKE 'secret:%'").join("");
        assert!(kept.contains("127.0.0.1") && !kept.contains("localhost") && !kept.contains(Ldap::SERVICE_PASSWORD), "{kept}");

        // Another port of the same host is no other recipient, nor are fewer hosts.
        server.edit_config(&new_url, &format!("ldaps://127.0.0.1:{}", thief.port()));
        server.cli(&["check"]).await.ok();
        server.edit_config(&format!("ldaps://127.0.0.1:{}", thief.port()), &new_url);

        // A new secret makes no host known: it may have been put there while the server ran.
        let file = server.directory().join("lab.password");
        fs::write(&file, "a new one").unwrap();
        for command in ["check", "serve"] {
            let said = server.cli(&[command]).await.failed(1);
            assert!(said.contains("localhost would be sent the secret in "), "{said}");
        }
        fs::write(&file, Ldap::SERVICE_PASSWORD).unwrap();
        assert_eq!(thief.connections(), 0);

        let said = server.cli(&["check", "--confirm-hosts", "nothing"]).await.failed(1);
        assert!(said.contains("there is no source nothing"), "{said}");
        server.cli(&["check", "--confirm-hosts", "lab"]).await.ok();
        server.restart().await;
        server.sign_in(&client, "alice", "pw-alice").await.ok();
        assert!(thief.connections() > 0);
    }
}

/// A server that has used the secret of the source `lab` over TLS, stopped; and whoever would like to have it.
async fn after_use() -> (Ldap, Proxy, Server) {
    let ldap = Ldap::shared();
    let thief = Proxy::to(&ldap.tls_address());
    let (mut server, client) = start(Setup::new(Database::sqlite()).ldap("lab", &ldap, "")).await;
    server.sign_in(&client, "alice", "pw-alice").await.ok();
    assert!(server.stop().await.success());
    (ldap, thief, server)
}

/// What `check` and `serve` say alike.
async fn refused(server: &Server, expected: &[&str]) {
    for command in ["check", "serve"] {
        let said = server.cli(&[command]).await.failed(1);
        assert!(expected.iter().all(|part| said.contains(part)), "{expected:?} in {command}: {said}");
    }
}

#[tokio::test]
async fn a_secret_under_another_name_goes_nowhere_else() {
    let (ldap, thief, mut server) = after_use().await;
    let new_url = format!("ldaps://localhost:{}", thief.port());
    let taken = ["source[0].urls: localhost would be sent the secret in ", "lab.password", "127.0.0.1", "--confirm-hosts other"];
    server.edit_config("name = \"lab\"", "name = \"other\"");
    server.cli(&["check"]).await.ok();
    server.edit_config(&ldap.tls_url(), &new_url);
    refused(&server, &taken).await;
    // The same by another path, since the secret is the same; and another secret by the same path.
    let file = server.directory().join("lab.password");
    std::os::unix::fs::symlink(&file, server.directory().join("link")).unwrap();
    fs::copy(&file, server.directory().join("copy")).unwrap();
    for (before, after) in [("\"lab.password", "\"copy"), ("\"copy", "\"link"), ("\"link", "\"lab.password")] {
        server.edit_config(before, after);
        refused(&server, &taken[2..]).await;
    }
    fs::write(&file, "put there while the server ran").unwrap();
    refused(&server, &taken).await;
    fs::write(&file, Ldap::SERVICE_PASSWORD).unwrap();

    // Beside the one that is known.
    server.edit_config(&new_url, &ldap.tls_url());
    server.edit_config("name = \"other\"", "name = \"lab\"");
    let second = ldap.section("other", "lab.password", &format!("urls = [{new_url:?}]"));
    server.edit_config("[[source]]", &format!("{second}\n[[source]]"));
    refused(&server, &taken).await;
    assert_eq!(thief.connections(), 0, "the new host was told something");
    server.edit_config(&new_url, &ldap.tls_url());
    server.cli(&["check"]).await.ok();
    server.restart().await;
}

#[tokio::test]
async fn a_secret_of_another_purpose_is_no_password() {
    let ldap = Ldap::shared();
    let setup = Setup::new(Database::sqlite()).ldap("lab", &ldap, "");
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let mut server = setup.file("sealing", key).config("[keys]\nencryption_key_file = \"sealing\"\n").start().await;
    assert!(server.stop().await.success());
    let key = server.directory().join("sealing");
    std::os::unix::fs::symlink(&key, server.directory().join("link")).unwrap();
    fs::hard_link(&key, server.directory().join("hard")).unwrap();
    let mut before = "\"lab.password\"".to_owned();
    for path in ["sealing", "./sealing", "link", "hard", "/proc/self/environ"] {
        let after = format!("{path:?}");
        server.edit_config(&format!("bind_password_file = {before}"), &format!("bind_password_file = {after}"));
        let why = if path.starts_with('/') { "is the environment of a program" } else { "is keys.encryption_key_file too" };
        refused(&server, &["countersign.toml:", "source[0].bind_password_file: ", why]).await;
        before = after;
    }
    server.cli(&["doctor"]).await.failed(1);
}

#[tokio::test]
async fn a_known_host_gets_a_secret_in_no_weaker_way() {
    let (ldap, thief, mut server) = after_use().await;
    let urls = format!("urls = [{:?}]", ldap.tls_url());
    let plain = format!("urls = [\"ldap://127.0.0.1:{}\"]\ntls = \"none\"\ninsecure_plaintext = true", thief.port());
    let line = |file: &str| format!("ca_file = {file:?}\n");
    let (own, none) = (ldap.authority(), "max_depth = 9\n");
    server.edit_config(&line(&own), none);
    server.edit_config(&urls, &plain);
    refused(&server, &["source[0].urls: the secret in ", "would be sent in plain text", "--confirm-hosts lab"]).await;
    let here = format!("urls = [\"ldaps://127.0.0.1:{}\"]", thief.port());
    server.edit_config(&plain, &here);
    server.edit_config(none, &line(&own));
    server.cli(&["check"]).await.ok();

    // The same authority in another file is the same; others, more, the system's, and another name are not.
    let stranger = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/stranger-ca.crt");
    let both = server.directory().join("both.pem");
    fs::write(&both, fs::read_to_string(&own).unwrap() + &fs::read_to_string(stranger).unwrap()).unwrap();
    let copy = server.directory().join("copy.pem");
    fs::copy(&own, &copy).unwrap();
    server.edit_config(&line(&own), &line("copy.pem"));
    server.cli(&["check"]).await.ok();
    let mut before = line("copy.pem");
    let named = line("copy.pem") + "server_name = \"elsewhere.test\"\n";
    for (after, whom) in [
        (line(stranger), "vouched for by the authority "),
        (line("both.pem"), "vouched for by the authority "),
        (none.to_owned(), "vouched for by the system's authorities"),
        (named, "vouched for by a certificate for elsewhere.test"),
    ] {
        server.edit_config(&before, &after);
        refused(&server, &["source[0].urls: the secret in ", whom, "--confirm-hosts lab"]).await;
        before = after;
    }
    assert_eq!(thief.connections(), 0, "the secret was on its way");

    // What is confirmed is known from then on. Back to protection needs nobody's word, and then plain text is new again.
    server.edit_config(&before, none);
    server.edit_config(&here, &plain);
    server.cli(&["check", "--confirm-hosts", "lab"]).await.ok();
    server.cli(&["check"]).await.ok();
    server.edit_config(&plain, &here);
    server.edit_config(none, &line("both.pem"));
    server.restart().await;
    assert!(server.stop().await.success());
    server.cli(&["check"]).await.ok();
    server.edit_config(&here, &plain);
    server.edit_config(&line("both.pem"), none);
    refused(&server, &["would be sent in plain text"]).await;
}

#[tokio::test]
async fn an_api_token_goes_to_no_host_that_never_had_it() {
    let okta = Oidc::issuer().await;
    let thief = Proxy::to(okta.url().split('/').nth(2).unwrap());
    let source = format!("base_url = {:?}\napi_token_file = \"okta-token\"\n", okta.org_url());
    let setup = Setup::new(Database::sqlite()).file("okta-token", "api-token\n").okta("okta", &okta, &source);
    let mut server = setup.start().await;
    assert!(server.stop().await.success());
    let new_url = format!("http://localhost:{}", thief.port());
    server.edit_config(&format!("base_url = {:?}", okta.org_url()), &format!("base_url = {new_url:?}"));
    refused(&server, &["source[0].base_url: localhost would be sent the secret in ", "okta-token", "--confirm-hosts okta"]).await;
    let said = server.cli(&["doctor"]).await.failed(1);
    assert!(said.contains("localhost would be sent the secret in ") && !said.contains("api-token"), "{said}");
    assert_eq!(thief.connections(), 0, "the new host was told something");
    server.cli(&["check", "--confirm-hosts", "okta"]).await.ok();
    server.cli(&["check"]).await.ok();
}
