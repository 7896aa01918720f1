//! The directory says no, or is not even asked: one answer for every reason, the exact reason in the audit, and guessing gets slow.

use std::time::Duration;

use crate::harness::{Answer, Client, Database, Ldap, Proxy, Server, Setup, eventually, on_both_databases};

const PASSWORD: [&str; 2] = ["--grant", "password"];

/// A server that reaches the shared directory through a proxy alone, and a client that may use the password grant.
async fn behind(proxy: &Proxy, database: Database, config: &str, more: &str) -> (Server, Client) {
    let urls = format!("urls = [\"ldaps://127.0.0.1:{}\"]\n{more}", proxy.port());
    let server = Setup::new(database).config(config).ldap("lab", &Ldap::shared(), &urls).start().await;
    let client = server.client_add(&PASSWORD).await;
    (server, client)
}

/// The password grant from another address, as a trusted proxy tells it.
async fn sign_in_from(server: &Server, client: &Client, address: &str, username: &str, password: &str) -> Answer {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("grant_type", "password"), ("username", username), ("password", password)])
        .finish();
    server.raw("/oauth2/token", &[("authorization", &client.basic()), ("x-forwarded-for", address)], form).await
}

#[track_caller]
fn too_many(answer: &Answer) {
    let wait = answer.refused(429, "temporarily_unavailable").header("retry-after");
    assert!((1..=310).contains(&wait.parse().unwrap_or(0)), "Retry-After: {wait}");
}

