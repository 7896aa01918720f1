//! Somebody leaves, and the directory knows: at the next refresh the source is asked again, and what it says holds.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Client, Database, Ldap, Server, Setup, eventually, on_both_databases, within_a_second};

const APP: [&str; 6] = ["--grant", "password", "--grant", "refresh_token", "--scope", "read"];

/// Groups of one story: members of the first have the role `builder`, members of the second may not sign in.
struct Groups {
    builders: String,
    banned: String,
}

async fn house(database: Database, ldap: &Ldap) -> (Server, Client, Groups) {
    let groups = Groups { builders: ldap.add_group(&[Ldap::SERVICE_DN]), banned: ldap.add_group(&[Ldap::SERVICE_DN]) };
    let mapping = format!(
        "[mapping]\ndefaults.corp = [\"user\"]\n\
         [[mapping.rule]]\nid = \"builders\"\nsource = \"corp\"\nmatch.dn = {:?}\nroles = [\"builder\"]\n\
         [[mapping.deny]]\nid = \"banned\"\nsource = \"corp\"\nmatch.dn = {:?}\neffect = \"login\"\n",
        Ldap::group_dn(&groups.builders),
        Ldap::group_dn(&groups.banned),
    );
    let filter = "user_filter = \"(&(objectClass=inetOrgPerson)(!(employeeType=gone)))\"";
    let server = Setup::new(database).ldap("corp", ldap, filter).config(&mapping).start().await;
    let client = server.client_add(&APP).await;
    (server, client, groups)
}

/// A sign-in and one refresh that works: two access tokens and the current refresh token.
async fn at_work(server: &Server, client: &Client, uid: &str) -> ([String; 2], String) {
    let answer = server.sign_in(client, uid, &format!("pw-{uid}")).await;
    let first = answer.access_token();
    let answer = server.refresh(client, &answer.text("refresh_token")).await;
    ([first, answer.access_token()], answer.text("refresh_token"))
}

/// The refresh is refused, and with it everything of the grant ends; the audit trail says why.
async fn is_out(server: &Server, client: &Client, access: &[String], refresh: &str, reason: &str) {
    server.refresh(client, refresh).await.refused(400, "invalid_grant");
    for token in access {
        assert!(!server.is_active(client, token).await, "{reason}: an access token is still active");
    }
    let reasons = server.rows("SELECT DISTINCT reason FROM audit_records WHERE event = 'refresh_refused'");
    assert_eq!(reasons, [reason]);
    assert_eq!(server.rows("SELECT count(*) FROM refresh_families WHERE dead"), ["1"]);
}

async fn roles(server: &Server, client: &Client, token: &str) -> Vec<String> {
    let answer = server.introspect(client, token).await;
    let mut roles: Vec<String> = serde_json::from_value(answer.ok()["roles"].clone()).unwrap();
    roles.sort();
    roles
}

