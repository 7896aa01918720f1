//! Revoked by what it rests on: a group, a rule, a session at the provider. What rests on it ends, whatever else the person has; what does
//! not lives on; and no sign-in that is under way slips through.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Answer, Client, Database, Ldap, Oidc, Proxy, Server, Setup, eventually, on_both_databases, within_a_second};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const APP: [&str; 8] = ["--grant", "password", "--grant", "refresh_token", "--grant", EXCHANGE, "--scope", "read"];
/// A sign-in shall wait for as long as a story holds the directory.
const PATIENT: &str = "connect_timeout = \"20s\"\noperation_timeout = \"20s\"\nlogin_deadline = \"25s\"\ngroup_cache = \"1ms\"\n";

/// `builders` has the role builder by a rule; `staff` lets people in and gives nothing.
struct House {
    server: Server,
    client: Client,
    builders: String,
    staff: String,
}

impl House {
    async fn new(database: Database, ldap: &Ldap, source: &str) -> House {
        let (builders, staff) = (ldap.add_group(&[Ldap::SERVICE_DN]), ldap.add_group(&[Ldap::SERVICE_DN]));
        let mapping = format!(
            "[mapping]\nrequire_any = [\"dn:{}\", \"dn:{}\"]\n\
             [[mapping.rule]]\nid = \"builders\"\nmatch.dn = {:?}\nroles = [\"builder\"]\n\
             [[mapping.deny]]\nid = \"nobody\"\nmatch.dn = \"cn=nobody,dc=lab,dc=test\"\n",
            Ldap::group_dn(&builders),
            Ldap::group_dn(&staff),
            Ldap::group_dn(&builders),
        );
        let server = Setup::new(database).ldap("corp", ldap, source).config(&mapping).start().await;
        let client = server.client_add(&APP).await;
        House { server, client, builders, staff }
    }

    async fn revoke(&self, arguments: &[&str]) -> String {
        self.server.cli(&[&["revoke"], arguments].concat()).await.ok()
    }

    async fn ends(&self, held: &Held) {
        within_a_second("what rests on it is inactive", async || !self.server.is_active(&self.client, &held.access).await).await;
        self.server.refresh(&self.client, &held.refresh).await.refused(400, "invalid_grant");
    }

    /// Alive in both tokens. Spends the refresh token.
    async fn lives(&self, held: &Held) -> Held {
        assert!(self.server.is_active(&self.client, &held.access).await);
        Held::of(&self.server.refresh(&self.client, &held.refresh).await)
    }

    async fn sign_in(&self, uid: &str) -> Held {
        Held::of(&self.server.sign_in(&self.client, uid, &format!("pw-{uid}")).await)
    }
}

struct Held {
    access: String,
    refresh: String,
}

impl Held {
    fn of(answer: &Answer) -> Held {
        Held { access: answer.access_token(), refresh: answer.text("refresh_token") }
    }
}

