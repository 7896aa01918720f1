//! A resource server that bounds the age of what it is told about people (`identity_max_age`): whoever leaves is gone within it, one
//! question to the source serves all who ask, and what cannot be known is 503.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign::clock::Clock;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Database, Ldap, Oidc, Proxy, Server, Setup, eventually, on_both_databases};

const APP: [&str; 6] = ["--grant", "password", "--grant", "refresh_token", "--scope", "read"];
/// Longer than any step of a story takes.
const SOON: Duration = Duration::from_secs(30);
const IMPATIENT: &str = "connect_timeout = \"1s\"\noperation_timeout = \"2s\"\nlogin_deadline = \"3s\"\n";

/// A house with an application and two resource servers: one that bounds the age of an identity, and one that does not.
struct House {
    server: Server,
    app: Client,
    strict: Client,
    easy: Client,
}

impl House {
    async fn new(setup: Setup, max_age: &str) -> House {
        let server = setup.start().await;
        let app = server.client_add(&APP).await;
        let strict = server.client_add(&["--introspect", "any", "--identity-max-age", max_age]).await;
        let easy = server.client_add(&["--introspect", "any"]).await;
        House { server, app, strict, easy }
    }

    /// What the strict one hears.
    async fn ask(&self, token: &str) -> Answer {
        self.server.introspect(&self.strict, token).await
    }

    async fn goes_inactive(&self, token: &str) {
        eventually(SOON, "the strict resource server still sees an active token", async || self.ask(token).await.ok()["active"] == false)
            .await;
    }

    /// Waits until what is known of the token's person is too old for an answer without a look.
    async fn grows_old(&self, token: &str, seconds: i64) {
        let at = self.server.introspect(&self.easy, token).await.ok()["identity_checked_at"].as_i64().unwrap();
        eventually(SOON, "the clock stands", async || Clock::System.now() > at + seconds).await;
    }
}

fn mapping(group: &str) -> String {
    format!(
        "[mapping]\ndefaults.corp = [\"user\"]\n[[mapping.rule]]\nid = \"builders\"\nsource = \"corp\"\nmatch.dn = {:?}\nroles = [\"builder\"]\n",
        Ldap::group_dn(group)
    )
}

fn checked_at(answer: &Answer) -> i64 {
    answer.ok()["identity_checked_at"].as_i64().unwrap_or_else(|| panic!("no identity_checked_at in {}", answer.body))
}

/// Passes plain LDAP on, counts the searches for a person by subject, and holds them back when told to.
struct Ear {
    port: u16,
    searches: Arc<AtomicUsize>,
    held: Arc<AtomicBool>,
}

