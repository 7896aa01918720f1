//! A directory of several servers: one that is down is passed over, and preferred again when it is back. A password is asked about
//! once, whatever happens.

use std::time::Duration;

use crate::harness::{Answer, Client, Database, Fate, Ldap, Proxy, Server, Setup, Trap, eventually, free_port, on_both_databases};

const GRANTS: [&str; 4] = ["--grant", "password", "--grant", "client_credentials"];

/// Patience that a test can wait for, and groups that are asked for each time.
const IMPATIENT: &str = "connect_timeout = \"1s\"\noperation_timeout = \"1s\"\nlogin_deadline = \"4s\"\ngroup_cache = \"1ms\"\n";

const MAPPING: &str = "[[mapping.rule]]\nid = \"users\"\nmatch.dn = \"cn=app-users,ou=groups,dc=lab,dc=test\"\nroles = [\"user\"]\n";

const LIMIT: Duration = Duration::from_secs(20);

/// A server over the shared directory, reached through these proxies in plain text.
async fn server_over(proxies: &[&Proxy], more: &str, database: Database) -> (Server, Client) {
    let section = Ldap::shared().plain_section("lab", "lab.password", proxies, &format!("{IMPATIENT}{more}"));
    let server = Setup::new(database).file("lab.password", Ldap::SERVICE_PASSWORD).config(&section).config(MAPPING).start().await;
    let client = server.client_add(&GRANTS).await;
    (server, client)
}

fn proxy() -> Proxy {
    Proxy::to(&Ldap::shared().plain_address())
}

async fn let_in(server: &Server, client: &Client) {
    let answer = server.introspect_person(client, "alice", "pw-alice").await;
    assert_eq!((answer.roles(), answer.text("username")), (vec!["user".to_owned()], "alice".to_owned()));
}

async fn alice(server: &Server, client: &Client) -> Answer {
    server.sign_in(client, "alice", "pw-alice").await
}