on_both_databases! {
    async fn deleted_from_the_directory(database) {
        let ldap = Ldap::shared();
        let (server, client, _) = house(database, &ldap).await;
        let person = ldap.add_person(&[]);
        let (access, refresh) = at_work(&server, &client, &person.uid).await;
        ldap.delete(&person.dn);
        is_out(&server, &client, &access, &refresh, "unknown_user").await;
        // Hired again under the same name: what was issued before stays dead.
        ldap.modify(&format!(
            "dn: {}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: {uid}\nuserPassword: {}\n",
            person.dn, person.password, uid = person.uid,
        ));
        server.refresh(&client, &refresh).await.refused(400, "invalid_grant");
        server.sign_in(&client, &person.uid, &person.password).await.ok();
        ldap.delete(&person.dn);
    }

    async fn outside_of_the_filter(database) {
        let ldap = Ldap::shared();
        let (server, client, _) = house(database, &ldap).await;
        let person = ldap.add_person(&[]);
        let (access, refresh) = at_work(&server, &client, &person.uid).await;
        ldap.modify(&format!("dn: {}\nchangetype: modify\nadd: employeeType\nemployeeType: gone\n", person.dn));
        is_out(&server, &client, &access, &refresh, "unknown_user").await;
        server.sign_in(&client, &person.uid, &person.password).await.refused(400, "invalid_grant");
        ldap.delete(&person.dn);
    }

    async fn out_of_a_group_the_roles_shrink(database) {
        let ldap = Ldap::shared();
        let (server, client, groups) = house(database, &ldap).await;
        let person = ldap.add_person(&[&groups.builders]);
        let (access, refresh) = at_work(&server, &client, &person.uid).await;
        assert_eq!(roles(&server, &client, &access[1]).await, ["builder", "user"]);
        ldap.leave(&groups.builders, &person.dn);
        let answer = server.refresh(&client, &refresh).await;
        assert_eq!(roles(&server, &client, &answer.access_token()).await, ["user"]);
        ldap.join(&groups.builders, &person.dn);
        let answer = server.refresh(&client, &answer.text("refresh_token")).await;
        assert_eq!(roles(&server, &client, &answer.access_token()).await, ["builder", "user"]);
        ldap.delete(&person.dn);
    }

    async fn denied_by_the_mapping(database) {
        let ldap = Ldap::shared();
        let (server, client, groups) = house(database, &ldap).await;
        let person = ldap.add_person(&[&groups.builders]);
        let (access, refresh) = at_work(&server, &client, &person.uid).await;
        ldap.join(&groups.banned, &person.dn);
        is_out(&server, &client, &access, &refresh, "denied_by_mapping").await;
        ldap.leave(&groups.banned, &person.dn);
        server.refresh(&client, &refresh).await.refused(400, "invalid_grant");
        ldap.delete(&person.dn);
    }

    async fn locked_by_an_administrator(database) {
        let ldap = Ldap::shared();
        let (server, client, _) = house(database, &ldap).await;
        let person = ldap.add_person(&[]);
        let (access, refresh) = at_work(&server, &client, &person.uid).await;
        ldap.modify(&format!("dn: {}\nchangetype: modify\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n", person.dn));
        is_out(&server, &client, &access, &refresh, "locked").await;
        ldap.delete(&person.dn);
    }

    async fn the_source_is_taken_out_of_the_file(database) {
        let ldap = Ldap::shared();
        let section = ldap.section("corp", "corp.password", "");
        let setup = Setup::new(database).file("corp.password", Ldap::SERVICE_PASSWORD).config(&section).ldap("other", &ldap, "");
        let mut server = setup.start().await;
        let client = server.client_add(&APP).await;
        let person = ldap.add_person(&[]);
        let (first, second) = (at_work(&server, &client, &person.uid).await, at_work(&server, &client, &person.uid).await);
        let elsewhere = server
            .token(&client, &[("grant_type", "password"), ("username", "bob"), ("password", "pw-bob"), ("source", "other")])
            .await;
        server.edit_config(&section, "");
        server.restart().await;
        for (access, refresh) in [first, second] {
            server.refresh(&client, &refresh).await.refused(400, "invalid_grant");
            for token in &access {
                assert!(!server.is_active(&client, token).await, "a token of a source that is no more");
            }
        }
        assert_eq!(server.rows("SELECT DISTINCT reason FROM audit_records WHERE event = 'refresh_refused'"), ["source_removed"]);
        assert_eq!(server.rows("SELECT count(*) FROM refresh_families WHERE dead"), ["2"]);
        server.refresh(&client, &elsewhere.text("refresh_token")).await.ok();
        ldap.delete(&person.dn);
    }

    async fn a_directory_that_is_down_decides_nothing(database) {
        let ldap = Ldap::private();
        let (server, client, _) = house(database, &ldap).await;
        let (access, refresh) = at_work(&server, &client, "alice").await;
        ldap.stop();
        let answer = server.refresh(&client, &refresh).await;
        assert!(!answer.refused(503, "temporarily_unavailable").header("retry-after").is_empty());
        server.sign_in(&client, "alice", "pw-alice").await.refused(503, "temporarily_unavailable");
        assert!(server.is_active(&client, &access[1]).await, "what was issued lives on");
        ldap.start_again();
        let mut after = None;
        eventually(Duration::from_secs(20), "the directory is back and nobody notices", async || {
            let answer = server.refresh(&client, &refresh).await;
            let served = answer.status == 200;
            assert!(served || answer.status == 503, "{}", answer.body);
            after = Some(answer);
            served
        })
        .await;
        let after = after.unwrap();
        server.refresh(&client, &after.text("refresh_token")).await.ok();
        assert!(server.rows("SELECT reason FROM audit_records WHERE event = 'refresh_refused'").is_empty());
    }

    async fn a_local_account_is_disabled(database) {
        let server = Setup::new(database).start().await;
        let password = "a lamp beside 7 green doors";
        server.user_add("anna", password, &[]).await;
        let client = server.client_add(&APP).await;
        let answer = server.sign_in(&client, "anna", password).await;
        let (access, refresh) = (answer.access_token(), answer.text("refresh_token"));
        server.cli(&["user", "disable", "anna"]).await.ok();
        within_a_second("the token of a disabled account is inactive", async || !server.is_active(&client, &access).await).await;
        server.refresh(&client, &refresh).await.refused(400, "invalid_grant");
        server.sign_in(&client, "anna", password).await.refused(400, "invalid_grant");

        server.cli(&["user", "enable", "anna"]).await.ok();
        server.refresh(&client, &refresh).await.refused(400, "invalid_grant");
        assert!(!server.is_active(&client, &access).await, "enabled again, what was issued before stays ended");
        let answer = server.sign_in(&client, "anna", password).await;
        assert_eq!(server.introspect(&client, &answer.access_token()).await.ok()["active"], json!(true));

        // Signed out everywhere, and removed.
        server.cli(&["user", "sign-out", "anna"]).await.ok();
        within_a_second("signed out", async || !server.is_active(&client, &answer.access_token()).await).await;
        server.refresh(&client, &answer.text("refresh_token")).await.refused(400, "invalid_grant");
        let answer = server.sign_in(&client, "anna", password).await;
        server.cli(&["user", "remove", "anna"]).await.ok();
        within_a_second("removed", async || !server.is_active(&client, &answer.access_token()).await).await;
        server.refresh(&client, &answer.text("refresh_token")).await.refused(400, "invalid_grant");
    }
}
