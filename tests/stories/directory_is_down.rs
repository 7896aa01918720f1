//! The directory cannot be asked: nothing is decided, nobody loses anything, and all comes back by itself.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Answer, Client, Database, Ldap, Proxy, Server, Setup, eventually, free_port, on_both_databases};

const GRANTS: [&str; 8] = ["--grant", "password", "--grant", "refresh_token", "--grant", "client_credentials", "--scope", "read"];

/// Patience that a test can wait for.
const IMPATIENT: &str = "connect_timeout = \"1s\"\noperation_timeout = \"1s\"\nlogin_deadline = \"3s\"\nbreaker_open = \"200ms\"\n";

const MAPPING: &str = "[[mapping.rule]]\nid = \"users\"\nmatch.dn = \"cn=app-users,ou=groups,dc=lab,dc=test\"\nroles = [\"user\"]\n";

async fn server_over(ldap: &Ldap, more: &str, database: Database) -> (Server, Client) {
    let server = Setup::new(database).ldap("lab", ldap, &format!("{IMPATIENT}{more}")).config(MAPPING).start().await;
    let client = server.client_add(&GRANTS).await;
    (server, client)
}

async fn alice(server: &Server, client: &Client) -> Answer {
    server.sign_in(client, "alice", "pw-alice").await
}

/// Signs alice in, who must have her role.
async fn let_in(server: &Server, client: &Client) -> Answer {
    let answer = alice(server, client).await;
    assert_eq!(server.introspect(client, &answer.access_token()).await.roles(), ["user"]);
    answer
}

/// Signs alice in as soon as the directory is known to be back: for `breaker_open` nobody asks it.
async fn let_in_again(server: &Server, client: &Client) -> Answer {
    eventually(Duration::from_secs(10), "the directory is used again", async || alice(server, client).await.status == 200).await;
    let_in(server, client).await
}

fn through(proxy: &Proxy) -> String {
    format!("urls = [\"ldaps://127.0.0.1:{}\"]\n", proxy.port())
}

