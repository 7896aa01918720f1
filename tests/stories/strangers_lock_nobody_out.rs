//! Strangers guess at somebody's password through us, from many networks and on many nodes: neither the directory nor we lock that
//! person out, and whoever signed in from a network before gets in meanwhile.

use futures_util::future::join_all;

use crate::harness::{Answer, Client, Database, Ldap, Proxy, Samba, Server, Setup, on_both_databases};

const PASSWORD: [&str; 2] = ["--grant", "password"];
/// Networks are played by what a trusted proxy tells.
const BEHIND_A_PROXY: &str = "[server]\ntrusted_proxies = [\"127.0.0.1/32\"]\nissuer = \"https://tokens.example\"\n";
const HOME: &str = "192.0.2.1";

async fn from(server: &Server, client: &Client, address: &str, username: &str, password: &str) -> Answer {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("grant_type", "password"), ("username", username), ("password", password)])
        .finish();
    server.raw("/oauth2/token", &[("authorization", &client.basic()), ("x-forwarded-for", address)], form).await
}

/// One guess from each of many networks; answers the statuses.
async fn guesses(server: &Server, client: &Client, usernames: &[&str], networks: std::ops::Range<u32>) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (n, username) in networks.zip(usernames.iter().cycle()) {
        let answer = from(server, client, &format!("198.51.100.{n}"), username, &format!("guess-{n}")).await;
        match answer.status {
            429 => assert!(answer.refused(429, "temporarily_unavailable").header("retry-after").parse::<u64>().unwrap() >= 1),
            _ => drop(answer.refused(400, "invalid_grant")),
        }
        statuses.push(answer.status);
    }
    statuses
}

/// A server before the shared directory, and a client for passwords.
async fn before(ldap: &Ldap, database: Database, more: &str) -> (Server, Client) {
    let server = Setup::new(database).config(BEHIND_A_PROXY).ldap("lab", ldap, more).start().await;
    let client = server.client_add(&PASSWORD).await;
    (server, client)
}

/// The wrong passwords that the directory has counted.
fn counted(ldap: &Ldap, dn: &str) -> usize {
    ldap.values(dn, "pwdFailureTime").len()
}

#[track_caller]
fn unlocked(ldap: &Ldap, dn: &str) {
    assert!(ldap.values(dn, "pwdAccountLockedTime").is_empty(), "the directory has locked the account");
}