on_both_databases! {
    async fn every_no_sounds_the_same_and_the_audit_knows_why(database) {
        let ldap = Ldap::shared();
        let server = Setup::new(database)
            .config("[[mapping.deny]]\nid = \"leavers\"\nmatch.dn = \"cn=leavers,ou=groups,dc=lab,dc=test\"\n")
            .ldap("lab", &ldap, "user_filter = \"(!(uid=frank))\"")
            .ldap("other", &ldap, "user_filter = \"(uid=nobody-at-all)\"")
            .start()
            .await;
        let client = server.client_add(&PASSWORD).await;
        let person = ldap.add_person(&[]);
        let long = "x".repeat(257);
        let refusals = [
            (person.uid.as_str(), "wrong", "bad_password"),
            ("nobody-at-all", "wrong", "unknown_user"),
            ("mustchange", "pw-mustchange", "password_change_required"),
            ("locked", "pw-locked", "locked"),
            ("expired", "pw-expired", "password_expired"),
            ("grace", "pw-grace", "password_expired"),
            ("twin@lab.test", "pw-twin1", "not_eligible"),
            ("frank", "pw-frank", "unknown_user"),
            ("mallory", "pw-mallory", "denied_by_mapping"),
            ("alice", &long, "bad_password"),
            (&long, "pw-alice", "unknown_user"),
            ("cn=svc,ou=services,dc=lab,dc=test", Ldap::SERVICE_PASSWORD, "unknown_user"),
        ];
        let mut bodies = Vec::new();
        for (username, password, _) in refusals {
            let answer = server.sign_in(&client, username, password).await;
            answer.refused(400, "invalid_grant");
            bodies.push((answer.body, username));
        }
        let different: Vec<_> = bodies.iter().filter(|(body, _)| *body != bodies[0].0).collect();
        assert!(different.is_empty(), "{different:?} tells more than {:?}", bodies[0]);

        let query = "SELECT username, reason, client_id, address, outcome FROM audit_records WHERE event = 'sign_in_refused' ORDER BY id";
        let mut audit = server.rows_when(refusals.len(), query).await;
        // What strangers write is cut, lest it fill the database.
        let cut = |username: &str| username.chars().take(256).collect::<String>();
        let mut expected: Vec<String> = refusals.map(|(username, _, why)| format!("{}|{why}|{}|127.0.0.1|refused", cut(username), client.id)).into();
        // Records of one second have no order.
        audit.sort_unstable();
        expected.sort_unstable();
        assert_eq!(audit, expected);
        assert!(server.rows("SELECT username FROM accounts WHERE source = 'lab'").is_empty(), "a refusal made an account");
        ldap.delete(&person.dn);
    }

    async fn what_proves_nothing_is_refused_before_a_packet_is_sent(database) {
        let proxy = Proxy::to(&Ldap::shared().tls_address());
        let (server, client) = behind(&proxy, database, "", "").await;
        let basic = client.basic();
        for form in [
            "grant_type=password&username=alice",
            "grant_type=password&username=alice&password=",
            "grant_type=password&username=alice&password=%00",
            "grant_type=password&username=alice&password=pw-alice%00",
            "grant_type=password&username=&password=pw-alice",
            "grant_type=password&username=alice%00&password=pw-alice",
            "grant_type=password&username=alice&password=a&password=b",
        ] {
            server.raw("/oauth2/token", &[("authorization", &basic)], form).await.refused(400, "invalid_request");
        }
        let json = r#"{"grant_type":"password","username":"alice","password":null}"#;
        let headers = [("authorization", basic.as_str()), ("content-type", "application/json")];
        server.raw("/oauth2/token", &headers, json).await.refused(400, "invalid_request");
        let long = "x".repeat(257);
        for (username, password) in [("alice", long.as_str()), (&long, "pw-alice"), ("  ", "pw-alice"), ("alice", &"é".repeat(129))] {
            server.sign_in(&client, username, password).await.refused(400, "invalid_grant");
        }
        assert_eq!(proxy.connections(), 0, "the directory was asked");
        server.sign_in(&client, "alice", "pw-alice").await.ok();
        assert!(proxy.connections() > 0, "the proxy is on the way");
    }

    async fn a_password_of_blanks_is_a_wrong_password(database) {
        let proxy = Proxy::to(&Ldap::shared().tls_address());
        let (server, client) = behind(&proxy, database, "", "").await;
        let person = Ldap::shared().add_person(&[]);
        server.sign_in(&client, &person.uid, " ").await.refused(400, "invalid_grant");
        server.sign_in(&client, &person.uid, &format!("{} ", person.password)).await.refused(400, "invalid_grant");
        server.sign_in(&client, &person.uid, &person.password).await.ok();
        Ldap::shared().delete(&person.dn);
    }

    async fn guesses_for_one_login_are_throttled_however_it_is_written(database) {
        let proxy = Proxy::to(&Ldap::shared().tls_address());
        let (server, client) = behind(&proxy, database, "[limits]\nlogin_failures = \"3/5m\"\n", "").await;
        let person = Ldap::shared().add_person(&[]);
        let (upper, spaced) = (person.uid.to_uppercase(), format!("  {} ", person.uid));
        for (typed, guess) in [(&person.uid, "first"), (&upper, "second"), (&spaced, "third")] {
            server.sign_in(&client, typed, guess).await.refused(400, "invalid_grant");
        }
        let asked = proxy.connections();
        for typed in [&person.uid, &upper, &spaced] {
            too_many(&server.sign_in(&client, typed, &person.password).await);
        }
        assert_eq!(proxy.connections(), asked, "the directory is not asked for whom is throttled");
        server.sign_in(&client, "alice", "pw-alice").await.ok();
        let throttled = server.rows_when(3, "SELECT username FROM audit_records WHERE reason = 'throttled'").await;
        assert!(throttled.iter().all(|name| name.trim().eq_ignore_ascii_case(&person.uid)), "{throttled:?}");
        // A login that nobody has is throttled like any other, so that the throttle tells nothing either.
        for guess in ["first", "second", "third"] {
            server.sign_in(&client, "nobody-at-all", guess).await.refused(400, "invalid_grant");
        }
        too_many(&server.sign_in(&client, "nobody-at-all", "fourth").await);
        Ldap::shared().delete(&person.dn);
    }

    async fn guesses_from_one_address_are_throttled_whatever_the_login(database) {
        let proxy = Proxy::to(&Ldap::shared().tls_address());
        let config = "[server]\ntrusted_proxies = [\"127.0.0.1/32\"]\n[limits]\naddress_failures = \"4/5m\"\n";
        let (server, client) = behind(&proxy, database, config, "").await;
        for n in 0..4 {
            sign_in_from(&server, &client, "192.0.2.7", &format!("nobody-{n}"), "wrong").await.refused(400, "invalid_grant");
        }
        too_many(&sign_in_from(&server, &client, "192.0.2.7", "alice", "pw-alice").await);
        // What stands left of the trusted hop is the caller's own invention.
        too_many(&sign_in_from(&server, &client, "198.51.100.1, 192.0.2.7", "alice", "pw-alice").await);
        sign_in_from(&server, &client, "192.0.2.8", "alice", "pw-alice").await.ok();
        // Of IPv6 a subscriber has a whole /64.
        for n in 0..4 {
            let address = format!("2001:db8:1:2::{n}");
            sign_in_from(&server, &client, &address, &format!("somebody-{n}"), "wrong").await.refused(400, "invalid_grant");
        }
        too_many(&sign_in_from(&server, &client, "2001:db8:1:2:ffff::1", "alice", "pw-alice").await);
        sign_in_from(&server, &client, "2001:db8:1:3::1", "alice", "pw-alice").await.ok();
    }

    async fn outages_and_successes_do_not_count(database) {
        let proxy = Proxy::to(&Ldap::shared().tls_address());
        let limits = "[server]\ntrusted_proxies = [\"127.0.0.1/32\"]\n[limits]\nlogin_failures = \"3/5m\"\naddress_failures = \"6/5m\"\n";
        let (server, client) = behind(&proxy, database, limits, "").await;
        let person = Ldap::shared().add_person(&[]);
        proxy.stop();
        for _ in 0..7 {
            server.sign_in(&client, &person.uid, &person.password).await.unavailable();
        }
        proxy.resume();
        eventually(Duration::from_secs(10), "the directory is used again", async || {
            server.sign_in(&client, "alice", "pw-alice").await.status == 200
        })
        .await;
        // Successes are not counted, and they wash nobody clean: the failures before may be somebody else's.
        for guess in ["first", "second"] {
            server.sign_in(&client, &person.uid, guess).await.refused(400, "invalid_grant");
            server.sign_in(&client, &person.uid, &person.password).await.ok();
        }
        server.sign_in(&client, &person.uid, "third").await.refused(400, "invalid_grant");
        too_many(&sign_in_from(&server, &client, "192.0.2.7", &person.uid, &person.password).await);
        // But nobody can keep out whoever was here before.
        server.sign_in(&client, &person.uid, &person.password).await.ok();
        // The address has three failures of its six left.
        for name in ["nobody-1", "nobody-2", "nobody-3"] {
            server.sign_in(&client, name, "wrong").await.refused(400, "invalid_grant");
        }
        too_many(&server.sign_in(&client, "nobody-4", "wrong").await);
        Ldap::shared().delete(&person.dn);
    }

    async fn a_password_is_written_down_nowhere(database) {
        let proxy = Proxy::to(&Ldap::shared().tls_address());
        let (server, client) = behind(&proxy, database, "[log]\nlevel = \"trace\"\n", "").await;
        let person = Ldap::shared().add_person(&[]);
        let wrong = format!("wrong-{}", crate::harness::unique());
        server.sign_in(&client, &person.uid, &wrong).await.refused(400, "invalid_grant");
        server.sign_in(&client, "nobody-at-all", &wrong).await.refused(400, "invalid_grant");
        server.sign_in(&client, &person.uid, &person.password).await.ok();
        proxy.stop();
        server.sign_in(&client, &person.uid, &person.password).await.unavailable();
        let audit = server.rows_when(2, "SELECT * FROM audit_records WHERE event = 'sign_in_refused'").await;
        let everything = server.rows("SELECT * FROM audit_records").join("\n") + &server.rows("SELECT * FROM grants").join("\n");
        let log = server.log();
        assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is as talkative as it gets");
        for secret in [wrong.as_str(), &person.password, client.secret(), Ldap::SERVICE_PASSWORD] {
            assert!(!log.contains(secret), "{secret} is in the log:\n{}", lines_with(&log, secret));
            assert!(!everything.contains(secret), "{secret} is in the database:\n{audit:?}");
        }
        Ldap::shared().delete(&person.dn);
    }
}

fn lines_with(log: &str, secret: &str) -> String {
    log.lines().filter(|line| line.contains(secret)).take(5).collect::<Vec<_>>().join("\n")
}