on_both_databases! {
    async fn a_group_takes_what_it_gave_and_whom_it_let_in(database) {
        let ldap = Ldap::shared();
        let house = House::new(database, &ldap, "").await;
        // A builder by way of a group within the group, a mere member of the staff, and one who is both.
        let crew = ldap.add_group(&[Ldap::SERVICE_DN]);
        ldap.join(&house.builders, &Ldap::group_dn(&crew));
        let people = [ldap.add_person(&[&crew]), ldap.add_person(&[&house.staff]), ldap.add_person(&[&house.staff, &house.builders])];
        let [builder, member, both] = [house.sign_in(&people[0].uid).await, house.sign_in(&people[1].uid).await, house.sign_in(&people[2].uid).await];

        // As another tool would write the name.
        let shouted = Ldap::group_dn(&crew).to_uppercase().replace(',', ", ");
        let said = house.revoke(&["--group", &shouted, "--dry-run"]).await;
        assert!(said.contains(": 1 sign-in would be ended; nothing was written"), "{said}");
        let builder = house.lives(&builder).await;
        let said = house.revoke(&["--group", &shouted]).await;
        assert!(said.contains(&format!("revoked group cn={crew},ou=groups,dc=lab,dc=test: 1 sign-in ended, revocation ")), "{said}");
        house.ends(&builder).await;
        let (member, both) = (house.lives(&member).await, house.lives(&both).await);

        let said = house.revoke(&["--group", &Ldap::group_dn(&house.staff)]).await;
        assert!(said.contains("2 sign-ins ended"), "{said}");
        house.ends(&member).await;
        house.ends(&both).await;
        assert!(house.revoke(&["--group", &Ldap::group_dn(&house.staff)]).await.contains(": 0 sign-ins ended"));

        // It is about what was issued, not about the group: whoever is still in it signs in anew.
        let again = house.sign_in(&people[0].uid).await;
        assert_eq!(house.server.introspect(&house.client, &again.access).await.roles(), ["builder"]);
        house.lives(&again).await;
        let audit = house.server.rows("SELECT detail FROM audit_records WHERE event = 'revoked'");
        let both = |row: &String| row.contains("\"sign_ins\":2") && row.contains("\"refresh_families\":2") && row.contains(&house.staff);
        assert!(audit.len() == 3 && audit.iter().any(both), "{audit:?}");
        people.iter().for_each(|person| ldap.delete(&person.dn));
    }

    async fn a_rule_takes_what_it_gave(database) {
        let ldap = Ldap::shared();
        let house = House::new(database, &ldap, "").await;
        let people = [ldap.add_person(&[&house.builders]), ldap.add_person(&[&house.staff])];
        let (builder, member) = (house.sign_in(&people[0].uid).await, house.sign_in(&people[1].uid).await);
        let said = house.revoke(&["--rule", "typo"]).await;
        assert!(said.contains("there is no rule typo now") && said.contains("0 sign-ins ended"), "{said}");
        assert!(house.server.cli(&["revoke", "--rule", "nobody"]).await.failed(1).contains("is a deny"));
        assert!(house.revoke(&["--rule", "builders"]).await.contains("revoked rule builders: 1 sign-in ended"));
        house.ends(&builder).await;
        house.lives(&member).await;
        house.lives(&house.sign_in(&people[0].uid).await).await;
        people.iter().for_each(|person| ldap.delete(&person.dn));
    }

    async fn a_refresh_moves_what_a_sign_in_rests_on(database) {
        let ldap = Ldap::shared();
        let house = House::new(database, &ldap, "group_cache = \"1ms\"").await;
        let (person, other) = (ldap.add_person(&[&house.staff]), ldap.add_person(&[&house.staff]));
        let before = house.sign_in(&person.uid).await;
        ldap.join(&house.builders, &person.dn);
        let held = house.lives(&before).await;
        assert!(house.revoke(&["--rule", "builders"]).await.contains(": 1 sign-in ended"));
        house.ends(&held).await;

        // What was issued before the refresh rested on the group of then, and is alive.
        let before = house.sign_in(&other.uid).await;
        ldap.join(&house.builders, &other.dn);
        ldap.leave(&house.staff, &other.dn);
        let held = house.lives(&before).await;
        assert!(house.revoke(&["--group", &Ldap::group_dn(&house.staff)]).await.contains(": 1 sign-in ended"));
        within_a_second("the first token too", async || !house.server.is_active(&house.client, &before.access).await).await;
        house.ends(&held).await;
        [person, other].iter().for_each(|person| ldap.delete(&person.dn));
    }

    async fn sign_ins_of_an_older_program_are_found(database) {
        let ldap = Ldap::shared();
        let house = House::new(database, &ldap, "").await;
        let person = ldap.add_person(&[&house.builders]);
        let held = house.sign_in(&person.uid).await;
        house.server.rows("DELETE FROM grant_causes");
        let group = Ldap::group_dn(&house.builders);
        assert!(house.revoke(&["--group", &group, "--dry-run"]).await.contains(": 1 sign-in would be ended"));
        assert_eq!(house.server.rows("SELECT count(*) FROM grant_causes"), ["0"], "a dry run writes nothing");
        assert!(house.revoke(&["--group", &group]).await.contains(": 1 sign-in ended"));
        house.ends(&held).await;
        ldap.delete(&person.dn);
    }

    async fn a_claimed_group_and_a_session_at_the_provider(database) {
        let okta = Oidc::issuer().await;
        let mapping = "[[mapping.rule]]\nid = \"engineers\"\nmatch.claim = \"/groups\"\nglob = \"eng-*\"\nroles = [\"engineer\"]\n";
        let server = Setup::new(database).okta("okta", &okta, "").config(mapping).start().await;
        let client = server.client_add(&APP).await;
        let exchange = async |groups: &[&str], sid: &str| {
            let token = okta.mint_with(json!({"account": "dana", "claims": {"groups": groups, "sid": sid}})).await;
            server.exchange(&client, &token, &[]).await.access_token()
        };
        let in_one = exchange(&["eng-backend", "Everyone"], "s1").await;
        let in_other = exchange(&["eng-frontend", "Everyone"], "s1").await;
        let elsewhere = exchange(&["eng-frontend"], "s2").await;

        server.cli(&["revoke", "--group", "eng-backend"]).await.ok();
        within_a_second("the group's", async || !server.is_active(&client, &in_one).await).await;
        assert!(server.is_active(&client, &in_other).await);
        // A group that gave nothing ends nothing.
        assert!(server.cli(&["revoke", "--group", "Everyone"]).await.ok().contains(": 0 sign-ins ended"));

        let said = server.cli(&["revoke", "--source", "okta", "--upstream-session", "s1", "--dry-run"]).await.ok();
        assert!(said.contains("session s1 of okta: 1 sign-in would be ended"), "{said}");
        let said = server.cli(&["revoke", "--source", "okta", "--upstream-session", "s1"]).await.ok();
        assert!(said.contains("revoked session s1 of okta: 1 sign-in ended"), "{said}");
        within_a_second("the session's", async || !server.is_active(&client, &in_other).await).await;
        assert!(server.is_active(&client, &elsewhere).await, "another session of the same person");
        let after = exchange(&["eng-backend"], "s3").await;
        assert!(server.is_active(&client, &after).await);

        // The same look at the older kinds, without writing.
        let said = server.cli(&["revoke", "--source", "okta", "--dry-run"]).await.ok();
        assert!(said.contains("source okta: 2 sign-ins would be ended"), "{said}");
        assert!(server.is_active(&client, &after).await);
        for wrong in [&["--upstream-session", "s1"][..], &["--group", "a", "--rule", "b"], &["--dry-run"], &["--token", "x", "--dry-run"]] {
            server.cli(&[&["revoke"], wrong].concat()).await.failed(2);
        }
    }

    async fn a_sign_in_in_flight_does_not_escape(database) {
        let ldap = Ldap::shared();
        let proxy = Proxy::to(&ldap.tls_address());
        let through = format!("{PATIENT}urls = [\"ldaps://127.0.0.1:{}\"]\n", proxy.port());
        let house = House::new(database, &ldap, &through).await;
        let person = ldap.add_person(&[&house.builders]);
        let group = Ldap::group_dn(&house.builders);

        // The request has begun and waits for the directory; then the group is revoked; then the directory answers.
        proxy.hang();
        let revoked_meanwhile = async {
            eventually(Duration::from_secs(10), "the sign-in asks the directory", async || proxy.holds_bytes()).await;
            assert!(house.revoke(&["--group", &group]).await.contains(": 0 sign-ins ended"));
            proxy.resume();
        };
        let (answer, ()) = tokio::join!(house.server.sign_in(&house.client, &person.uid, &person.password), revoked_meanwhile);
        answer.refused(400, "invalid_grant");
        house.server.rows_when(1, "SELECT id FROM audit_records WHERE reason = 'revoked_meanwhile'").await;
        house.lives(&house.sign_in(&person.uid).await).await;
        house.revoke(&["--group", &group]).await;

        // A refresh that would find a group of which the revocation knows nothing yet.
        let other = ldap.add_person(&[&house.staff]);
        let held = house.sign_in(&other.uid).await;
        ldap.join(&house.builders, &other.dn);
        proxy.hang();
        let revoked_meanwhile = async {
            eventually(Duration::from_secs(10), "the refresh asks the directory", async || proxy.holds_bytes()).await;
            assert!(house.revoke(&["--rule", "builders"]).await.contains(": 0 sign-ins ended"));
            proxy.resume();
        };
        let (answer, ()) = tokio::join!(house.server.refresh(&house.client, &held.refresh), revoked_meanwhile);
        answer.refused(400, "invalid_grant");
        // Nothing was spent: what was issued before rests on other things, and the next refresh begins after the revocation.
        let held = house.lives(&held).await;
        assert_eq!(house.server.introspect(&house.client, &held.access).await.roles(), ["builder"]);
        [person, other].iter().for_each(|person| ldap.delete(&person.dn));
    }
}