on_both_databases! {
    async fn the_next_server_takes_over_and_the_first_is_preferred_again(database) {
        let (first, second, port) = (proxy(), proxy(), free_port());
        let metrics = format!("\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
        let (server, client) = server_over(&[&first, &second], &format!("breaker_open = \"500ms\"\n{metrics}"), database).await;
        let scrape = async || reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.unwrap().text().await.unwrap();
        let gauge = |open: u8| format!("countersign_ldap_breaker_open{{source=\"lab\",server=\"127.0.0.1:{}\"}} {open}", first.port());
        let_in(&server, &client).await;
        assert!(first.connections() > 0 && second.connections() == 0, "the order of urls is kept");
        assert!(scrape().await.contains(&gauge(0)));

        first.stop();
        let_in(&server, &client).await;
        let_in(&server, &client).await;
        assert!(second.connections() > 0);
        let metrics = scrape().await;
        assert!(metrics.contains("countersign_ldap_failovers_total{source=\"lab\"} 1"), "{metrics}");
        assert!(metrics.contains(&gauge(1)) || !metrics.contains(&gauge(0)), "{metrics}");

        first.resume();
        let before = first.connections();
        eventually(LIMIT, "the first server is used again", async || {
            let_in(&server, &client).await;
            first.connections() > before && scrape().await.contains(&gauge(0))
        })
        .await;
        let elsewhere = second.requests();
        let_in(&server, &client).await;
        let_in(&server, &client).await;
        assert_eq!(second.requests(), elsewhere, "a connection to the second server was kept");
        let log = server.log();
        assert!(log.contains("the LDAP server is down") && log.contains("the LDAP server answers again"), "{log}");
    }

    async fn nobody_waits_twice_for_a_server_that_hangs(database) {
        let (first, second) = (proxy(), proxy());
        let (server, client) = server_over(&[&first, &second], "breaker_open = \"1h\"\n", database).await;
        let_in(&server, &client).await;
        first.hang();
        // The search that meets the silence goes on at the second server; reading twice harms nobody.
        let_in(&server, &client).await;
        let asked = (first.connections(), first.requests());
        for _ in 0..5 {
            let_in(&server, &client).await;
        }
        assert_eq!((first.connections(), first.requests()), asked, "somebody was sent to the server that hangs");
    }

    async fn when_all_are_down_the_answer_comes_at_once(database) {
        let (first, second) = (proxy(), proxy());
        let (server, client) = server_over(&[&first, &second], "breaker_open = \"1h\"\n", database).await;
        let_in(&server, &client).await;
        first.hang();
        second.hang();
        // The search meets one silence after the other. A second sign-in may be needed where the deadline came first.
        eventually(LIMIT, "both are known to be down", async || {
            let asked = first.requests() + second.requests() + first.connections() + second.connections();
            alice(&server, &client).await.unavailable();
            asked == first.requests() + second.requests() + first.connections() + second.connections()
        })
        .await;
        let asked = (first.connections(), second.connections());
        for (username, password) in [("alice", "pw-alice"), ("alice", "wrong"), ("nobody-at-all", "wrong")].repeat(4) {
            server.sign_in(&client, username, password).await.unavailable();
        }
        assert_eq!((first.connections(), second.connections()), asked, "nobody is asked and nobody waits");
        let own = server.own_token(&client).await;
        assert!(server.is_active(&client, &own).await);
        assert!(server.rows("SELECT id FROM audit_records WHERE reason = 'bad_password'").is_empty());
    }

    async fn a_password_is_never_asked_about_twice(database) {
        let (first, second) = (proxy(), proxy());
        let (server, client) = server_over(&[&first, &second], "breaker_open = \"200ms\"\nlockout_threshold = 0\n", database).await;
        let person = Ldap::shared().add_person(&["app-users"]);
        let binds = || first.binds(&person.dn) + second.binds(&person.dn);

        server.sign_in(&client, &person.uid, "wrong").await.refused(400, "invalid_grant");
        assert_eq!(binds(), 1, "a refusal is final");
        server.sign_in(&client, &person.uid, &person.password).await.ok();
        assert_eq!(binds(), 2);

        // A bind that is not answered may have been counted all the same.
        for (done, fate) in [Fate::Cut, Fate::Silence].into_iter().enumerate() {
            first.trap(Trap::Bind(person.dn.clone(), fate));
            server.sign_in(&client, &person.uid, &format!("wrong {fate:?}")).await.unavailable();
            assert_eq!(binds(), 3 + 2 * done, "{fate:?}: somebody else was asked");
            first.resume();
            let asked = first.requests();
            eventually(LIMIT, "the first server is used again", async || {
                let_in(&server, &client).await;
                first.requests() > asked
            })
            .await;
            server.sign_in(&client, &person.uid, &format!("wrong after {fate:?}")).await.refused(400, "invalid_grant");
            assert_eq!(binds(), 4 + 2 * done);
        }
        assert_eq!(second.binds(&person.dn), 0, "the second server never saw the password");
        Ldap::shared().delete(&person.dn);
    }

    async fn a_bind_without_an_answer_lets_nobody_else_in(database) {
        let (only, ldap) = (proxy(), Ldap::shared());
        let readers = "[[mapping.rule]]\nid = \"readers\"\nmatch.dn = \"cn=app-team2-read,ou=groups,dc=lab,dc=test\"\nroles = [\"reader\"]\n";
        let (server, client) = server_over(&[&only], &format!("breaker_open = \"100ms\"\nlockout_threshold = 0\n{readers}"), database).await;
        let (first, second) = (ldap.add_person(&["app-users"]), ldap.add_person(&["app-team2-read"]));
        for fate in [Fate::Cut, Fate::Silence] {
            only.trap(Trap::Bind(first.dn.clone(), fate));
            // The right password: what the directory says of it, if ever, comes when nobody waits for it any more.
            server.sign_in(&client, &first.uid, &first.password).await.unavailable();
            only.resume();
            eventually(LIMIT, "the directory is used again", async || {
                let answer = server.sign_in(&client, &second.uid, &format!("wrong after {fate:?}")).await;
                if answer.status != 400 {
                    answer.unavailable();
                }
                answer.status == 400
            })
            .await;
            for (person, role) in [(&second, "reader"), (&first, "user"), (&second, "reader")] {
                let meaning = server.introspect_person(&client, &person.uid, &person.password).await;
                assert_eq!((meaning.text("username"), meaning.roles()), (person.uid.clone(), vec![role.to_owned()]), "{fate:?}");
            }
        }
        for person in [first, second] {
            ldap.delete(&person.dn);
        }
    }

    async fn wherever_it_fails_nobody_gets_fewer_roles(database) {
        let only = proxy();
        let (server, client) = server_over(&[&only], "breaker_open = \"100ms\"\n", database).await;
        let_in(&server, &client).await;
        let before = only.requests();
        let_in(&server, &client).await;
        let steps = only.requests() - before;
        assert!(steps >= 3, "a search, a bind and groups, not {steps}");
        for fate in [Fate::Cut, Fate::Silence] {
            for step in 0..steps {
                only.trap(Trap::After(step, fate));
                alice(&server, &client).await.unavailable();
                only.resume();
                eventually(LIMIT, "the directory is used again", async || alice(&server, &client).await.status == 200).await;
                let_in(&server, &client).await;
            }
        }
        assert_eq!(server.rows("SELECT id FROM audit_records WHERE event = 'sign_in_refused'"), Vec::<String>::new());
    }
}