impl Ear {
    fn before(ldap: &Ldap) -> Ear {
        let target = ldap.url().trim_start_matches("ldap://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ear = Ear { port: listener.local_addr().unwrap().port(), searches: Arc::default(), held: Arc::default() };
        let (searches, held) = (ear.searches.clone(), ear.held.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&target).unwrap();
                let (back, up) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (searches, held) = (searches.clone(), held.clone());
                std::thread::spawn(move || {
                    pump(client, server, |bytes| {
                        // An equality match: the attribute, then a value of 36 characters. One request is one segment on loopback.
                        let found = bytes.windows(11).filter(|window| *window == b"entryUUID\x04\x24").count();
                        searches.fetch_add(found, Ordering::SeqCst);
                        while held.load(Ordering::SeqCst) {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    })
                });
                std::thread::spawn(move || pump(back, up, |_| {}));
            }
        });
        ear
    }

    /// The directory behind it as the source `corp`.
    fn source(&self, setup: Setup, ldap: &Ldap) -> Setup {
        let more = format!("urls = [\"ldap://127.0.0.1:{}\"]\ntls = \"none\"\ninsecure_plaintext = true\n", self.port);
        let section = ldap.section("corp", "corp.password", &more);
        let plain: Vec<_> = section.lines().filter(|line| !line.starts_with("ca_file")).collect();
        setup.file("corp.password", Ldap::SERVICE_PASSWORD).config(&plain.join("\n"))
    }

    fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    fn searches(&self) -> usize {
        self.searches.load(Ordering::SeqCst)
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, mut hear: impl FnMut(&[u8])) {
    let mut buffer = [0u8; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        hear(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

on_both_databases! {
    async fn who_leaves_the_directory_is_inactive_within_it(database) {
        let ldap = Ldap::shared();
        let filter = "user_filter = \"(&(objectClass=inetOrgPerson)(!(employeeType=gone)))\"";
        let house = House::new(Setup::new(database).ldap("corp", &ldap, filter), "1s").await;
        let leave = [
            ("unknown_user", "delete"),
            ("unknown_user", "modify\nadd: employeeType\nemployeeType: gone"),
            ("locked", "modify\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z"),
        ];
        let mut reasons = Vec::new();
        for (reason, change) in leave {
            let person = ldap.add_person(&[]);
            let held = house.server.sign_in(&house.app, &person.uid, &person.password).await;
            let token = held.access_token();
            assert_eq!(house.ask(&token).await.ok()["active"], true, "{reason}");
            ldap.modify(&format!("dn: {}\nchangetype: {change}\n", person.dn));
            assert!(house.server.is_active(&house.easy, &token).await, "{reason}: without the bound, until somebody looks");
            house.goes_inactive(&token).await;
            // What the look found was written down: it holds for everybody.
            assert!(!house.server.is_active(&house.easy, &token).await, "{reason}");
            house.server.refresh(&house.app, &held.text("refresh_token")).await.refused(400, "invalid_grant");
            reasons.push(reason.to_owned());
            assert_eq!(house.server.rows("SELECT reason FROM audit_records WHERE event = 'recheck_refused' ORDER BY id"), reasons);
        }
        assert_eq!(house.server.rows("SELECT DISTINCT dead FROM refresh_families").len(), 1, "every family has ended");
    }

    async fn whom_the_mapping_denies_is_inactive_within_it(database) {
        let ldap = Ldap::shared();
        let banned = ldap.add_group(&[Ldap::SERVICE_DN]);
        let deny = format!("[[mapping.deny]]\nid = \"banned\"\nmatch.dn = {:?}\neffect = \"login\"\n", Ldap::group_dn(&banned));
        let house = House::new(Setup::new(database).ldap("corp", &ldap, "").config(&deny), "1s").await;
        let person = ldap.add_person(&[]);
        let held = house.server.sign_in(&house.app, &person.uid, &person.password).await;
        let token = held.access_token();
        assert_eq!(house.ask(&token).await.ok()["active"], true);
        ldap.join(&banned, &person.dn);
        house.goes_inactive(&token).await;
        assert!(!house.server.is_active(&house.easy, &token).await, "what the look found holds for everybody");
        house.server.refresh(&house.app, &held.text("refresh_token")).await.refused(400, "invalid_grant");
        assert_eq!(house.server.rows("SELECT reason FROM audit_records WHERE event = 'recheck_refused'"), ["denied_by_mapping"]);
        ldap.delete(&person.dn);
    }

    async fn a_group_that_is_left_takes_its_roles_along(database) {
        let ldap = Ldap::shared();
        let group = ldap.add_group(&[Ldap::SERVICE_DN]);
        let config = format!("{}[scope.build]\nrequires_role = \"builder\"\n", mapping(&group));
        let house = House::new(Setup::new(database).ldap("corp", &ldap, "").config(&config), "1s").await;
        let jwt = house.server.client_add(&[&APP[..], &["--scope", "build", "--token-format", "jwt", "--jwt-claim", "groups"]].concat()).await;
        let person = ldap.add_person(&[&group]);
        let opaque = house.server.sign_in(&house.app, &person.uid, &person.password).await.access_token();
        let jwt = house.server.sign_in(&jwt, &person.uid, &person.password).await.access_token();
        for token in [&opaque, &jwt] {
            assert_eq!(house.ask(token).await.roles(), ["builder", "user"]);
        }
        ldap.leave(&group, &person.dn);
        for token in [&opaque, &jwt] {
            eventually(SOON, "the role stays", async || house.ask(token).await.roles() == ["user"]).await;
            let answer = house.ask(token).await;
            assert!(checked_at(&answer) > answer.json["iat"].as_i64().unwrap(), "{}", answer.body);
            assert!(answer.json["cache_for"].as_i64().unwrap() <= 1, "{}", answer.body);
            assert_eq!(answer.text("username"), person.uid);
        }
        // The scope goes with its role, and the group from those that the JWT lists.
        let told = async || house.ask(&jwt).await;
        assert_eq!((told().await.text("scope"), &told().await.json["groups"]), ("read".to_owned(), &json!([])));
        ldap.join(&group, &person.dn);
        for token in [&opaque, &jwt] {
            eventually(SOON, "the role does not come back", async || house.ask(token).await.roles() == ["builder", "user"]).await;
        }
        let back = told().await;
        assert_eq!((back.text("scope").split(' ').count(), &back.json["groups"]), (2, &json!([Ldap::group_dn(&group)])), "{}", back.body);
        // Never more than what was issued: a token from before a promotion does not grow.
        let later = ldap.add_person(&[]);
        let token = house.server.sign_in(&house.app, &later.uid, &later.password).await.access_token();
        ldap.join(&group, &later.dn);
        house.grows_old(&token, 1).await;
        assert_eq!(house.ask(&token).await.roles(), ["user"]);
        for person in [person, later] {
            ldap.delete(&person.dn);
        }
    }

    async fn fifty_who_ask_at_once_cause_one_search(database) {
        let ldap = Ldap::shared();
        let ear = Ear::before(&ldap);
        let house = House::new(ear.source(Setup::new(database), &ldap), "2s").await;
        let person = ldap.add_person(&[]);
        // Two sign-ins are two grants of one person.
        let sign_in = async || house.server.sign_in(&house.app, &person.uid, &person.password).await.access_token();
        let tokens = [sign_in().await, sign_in().await];
        house.grows_old(&tokens[1], 2).await;
        assert_eq!(ear.searches(), 0, "a sign-in searches by name");
        // Held back at the directory, so that all of them ask while the question is under way.
        ear.hold(true);
        let ask = async || join_all((0..50).map(|n| house.ask(&tokens[n % 2]))).await;
        let release = async {
            eventually(SOON, "nobody asks the directory", async || ear.searches() > 0).await;
            ear.hold(false);
        };
        let (answers, ()) = tokio::join!(ask(), release);
        for answer in &answers {
            assert_eq!(answer.ok()["active"], true);
        }
        assert_eq!(ear.searches(), 1, "one question for fifty callers and two grants");
        ldap.delete(&person.dn);
    }

    async fn who_asks_often_does_not_wait(database) {
        let ldap = Ldap::shared();
        let ear = Ear::before(&ldap);
        let house = House::new(ear.source(Setup::new(database), &ldap), "8s").await;
        let token = house.server.sign_in(&house.app, "alice", "pw-alice").await.access_token();
        let before = house.server.rows("SELECT identity_checked_at FROM grants");
        // In the last quarter the answer is still the old one, and somebody looks meanwhile.
        house.grows_old(&token, 6).await;
        let answer = house.ask(&token).await;
        assert!(answer.ok()["active"] == true && answer.json["cache_for"].as_i64().unwrap() <= 1, "{}", answer.body);
        eventually(SOON, "nobody looks", async || house.server.rows("SELECT identity_checked_at FROM grants") != before).await;
        assert!(checked_at(&house.ask(&token).await) > checked_at(&answer) || ear.searches() == 1);
    }

    async fn what_cannot_be_reached_is_503_for_who_bounds_it_alone(database) {
        let ldap = Ldap::shared();
        let proxy = Proxy::to(&ldap.tls_address());
        let urls = format!("{IMPATIENT}urls = [\"ldaps://127.0.0.1:{}\"]\n", proxy.port());
        let house = House::new(Setup::new(database).ldap("corp", &ldap, &urls), "1s").await;
        for break_it in [Proxy::stop, Proxy::hang] {
            let mut held = None;
            eventually(SOON, "nobody is let in", async || {
                let answer = house.server.sign_in(&house.app, "alice", "pw-alice").await;
                let served = answer.status == 200;
                held = Some(answer);
                served
            })
            .await;
            let held = held.unwrap();
            let token = held.access_token();
            house.ask(&token).await.ok();
            break_it(&proxy);
            house.grows_old(&token, 2).await;
            // Both at once: the one waits for the directory, the other does not.
            let (strict, easy) = tokio::join!(house.ask(&token), house.server.is_active(&house.easy, &token));
            strict.unavailable();
            assert!(easy, "who does not bound it is not held up");
            house.ask(&token).await.unavailable();
            assert_eq!(house.server.introspect(&house.strict, "no token").await.ok(), &json!({ "active": false }));
            assert_eq!(house.server.rows("SELECT DISTINCT dead FROM refresh_families").len(), 1);
            assert!(house.server.rows("SELECT id FROM audit_records WHERE event = 'recheck_refused'").is_empty(), "nothing was decided");
            proxy.resume();
            eventually(SOON, "the directory is back and nobody notices", async || house.ask(&token).await.status == 200).await;
            assert_eq!(house.ask(&token).await.text("username"), "alice");
            house.server.refresh(&house.app, &held.text("refresh_token")).await.ok();
        }
    }

    async fn what_is_revoked_during_a_look_stays_revoked(database) {
        let ldap = Ldap::shared();
        let ear = Ear::before(&ldap);
        let house = House::new(ear.source(Setup::new(database), &ldap), "1s").await;
        let token = house.server.sign_in(&house.app, "alice", "pw-alice").await.access_token();
        let grant = house.server.introspect(&house.easy, &token).await.text("grant_id");
        house.grows_old(&token, 1).await;
        let before = house.server.rows("SELECT identity_checked_at, rv FROM grants");
        ear.hold(true);
        let revoke = async {
            eventually(SOON, "nobody asks the directory", async || ear.searches() > 0).await;
            house.server.cli(&["revoke", "--grant", &grant]).await.ok();
            ear.hold(false);
        };
        let (answer, ()) = tokio::join!(house.ask(&token), revoke);
        assert_eq!(answer.ok(), &json!({ "active": false }));
        assert_eq!(house.server.rows("SELECT identity_checked_at, rv FROM grants"), before, "a grant that is over is left alone");
        assert!(!house.server.is_active(&house.easy, &token).await);
    }

    async fn local_accounts_and_clients_themselves(database) {
        let house = House::new(Setup::new(database), "1s").await;
        let password = "a lamp beside 7 green doors";
        house.server.user_add("anna", password, &["--role", "reader"]).await;
        let machine = house.server.client_add(&["--grant", "client_credentials", "--role", "service"]).await;
        let own = house.server.own_token(&machine).await;
        let token = house.server.sign_in(&house.app, "anna", password).await.access_token();
        let first = checked_at(&house.ask(&token).await);
        house.grows_old(&token, 1).await;
        let answer = house.ask(&token).await;
        assert!(checked_at(&answer) > first && answer.roles() == ["reader"], "{}", answer.body);
        let answer = house.ask(&own).await;
        assert_eq!((answer.roles(), &answer.json["identity_checked_at"]), (vec!["service".to_owned()], &Value::Null), "{}", answer.body);
        house.server.cli(&["user", "disable", "anna"]).await.ok();
        house.goes_inactive(&token).await;
    }

    async fn a_source_that_cannot_be_asked_again_is_inactive_past_it(database) {
        let okta = Oidc::issuer().await;
        let house = House::new(Setup::new(database).okta("okta", &okta, ""), "8s").await;
        let exchange = house.server.client_add(&["--grant", "urn:ietf:params:oauth:grant-type:token-exchange", "--scope", "read"]).await;
        let token = house.server.exchange(&exchange, &okta.mint("alice").await, &[]).await.access_token();
        assert!(checked_at(&house.ask(&token).await) > 0);
        // What an id token says is as old as the token, not as its exchange.
        let iat = Clock::System.now() - 60;
        let old = okta.mint_with(json!({"account": "alice", "claims": {"iat": iat}})).await;
        let old = house.server.exchange(&exchange, &old, &[]).await.access_token();
        assert_eq!(checked_at(&house.server.introspect(&house.easy, &old).await), iat);
        assert_eq!(house.ask(&old).await.ok(), &json!({ "active": false }));
        house.goes_inactive(&token).await;
        assert!(house.server.is_active(&house.easy, &token).await, "it was not revoked: nobody said no");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_share_a_look_through_the_database() {
    const COMMON: &str = "[server]\nissuer = \"https://tokens.example\"\n";
    let ldap = Ldap::shared();
    let proxy = Proxy::to(&ldap.tls_address());
    let urls = format!("{IMPATIENT}urls = [\"ldaps://127.0.0.1:{}\"]\n", proxy.port());
    let house = House::new(Setup::new(Database::postgres()).config(COMMON).ldap("corp", &ldap, ""), "4s").await;
    let other = Setup::beside(&house.server).config(COMMON).ldap("corp", &ldap, &urls).start().await;
    let token = house.server.sign_in(&house.app, "alice", "pw-alice").await.access_token();
    // The other node has no directory of its own.
    proxy.stop();
    house.grows_old(&token, 4).await;
    other.introspect(&house.strict, &token).await.unavailable();
    eventually(SOON, "the look of one node does not help the other", async || {
        let (here, there) = (house.ask(&token).await, other.introspect(&house.strict, &token).await);
        there.status == 200 && checked_at(&here) == checked_at(&there)
    })
    .await;
    // And what one node finds out ends it on both.
    let person = ldap.add_person(&[]);
    let token = house.server.sign_in(&house.app, &person.uid, &person.password).await.access_token();
    ldap.delete(&person.dn);
    house.goes_inactive(&token).await;
    eventually(Duration::from_secs(1), "the other node still sees it", async || !other.is_active(&house.easy, &token).await).await;
}