on_both_databases! {
    async fn an_attack_through_us_leaves_the_account_unlocked_and_the_person_gets_in(database) {
        let ldap = Ldap::shared();
        let (server, client) = before(&ldap, database, "").await;
        let person = ldap.add_person(&[]);
        from(&server, &client, HOME, &person.uid, &person.password).await.ok();
        let statuses = guesses(&server, &client, &[&person.uid], 1..15).await;
        assert_eq!(statuses[..3], [400; 3]);
        assert_eq!(statuses[3..], [429; 11]);
        assert_eq!(counted(&ldap, &person.dn), 3, "two less than the directory's threshold of five");
        unlocked(&ldap, &person.dn);

        from(&server, &client, "192.0.2.99", &person.uid, &person.password).await.refused(429, "temporarily_unavailable");
        from(&server, &client, HOME, &person.uid, &person.password).await.ok();
        assert_eq!(counted(&ldap, &person.dn), 0, "a right password ends the directory's count");
        // What strangers had they have had, however often the person signs in.
        assert_eq!(guesses(&server, &client, &[&person.uid], 20..24).await, [429; 4]);
        assert_eq!(counted(&ldap, &person.dn), 0);
        // Somebody else's account is another matter.
        let other = ldap.add_person(&[]);
        from(&server, &client, "198.51.100.1", &other.uid, &other.password).await.ok();

        let reasons = server.rows_when(1, "SELECT DISTINCT reason FROM audit_records WHERE reason = 'shielded' AND source = 'lab'").await;
        assert_eq!(reasons, ["shielded"]);
        // What is kept is hashed with a key.
        for (column, table) in [("subject", "shield_tries"), ("mark", "shield_marks")] {
            let kept = server.rows(&format!("SELECT {column} FROM {table}"));
            assert!(!kept.is_empty() && kept.iter().all(|key| key.len() == 43), "{kept:?}");
        }
        ldap.delete(&person.dn);
        ldap.delete(&other.dn);
    }

    async fn a_forgotten_job_is_tried_once_and_keeps_nobody_out(database) {
        let ldap = Ldap::shared();
        let (server, client) = before(&ldap, database, "").await;
        let (person, colleague) = (ldap.add_person(&[]), ldap.add_person(&[]));
        from(&server, &client, HOME, &person.uid, &person.password).await.ok();
        for _ in 0..50 {
            from(&server, &client, HOME, &person.uid, "the old password").await.refused(400, "invalid_grant");
        }
        assert_eq!(counted(&ldap, &person.dn), 1);
        from(&server, &client, HOME, &person.uid, &person.password).await.ok();
        from(&server, &client, HOME, &colleague.uid, &colleague.password).await.ok();
        from(&server, &client, "198.51.100.1", &person.uid, &person.password).await.ok();
        let known = server.rows_when(49, "SELECT reason FROM audit_records WHERE reason = 'known_bad_password'").await;
        assert_eq!(known.len(), 49);
        // A password that was wrong until it was changed is right from then on.
        from(&server, &client, HOME, &person.uid, "the next password").await.refused(400, "invalid_grant");
        ldap.change_password(&person, "the next password");
        from(&server, &client, HOME, &person.uid, "the next password").await.ok();
        ldap.delete(&person.dn);
        ldap.delete(&colleague.dn);
    }

    async fn however_the_login_is_written_it_is_one_person(database) {
        let ldap = Ldap::shared();
        let (server, client) = before(&ldap, database, "").await;
        let person = ldap.add_person(&[]);
        let (upper, mail, spaced) = (person.uid.to_uppercase(), format!("{}@LAB.test", person.uid), format!("  {} ", person.uid));
        let written = [mail.as_str(), &upper, &spaced, &person.uid];
        assert_eq!(guesses(&server, &client, &written, 1..13).await, [&[400; 3][..], &[429; 9]].concat());
        assert_eq!(counted(&ldap, &person.dn), 3);
        unlocked(&ldap, &person.dn);
        ldap.delete(&person.dn);
    }

    async fn whom_nobody_knows_is_treated_like_everybody(database) {
        let ldap = Ldap::shared();
        let proxy = Proxy::to(&ldap.tls_address());
        let urls = format!("urls = [\"ldaps://127.0.0.1:{}\"]", proxy.port());
        let (server, client) = before(&ldap, database, &urls).await;
        let person = ldap.add_person(&[]);
        // The service account's connection is there from now on.
        from(&server, &client, HOME, "alice", "pw-alice").await.ok();
        let mut seen = Vec::new();
        for username in [person.uid.as_str(), "nobody-at-all"] {
            let mut answers = Vec::new();
            for n in [1, 2, 2, 3, 4, 5] {
                let (before, address) = (proxy.connections(), format!("198.51.100.{n}"));
                let answer = from(&server, &client, &address, username, &format!("guess-{n}")).await;
                let headers: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
                answers.push((answer.status, answer.body, headers, proxy.connections() - before));
            }
            seen.push(answers);
        }
        assert_eq!(seen[0], seen[1]);
        let course: Vec<_> = seen[0].iter().map(|(status, _, _, connections)| (*status, *connections)).collect();
        assert_eq!(course, [(400, 1), (400, 1), (400, 0), (400, 1), (429, 0), (429, 0)]);
        ldap.delete(&person.dn);
    }

    async fn outages_use_up_nothing(database) {
        let ldap = Ldap::shared();
        let proxy = Proxy::to(&ldap.tls_address());
        let urls = format!("urls = [\"ldaps://127.0.0.1:{}\"]", proxy.port());
        let (server, client) = before(&ldap, database, &urls).await;
        let person = ldap.add_person(&[]);
        proxy.stop();
        for n in 1..10 {
            from(&server, &client, &format!("198.51.100.{n}"), &person.uid, &format!("guess-{n}")).await.unavailable();
        }
        assert_eq!(server.rows("SELECT mark FROM shield_marks"), [""; 0]);
        assert!(server.rows("SELECT subject FROM shield_tries WHERE failed > 0 OR in_flight > 0 OR guesses > 0").is_empty());
        ldap.delete(&person.dn);
    }

    async fn accounts_of_our_own_are_shielded_too(database) {
        let config = format!("{BEHIND_A_PROXY}[limits]\nlogin_failures = \"3/5m\"\n");
        let server = Setup::new(database).config(&config).start().await;
        let client = server.client_add(&PASSWORD).await;
        let password = "five blue herons crossing";
        server.user_add("Anna", password, &[]).await;
        from(&server, &client, HOME, "anna", password).await.ok();
        let written = ["anna", "ANNA", " Anna "];
        assert_eq!(guesses(&server, &client, &written, 1..10).await, [&[400; 3][..], &[429; 6]].concat());
        assert_eq!(guesses(&server, &client, &["nobody"], 1..10).await, [&[400; 3][..], &[429; 6]].concat());
        from(&server, &client, "192.0.2.99", "anna", password).await.refused(429, "temporarily_unavailable");
        from(&server, &client, HOME, "anna", password).await.ok();
        // The same wrong password again costs nothing, and a new password is one at once.
        let next = "nine grey otters sleeping";
        for _ in 0..10 {
            from(&server, &client, HOME, "anna", next).await.refused(400, "invalid_grant");
        }
        server.cli_with(&["user", "set-password", "Anna", "--password-stdin"], &format!("{next}\n")).await.ok();
        from(&server, &client, HOME, "anna", next).await.ok();
    }
}

