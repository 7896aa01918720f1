//! The directory is gone for longer: a client with an `offline_policy` still refreshes its people, for a while, with less; everybody
//! else is told to come back.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Database, Ldap, Proxy, Server, Setup, eventually, on_both_databases};

const APP: [&str; 6] = ["--grant", "password", "--grant", "refresh_token", "--scope", "read"];
/// Longer than a breaker stays open.
const SOON: Duration = Duration::from_secs(60);

/// A server whose directory is behind a proxy, and a person who is in every group.
struct Ground {
    ldap: Ldap,
    proxy: Proxy,
    server: Server,
    uid: String,
    dn: String,
    builders: String,
}

impl Ground {
    async fn new(database: Database) -> Ground {
        Ground::with_another(database, None).await
    }

    /// The directory has a second server.
    async fn with_another(database: Database, another: Option<&Proxy>) -> Ground {
        let ldap = Ldap::shared();
        let proxy = Proxy::to(&ldap.tls_address());
        let [builders, operators] = [(); 2].map(|()| ldap.add_group(&[Ldap::SERVICE_DN]));
        let mapping = format!(
            "[mapping]\ndefaults.corp = [\"user\"]\n\
             [[mapping.rule]]\nid = \"builders\"\nmatch.dn = {:?}\nroles = [\"builder\"]\n\
             [[mapping.rule]]\nid = \"operators\"\nmatch.dn = {:?}\nroles = [\"countersign:admin\", \"operator\"]\nprivileged = true\n",
            Ldap::group_dn(&builders),
            Ldap::group_dn(&operators),
        );
        let urls: Vec<String> =
            [Some(&proxy), another].into_iter().flatten().map(|at| format!("ldaps://127.0.0.1:{}", at.port())).collect();
        let source = format!("urls = {urls:?}\nconnect_timeout = \"1s\"\noperation_timeout = \"1s\"\nlogin_deadline = \"3s\"\n");
        let server = Setup::new(database).ldap("corp", &ldap, &source).config(&mapping).start().await;
        let person = ldap.add_person(&[&builders, &operators]);
        Ground { ldap, proxy, server, uid: person.uid, dn: person.dn, builders }
    }

    async fn client(&self, more: &[&str]) -> Client {
        self.server.client_add(&[&APP[..], more].concat()).await
    }

    async fn sign_in(&self, client: &Client) -> Answer {
        let answer = self.server.sign_in(client, &self.uid, &format!("pw-{}", self.uid)).await;
        answer.ok();
        answer
    }

    /// Refreshes until it is granted, by whatever rules.
    async fn refreshed(&self, client: &Client, token: &str) -> Answer {
        let mut granted = None;
        eventually(SOON, "a refresh is not granted", async || {
            let answer = self.server.refresh(client, token).await;
            if answer.status != 200 {
                answer.unavailable();
                return false;
            }
            granted = Some(answer);
            true
        })
        .await;
        granted.unwrap()
    }

    /// Refreshes until the source is asked again; answers that one.
    async fn refreshed_by_the_source(&self, client: &Client, token: &str) -> Answer {
        let (mut token, mut found) = (token.to_owned(), None);
        eventually(SOON, "the source is back and is not asked", async || {
            let answer = self.refreshed(client, &token).await;
            token = answer.text("refresh_token");
            let stale = self.server.introspect(client, &answer.access_token()).await.ok()["groups_stale"] == true;
            found = Some(answer);
            !stale
        })
        .await;
        found.unwrap()
    }
}

