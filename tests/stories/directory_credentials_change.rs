//! The service account's password and the certificates lie in files that change while the server runs.

use std::fs;

use crate::harness::{Certificates, Client, Ldap, Proxy, Server, Setup, on_both_databases};

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

        // A new secret is meant for the new host.
        let file = server.directory().join("lab.password");
        fs::write(&file, "a new one").unwrap();
        server.cli(&["check"]).await.ok();
        fs::write(&file, Ldap::SERVICE_PASSWORD).unwrap();
        server.cli(&["check"]).await.failed(1);

        let said = server.cli(&["check", "--confirm-hosts", "nothing"]).await.failed(1);
        assert!(said.contains("there is no source nothing"), "{said}");
        server.cli(&["check", "--confirm-hosts", "lab"]).await.ok();
        server.restart().await;
        server.sign_in(&client, "alice", "pw-alice").await.ok();
        assert!(thief.connections() > 0);
    }
}