/// Half of the guesses on each node, all at once.
async fn storm(nodes: [&Server; 2], client: &Client, username: &str) -> Vec<u16> {
    let guess = |n: usize| from_anywhere(nodes[n % 2], client, username, n);
    join_all((0..30).map(guess)).await
}

async fn from_anywhere(server: &Server, client: &Client, username: &str, n: usize) -> u16 {
    from(server, client, &format!("203.0.113.{n}"), username, &format!("storm-{n}")).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_count_together() {
    let ldap = Ldap::shared();
    let common = format!("{BEHIND_A_PROXY}[limits]\nlogin_failures = \"1000/5m\"\n");
    let a = Setup::new(Database::postgres()).config(&common).ldap("lab", &ldap, "").start().await;
    let b = Setup::beside(&a).config(&common).ldap("lab", &ldap, "").start().await;
    let client = a.client_add(&PASSWORD).await;
    let person = ldap.add_person(&[]);
    from(&a, &client, HOME, &person.uid, &person.password).await.ok();
    let statuses = storm([&a, &b], &client, &person.uid).await;
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 3, "{statuses:?}");
    assert_eq!(counted(&ldap, &person.dn), 3);
    unlocked(&ldap, &person.dn);
    // Known on the one, it is known on the other.
    from(&b, &client, HOME, &person.uid, &person.password).await.ok();
    from(&a, &client, HOME, &person.uid, "the old password").await.refused(400, "invalid_grant");
    from(&b, &client, HOME, &person.uid, "the old password").await.refused(400, "invalid_grant");
    assert_eq!(counted(&ldap, &person.dn), 1);
    ldap.delete(&person.dn);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_active_directory_that_locks_after_three_is_not_led_there() {
    let samba = Samba::shared();
    let common = format!("{BEHIND_A_PROXY}[limits]\nlogin_failures = \"1000/5m\"\n");
    let source = "lockout_threshold = 3";
    let a = Setup::new(Database::postgres()).config(&common).active_directory("ad", &samba, source).start().await;
    let b = Setup::beside(&a).config(&common).active_directory("ad", &samba, source).start().await;
    let client = a.client_add(&PASSWORD).await;
    let person = samba.add_person(&[]);
    from(&a, &client, HOME, &person.name, &person.password).await.ok();
    assert_eq!(guesses(&a, &client, &[&person.name, &person.upn], 1..4).await, [400, 429, 429]);
    assert!(storm([&a, &b], &client, &person.upn).await.iter().all(|status| *status == 429));
    let state = samba.read(&person.dn, &["badPwdCount", "lockoutTime"]);
    assert!(state.contains("badPwdCount: 1\n") && !state.replace("lockoutTime: 0\n", "").contains("lockoutTime"), "{state}");
    // One slip of the person's own is left, and then the directory would lock: so here it ends too.
    from(&b, &client, HOME, &person.upn, "a slip").await.refused(400, "invalid_grant");
    from(&a, &client, HOME, &person.name, &person.password).await.refused(429, "temporarily_unavailable");
    let state = samba.read(&person.dn, &["badPwdCount", "lockoutTime"]);
    assert!(state.contains("badPwdCount: 2\n") && !state.replace("lockoutTime: 0\n", "").contains("lockoutTime"), "{state}");
    samba.delete(&person.dn);
}