on_both_databases! {
    async fn a_stopped_directory_decides_nothing_and_returns(database) {
        let ldap = Ldap::private();
        let (server, client) = server_over(&ldap, "group_cache = \"1ms\"\n", database).await;
        let before = let_in(&server, &client).await;

        ldap.stop();
        for (username, password) in [("alice", "pw-alice"), ("alice", "wrong"), ("nobody-at-all", "wrong")] {
            server.sign_in(&client, username, password).await.unavailable();
        }
        let meaning = server.introspect(&client, &before.access_token()).await;
        assert_eq!((meaning.roles(), meaning.text("username")), (vec!["user".to_owned()], "alice".to_owned()), "a token outlives an outage");
        server.refresh(&client, &before.text("refresh_token")).await.unavailable();
        assert!(server.rows("SELECT id FROM audit_records WHERE reason = 'bad_password'").is_empty());

        ldap.start_again();
        let_in_again(&server, &client).await;
        let refreshed = server.refresh(&client, &before.text("refresh_token")).await;
        assert_eq!(server.introspect(&client, &refreshed.access_token()).await.roles(), ["user"], "the refresh token was kept");
    }

    async fn a_server_may_start_before_its_directory(database) {
        let ldap = Ldap::private();
        ldap.stop();
        let (server, client) = server_over(&ldap, "", database).await;
        alice(&server, &client).await.unavailable();
        ldap.start_again();
        let_in_again(&server, &client).await;
    }

    async fn a_hung_directory_holds_nobody_else_up(database) {
        let ldap = Ldap::private();
        let (server, client) = server_over(&ldap, "", database).await;
        let before = let_in(&server, &client).await.access_token();

        ldap.hang();
        let sign_ins = async { tokio::join!(alice(&server, &client), alice(&server, &client), alice(&server, &client)) };
        let others = async {
            for _ in 0..20 {
                let own = server.own_token(&client).await;
                assert!(server.is_active(&client, &own).await && server.is_active(&client, &before).await);
            }
            assert_eq!(server.get("/readyz").await.status, 200, "a server without its directory still serves tokens");
        };
        let ((first, second, third), ()) = tokio::join!(sign_ins, others);
        for answer in [first, second, third] {
            answer.unavailable();
        }
        ldap.resume();
        let_in_again(&server, &client).await;
    }

    async fn a_refused_service_account_is_our_mistake_and_not_the_persons(database) {
        let ldap = Ldap::private();
        let server = Setup::new(database)
            .ldap("lab", &ldap, IMPATIENT)
            .file("lab.password", "not the password")
            .config(MAPPING)
            .start()
            .await;
        let client = server.client_add(&GRANTS).await;
        alice(&server, &client).await.unavailable();
        server.sign_in(&client, "nobody-at-all", "wrong").await.unavailable();
        let log = server.log();
        assert!(log.contains(Ldap::SERVICE_DN) && log.contains("bind_password_file"), "the log names who and what to mend:\n{log}");
        assert!(!log.contains("not the password"));

        fs::write(server.directory().join("lab.password"), format!("{}\n", Ldap::SERVICE_PASSWORD)).unwrap();
        let_in(&server, &client).await;
    }

    async fn connections_that_are_cut_are_made_anew(database) {
        let ldap = Ldap::shared();
        let proxy = Proxy::to(&ldap.tls_address());
        let (server, client) = server_over(&ldap, &through(&proxy), database).await;
        let_in(&server, &client).await;

        // While idle: nobody notices.
        proxy.stop();
        proxy.resume();
        let_in(&server, &client).await;

        // In the middle of a sign-in.
        proxy.hang();
        let cut = async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            proxy.stop();
        };
        let (answer, ()) = tokio::join!(alice(&server, &client), cut);
        answer.unavailable();
        alice(&server, &client).await.unavailable();
        proxy.resume();
        let_in_again(&server, &client).await;

        // A silent partition, and a bind that comes through after all must change nobody's identity.
        proxy.hang();
        alice(&server, &client).await.unavailable();
        proxy.resume();
        let_in_again(&server, &client).await;
        let carol = server.introspect_person(&client, "carol", "pw-carol").await;
        assert_eq!((carol.text("username"), carol.roles()), ("carol".to_owned(), vec!["user".to_owned()]));
    }

    async fn the_next_server_is_asked_when_the_first_is_gone(database) {
        let ldap = Ldap::shared();
        let proxy = Proxy::to(&ldap.tls_address());
        let servers = [free_port(), proxy.port()].map(|port| format!("\"ldaps://127.0.0.1:{port}\"")).join(", ");
        let (server, client) = server_over(&ldap, &format!("urls = [{servers}, {:?}]\n", ldap.tls_url()), database).await;
        let_in(&server, &client).await;
        assert!(proxy.connections() > 0, "the order of urls is kept");
        proxy.stop();
        let_in(&server, &client).await;
        proxy.resume();
        let asked = proxy.connections();
        eventually(Duration::from_secs(10), "the preferred server is used again when it is back", async || {
            let_in(&server, &client).await;
            proxy.connections() > asked
        })
        .await;
    }

    async fn groups_that_cannot_be_read_whole_are_no_groups(database) {
        let ldap = Ldap::shared();
        let section = |name: &str, from: &str, to: &str, more: &str| {
            ldap.section(name, "good.password", &format!("{IMPATIENT}group_cache = \"1ms\"\n{more}")).replace(from, to)
        };
        let server = Setup::new(database)
            .ldap("good", &ldap, IMPATIENT)
            .config(&section("no-group-base", "ou=groups,dc=lab,dc=test", "ou=nowhere,dc=lab,dc=test", ""))
            .config(&section("no-user-base", "ou=people,dc=lab,dc=test", "ou=nowhere,dc=lab,dc=test", ""))
            .config(&section("few-groups", "", "", "max_groups = 1\n"))
            .config(&section("no-subject", "", "", "subject_attribute = \"employeeNumber\"\n"))
            .config(MAPPING)
            .start()
            .await;
        let client = server.client_add(&GRANTS).await;
        for source in ["no-group-base", "no-user-base", "few-groups", "no-subject"] {
            let parameters = [("grant_type", "password"), ("username", "alice"), ("password", "pw-alice"), ("source", source)];
            server.token(&client, &parameters).await.unavailable();
        }
        let_in(&server, &client).await;
        assert_eq!(server.rows("SELECT source FROM grants"), ["good"]);
        assert_eq!(alice(&server, &client).await.ok()["expires_in"], json!(900));
    }
}