fn payload(jwt: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

on_both_databases! {
    async fn within_the_grace_the_last_good_groups_count(database) {
        let ground = Ground::new(database).await;
        let app = ground.client(&["--offline-grace", "4h", "--offline-access-lifetime", "2m"]).await;
        let jwt = ["--offline-grace", "4h", "--token-format", "jwt", "--jwt-claim", "roles", "--jwt-claim", "groups", "--role-ceiling", "u*", "--role-ceiling", "countersign:*"];
        let (jwt, none) = (ground.client(&jwt).await, ground.client(&[]).await);
        let (held, of_jwt, of_none) = (ground.sign_in(&app).await, ground.sign_in(&jwt).await, ground.sign_in(&none).await);
        let before = ground.server.introspect(&app, &held.access_token()).await;
        assert_eq!(before.roles(), ["builder", "countersign:admin", "operator", "user"]);
        assert_eq!(before.json["groups_stale"], Value::Null);

        ground.proxy.stop();
        let offline = ground.refreshed(&app, &held.text("refresh_token")).await;
        assert!(offline.json["expires_in"].as_i64().unwrap() <= 120, "{}", offline.body);
        let meaning = ground.server.introspect(&app, &offline.access_token()).await;
        assert_eq!(meaning.roles(), ["builder", "user"], "nothing of a privileged rule");
        assert_eq!(meaning.json["groups_stale"], true);
        for member in ["identity_checked_at", "auth_time", "username", "sub", "grant_id"] {
            assert_eq!(meaning.json[member], before.json[member], "{member}");
        }
        // Again and again, within the grace.
        let again = ground.refreshed(&app, &offline.text("refresh_token")).await;
        assert_eq!(ground.server.introspect(&app, &again.access_token()).await.json["identity_checked_at"], before.json["identity_checked_at"]);
        let said = payload(&ground.refreshed(&jwt, &of_jwt.text("refresh_token")).await.access_token());
        assert_eq!((&said["groups_stale"], &said["roles"]), (&json!(true), &json!(["user"])), "under the ceiling of its client: {said}");
        assert_eq!(said["groups"], Value::Null, "none, since some are of privileged rules: {said}");
        assert!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap() <= 300, "{said}");
        // Who has no policy hears 503 all the time, and so does who signs in.
        ground.server.refresh(&none, &of_none.text("refresh_token")).await.unavailable();
        ground.server.sign_in(&app, &ground.uid, "whatever").await.unavailable();
        let offline = ground.server.rows("SELECT DISTINCT outcome, source FROM audit_records WHERE event = 'refreshed_offline'");
        assert_eq!(offline, ["ok|corp"]);
        assert_eq!(ground.server.rows("SELECT DISTINCT dead FROM refresh_families").len(), 1);

        // The source is back: what it says counts, privileged roles too.
        ground.ldap.leave(&ground.builders, &ground.dn);
        ground.proxy.resume();
        let back = ground.refreshed_by_the_source(&app, &again.text("refresh_token")).await;
        let meaning = ground.server.introspect(&app, &back.access_token()).await;
        assert_eq!(meaning.roles(), ["countersign:admin", "operator", "user"]);
        assert!(meaning.json["identity_checked_at"].as_i64() >= before.json["identity_checked_at"].as_i64());
        assert!(back.json["expires_in"].as_i64().unwrap() > 120, "{}", back.body);
        ground.refreshed(&none, &of_none.text("refresh_token")).await;
        ground.ldap.delete(&ground.dn);
    }

    async fn one_of_two_servers_is_enough_to_be_asked(database) {
        let second = Proxy::to(&Ldap::shared().tls_address());
        let ground = Ground::with_another(database, Some(&second)).await;
        let app = ground.client(&["--offline-grace", "1h"]).await;
        let mut token = ground.sign_in(&app).await.text("refresh_token");
        ground.ldap.leave(&ground.builders, &ground.dn);
        ground.proxy.stop();
        for _ in 0..5 {
            let answer = ground.refreshed(&app, &token).await;
            token = answer.text("refresh_token");
            let meaning = ground.server.introspect(&app, &answer.access_token()).await;
            assert_eq!((meaning.roles(), &meaning.json["groups_stale"]), (["countersign:admin", "operator", "user"].map(str::to_owned).to_vec(), &Value::Null));
        }
        assert!(second.connections() > 0);
        assert!(ground.server.rows("SELECT id FROM audit_records WHERE event = 'refreshed_offline'").is_empty());

        second.stop();
        let offline = ground.refreshed(&app, &token).await;
        let meaning = ground.server.introspect(&app, &offline.access_token()).await;
        assert_eq!((meaning.roles(), &meaning.json["groups_stale"]), (vec!["user".to_owned()], &json!(true)));
        second.resume();
        let back = ground.refreshed_by_the_source(&app, &offline.text("refresh_token")).await;
        assert_eq!(ground.server.introspect(&app, &back.access_token()).await.roles(), ["countersign:admin", "operator", "user"]);
        ground.ldap.delete(&ground.dn);
    }

    async fn recorded_groups_that_a_rule_of_today_denies_are_not_enough(database) {
        let mut ground = Ground::new(database).await;
        let app = ground.client(&["--offline-grace", "1h"]).await;
        let denied = ground.sign_in(&app).await.text("refresh_token");
        let other = ground.ldap.add_person(&[]);
        let mut admitted = ground.server.sign_in(&app, &other.uid, &other.password).await.text("refresh_token");
        ground.proxy.stop();
        let denied = ground.refreshed(&app, &denied).await.text("refresh_token");

        let rule = "[[mapping.rule]]\nid = \"operators\"";
        let deny = format!("[[mapping.deny]]\nid = \"no-builders\"\nmatch.dn = {:?}\neffect = \"login\"\n{rule}", Ldap::group_dn(&ground.builders));
        ground.server.edit_config(rule, &deny);
        ground.server.restart().await;
        for _ in 0..3 {
            // Somebody else is refreshed, so the source is known to be gone.
            admitted = ground.refreshed(&app, &admitted).await.text("refresh_token");
            ground.server.refresh(&app, &denied).await.unavailable();
        }
        assert_eq!(ground.server.rows("SELECT DISTINCT dead FROM refresh_families").len(), 1, "only the source may end it");

        ground.proxy.resume();
        eventually(SOON, "the source is back and nobody notices", async || {
            let answer = ground.server.refresh(&app, &denied).await;
            if answer.status != 400 {
                answer.unavailable();
            }
            answer.status == 400
        })
        .await;
        assert_eq!(ground.server.rows("SELECT DISTINCT reason FROM audit_records WHERE event = 'refresh_refused'"), ["denied_by_mapping"]);
        for dn in [&ground.dn, &other.dn] {
            ground.ldap.delete(dn);
        }
    }

    async fn after_the_grace_it_is_503_and_the_refresh_token_stays_good(database) {
        let ground = Ground::new(database).await;
        let app = ground.client(&["--offline-grace", "4s"]).await;
        let held = ground.sign_in(&app).await;
        ground.proxy.stop();
        let mut token = held.text("refresh_token");
        eventually(SOON, "the grace never ends", async || {
            let answer = ground.server.refresh(&app, &token).await;
            if answer.status == 200 {
                let left = ground.server.introspect(&app, &answer.access_token()).await;
                let (exp, checked) = (left.json["exp"].as_i64(), left.json["identity_checked_at"].as_i64());
                assert!(left.json["active"] == false || exp.unwrap() <= checked.unwrap() + 4, "it outlives the grace: {}", left.body);
                token = answer.text("refresh_token");
                return false;
            }
            answer.unavailable();
            let age = ground.server.rows("SELECT identity_checked_at FROM grants")[0].parse::<i64>().unwrap() + 4;
            countersign::clock::Clock::System.now() >= age
        })
        .await;
        ground.server.refresh(&app, &token).await.unavailable();
        ground.proxy.resume();
        let back = ground.refreshed(&app, &token).await;
        assert_eq!(ground.server.introspect(&app, &back.access_token()).await.json["groups_stale"], Value::Null);
        ground.ldap.delete(&ground.dn);
    }

    async fn who_left_meanwhile_ends_when_the_source_is_back(database) {
        let ground = Ground::new(database).await;
        let app = ground.client(&["--offline-grace", "1h"]).await;
        let strict = ground.client(&["--introspect", "any", "--identity-max-age", "1s"]).await;
        let held = ground.sign_in(&app).await;
        ground.proxy.stop();
        ground.ldap.delete(&ground.dn);
        let offline = ground.refreshed(&app, &held.text("refresh_token")).await;
        assert!(ground.server.is_active(&app, &offline.access_token()).await);
        // Who bounds the age of an identity is not content with stale groups.
        eventually(SOON, "groups that are too old", async || ground.server.introspect(&strict, &offline.access_token()).await.status == 503).await;

        ground.proxy.resume();
        let mut token = offline.text("refresh_token");
        eventually(SOON, "the source is back and nobody notices", async || {
            let answer = ground.server.refresh(&app, &token).await;
            if answer.status == 200 {
                token = answer.text("refresh_token");
            }
            answer.status == 400
        })
        .await;
        assert!(!ground.server.is_active(&app, &offline.access_token()).await, "what was granted offline ends too");
        assert_eq!(ground.server.rows("SELECT DISTINCT reason FROM audit_records WHERE event = 'refresh_refused'"), ["unknown_user"]);
    }

    async fn what_is_revoked_here_is_not_granted_offline(database) {
        let ground = Ground::new(database).await;
        let app = ground.client(&["--offline-grace", "1h"]).await;
        let (first, second) = (ground.sign_in(&app).await, ground.sign_in(&app).await);
        ground.proxy.stop();
        let offline = ground.refreshed(&app, &first.text("refresh_token")).await;
        let grant = ground.server.introspect(&app, &offline.access_token()).await.text("grant_id");
        ground.server.cli(&["revoke", "--grant", &grant]).await.ok();
        ground.server.refresh(&app, &offline.text("refresh_token")).await.refused(400, "invalid_grant");
        ground.server.cli(&["user", "disable", &ground.uid]).await.ok();
        ground.server.refresh(&app, &second.text("refresh_token")).await.refused(400, "invalid_grant");
        ground.ldap.delete(&ground.dn);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_answers_is_not_gone() {
    let mut ground = Ground::new(Database::sqlite()).await;
    let app = ground.client(&["--offline-grace", "1h"]).await;
    let held = ground.sign_in(&app).await;
    // Somebody moved the people elsewhere: the service account finds no base, which is a mistake of ours and says nothing about anybody.
    ground.server.edit_config("ou=people,", "ou=moved,");
    ground.server.restart().await;
    for _ in 0..3 {
        ground.server.refresh(&app, &held.text("refresh_token")).await.unavailable();
    }
    ground.server.edit_config("ou=moved,", "ou=people,");
    ground.server.restart().await;
    let back = ground.refreshed(&app, &held.text("refresh_token")).await;
    assert_eq!(ground.server.introspect(&app, &back.access_token()).await.json["groups_stale"], Value::Null);
    assert!(ground.server.rows("SELECT id FROM audit_records WHERE event = 'refreshed_offline'").is_empty());
    ground.ldap.delete(&ground.dn);
}
