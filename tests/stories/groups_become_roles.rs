//! The mapping decides which groups give which roles, who stays outside, and says why.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Client, Database, Ldap, Server, Setup, countersign, on_both_databases, unique};

const PASSWORD: [&str; 2] = ["--grant", "password"];
const GROUPS: &str = "ou=groups,dc=lab,dc=test";

/// A server over the shared directory with this mapping, and a client that may use the password grant.
async fn with_mapping(database: Database, mapping: &str) -> (Server, Client) {
    let server = Setup::new(database).config(mapping).ldap("lab", &Ldap::shared(), "").start().await;
    let client = server.client_add(&PASSWORD).await;
    (server, client)
}

async fn roles_of(server: &Server, client: &Client, uid: &str) -> Vec<String> {
    server.introspect_person(client, uid, &format!("pw-{uid}")).await.roles()
}

async fn stays_outside(server: &Server, client: &Client, uid: &str) {
    server.sign_in(client, uid, &format!("pw-{uid}")).await.refused(400, "invalid_grant");
}

/// What the audit says about each refused sign-in.
async fn denials(server: &Server, count: usize) -> Vec<Value> {
    let rows = server.rows_when(count, "SELECT detail FROM audit_records WHERE reason = 'denied_by_mapping'").await;
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// A literal rule for one group of the lab.
fn rule(group: &str, roles: &str, more: &str) -> String {
    format!("[[mapping.rule]]\nid = \"{group}\"\nmatch.dn = \"cn={group},{GROUPS}\"\nroles = [{roles}]\n{more}\n")
}

const TEAMS: &str = r#"
[[mapping.rule]]
id = "team"
match.cn_regex = "app-(?<team>[a-z0-9]{1,20})-(?<level>read|write)"
under = "ou=groups,dc=lab,dc=test"
roles = ["${team}:${level}"]
allow_roles = ["*:read", "team2:write"]
"#;

on_both_databases! {
    async fn captures_make_roles_that_are_allowed(database) {
        let (server, client) = with_mapping(database, TEAMS).await;
        assert_eq!(roles_of(&server, &client, "carol").await, ["team2:read"]);
        assert!(roles_of(&server, &client, "bob").await.is_empty(), "team1:write is not allowed");
        assert!(roles_of(&server, &client, "dave").await.is_empty());
        let audit = server.rows("SELECT detail FROM audit_records WHERE event = 'sign_in' AND username = 'bob'");
        let detail: Value = serde_json::from_str(&audit[0]).unwrap();
        assert_eq!((&detail["dropped"][0]["role"], &detail["dropped"][0]["rule"]), (&json!("team1:write"), &json!("team")), "{detail}");
    }

    async fn a_group_of_that_name_elsewhere_gives_nothing(database) {
        let ldap = Ldap::shared();
        let person = ldap.add_person(&[]);
        let elsewhere = format!("cn=app-red-read,ou={},ou=people,dc=lab,dc=test", unique());
        let (_, unit) = elsewhere.split_once(',').unwrap();
        ldap.modify(&format!("dn: {unit}\nchangetype: add\nobjectClass: organizationalUnit\n"));
        ldap.modify(&format!("dn: {elsewhere}\nchangetype: add\nobjectClass: groupOfNames\ncn: app-red-read\nmember: {}\n", person.dn));
        let section = ldap.section("lab", "lab.password", "").replace(&format!("group_base = \"{GROUPS}\""), "group_base = \"dc=lab,dc=test\"");
        let server = Setup::new(database).config(TEAMS).file("lab.password", Ldap::SERVICE_PASSWORD).config(&section).start().await;
        let client = server.client_add(&PASSWORD).await;
        assert!(server.introspect_person(&client, &person.uid, &person.password).await.roles().is_empty());
        let told = server.cli(&["explain", "--source", "lab", "--user", &person.uid]).await.ok();
        assert!(told.contains("no roles") && told.contains("near misses") && told.contains("it is not under"), "{told}");
        for dn in [&elsewhere, unit, &person.dn] {
            ldap.delete(dn);
        }
    }

    async fn defaults_are_for_everybody_of_the_source(database) {
        let ldap = Ldap::shared();
        let mapping = format!("[mapping.defaults]\nlab = [\"person\"]\n{}", rule("ceph-admins", "\"admin\"", "source = \"other\""));
        let server = Setup::new(database).config(&mapping).ldap("lab", &ldap, "").ldap("other", &ldap, "").start().await;
        let client = server.client_add(&PASSWORD).await;
        assert_eq!(roles_of(&server, &client, "alice").await, ["person"]);
        assert_eq!(roles_of(&server, &client, "nomail").await, ["person"]);
        let other = server.client_add(&["--grant", "password", "--source", "other"]).await;
        assert_eq!(roles_of(&server, &other, "alice").await, ["admin"], "a rule with a source is for that source alone");
        assert!(roles_of(&server, &other, "nomail").await.is_empty());
    }

    async fn a_deny_keeps_people_out_or_takes_roles_away(database) {
        let mapping = format!(
            "[mapping.defaults]\nlab = [\"person\"]\n{}{}\n\
             [[mapping.deny]]\nid = \"former-staff\"\nmatch.cn = \"Leavers\"\nunder = \"{GROUPS}\"\neffect = \"login\"\n\
             [[mapping.deny]]\nid = \"no-writers\"\nmatch.dn = \"cn=ceph-admins,{GROUPS}\"\neffect = \"roles\"\nroles = [\"*:write\", \"person\"]\n",
            rule("app-team1-write", "\"disk:write\", \"disk:read\"", ""),
            rule("leavers", "\"former\"", ""),
        );
        let (server, client) = with_mapping(database, &mapping).await;
        stays_outside(&server, &client, "mallory").await;
        assert_eq!(roles_of(&server, &client, "bob").await, ["disk:read", "disk:write", "person"]);
        assert_eq!(roles_of(&server, &client, "alice").await, ["disk:read"], "a deny of roles comes after rules and defaults");
        let denials = denials(&server, 1).await;
        assert!(denials[0].to_string().contains("former-staff"), "{denials:?}");
        assert_eq!(server.rows("SELECT username FROM accounts WHERE source = 'lab' ORDER BY username"), ["alice", "bob"]);
    }

    async fn one_of_or_all_of_the_required_groups(database) {
        let mapping = format!("[mapping]\nrequire_any = [\"dn:cn=app-team1-write,{GROUPS}\", \"cn:LVL3\"]\nunder = \"{GROUPS}\"\n");
        let (server, client) = with_mapping(database, &mapping).await;
        for inside in ["alice", "bob", "dave"] {
            assert!(roles_of(&server, &client, inside).await.is_empty(), "{inside} is let in, and no rule gives a role");
        }
        for outside in ["carol", "nomail"] {
            stays_outside(&server, &client, outside).await;
        }
        assert!(denials(&server, 2).await.iter().all(|denial| denial["because"] == "require_any"));
    }

    async fn all_of_the_required_groups(database) {
        let mapping = format!("[mapping]\nrequire_all = [\"dn:cn=app-team1-write,{GROUPS}\", \"dn:CN=ceph-admins, OU=groups, DC=lab, DC=test\"]\n");
        let (server, client) = with_mapping(database, &mapping).await;
        roles_of(&server, &client, "alice").await;
        stays_outside(&server, &client, "bob").await;
        assert_eq!(denials(&server, 1).await[0]["selectors"], json!(["dn:CN=ceph-admins, OU=groups, DC=lab, DC=test"]));
    }

    async fn too_many_roles_are_an_error_and_never_a_cut_list(database) {
        let mapping = format!("[mapping]\nmax_roles = 2\n{}{}", rule("app-users", "\"a\", \"b\"", ""), rule("ceph-admins", "\"c\"", ""));
        let (server, client) = with_mapping(database, &mapping).await;
        assert_eq!(roles_of(&server, &client, "carol").await, ["a", "b"]);
        server.sign_in(&client, "alice", "pw-alice").await.refused(500, "server_error");
        let audit = server.rows_when(1, "SELECT username, source, detail FROM audit_records WHERE reason = 'mapping_failed'").await;
        assert!(audit[0].starts_with("alice|lab|") && audit[0].contains("mapping.max_roles = 2"), "{audit:?}");
        // The ceiling of a client comes first.
        let limited = server.client_add(&[&PASSWORD[..], &["--role-ceiling", "a", "--role-ceiling", "c"]].concat()).await;
        assert_eq!(roles_of(&server, &limited, "alice").await, ["a", "c"]);
    }

    async fn roles_that_administer_countersign_come_from_privileged_literals_alone(database) {
        let ldap = Ldap::shared();
        let person = ldap.add_person(&[]);
        let group = format!("countersign:{}", unique());
        ldap.modify(&format!("dn: cn={group},{GROUPS}\nchangetype: add\nobjectClass: groupOfNames\ncn: {group}\nmember: {}\n", person.dn));
        let captured = format!(
            "[[mapping.rule]]\nid = \"any\"\nmatch.cn_regex = \"(?<name>.+)\"\nunder = \"{GROUPS}\"\nroles = [\"${{name}}\"]\nallow_roles = [\"*\"]\n"
        );
        let mapping = rule("ceph-admins", "\"countersign:admin\"", "privileged = true") + &captured;
        let (server, client) = with_mapping(database, &mapping).await;
        assert!(roles_of(&server, &client, "alice").await.contains(&"countersign:admin".to_owned()));
        assert!(server.introspect_person(&client, &person.uid, &person.password).await.roles().is_empty(), "a capture made a countersign: role");
        ldap.delete(&format!("cn={group},{GROUPS}"));
        ldap.delete(&person.dn);

        let by_regex = format!("[[mapping.rule]]\nid = \"r\"\nmatch.cn_regex = \"ceph-.*\"\nunder = \"{GROUPS}\"\n");
        for (mistake, word) in [
            (rule("ceph-admins", "\"countersign:admin\"", ""), "privileged = true"),
            (format!("{by_regex}roles = [\"countersign:admin\"]\nprivileged = true\n"), "match of one group"),
            (format!("{by_regex}roles = [\"countersign:admin\"]\n"), "privileged = true"),
            (captured.replace("\"${name}\"", "\"countersign:${name}\""), "never made of captures"),
            ("[mapping.defaults]\nlab = [\"countersign:admin\"]\n".to_owned(), "privileged = true"),
        ] {
            let said = check(&server, &mistake).failed(1);
            assert!(said.contains("broken.toml:") && said.contains(word), "{mistake}\n{said}");
        }
    }

    async fn explain_follows_a_living_person_to_each_role(database) {
        let ldap = Ldap::shared();
        let person = ldap.add_person(&["app-team1-write"]);
        let inner = ldap.add_group(&[&person.dn]);
        let outer = ldap.add_group(&[&Ldap::group_dn(&inner)]);
        let near = format!("{inner}x");
        let mapping = format!(
            "[mapping.defaults]\nlab = [\"person\"]\n{}{}{}{TEAMS}\n\
             [[mapping.deny]]\nid = \"no-secrets\"\nmatch.dn = \"cn={inner},{GROUPS}\"\neffect = \"roles\"\nroles = [\"secret\"]\n\
             [[mapping.deny]]\nid = \"leavers\"\nmatch.dn = \"cn=leavers,{GROUPS}\"\n",
            rule(&outer, "\"operator\"", ""),
            rule(&inner, "\"secret\"", ""),
            rule(&near, "\"mistyped\"", ""),
        );
        let (server, _) = with_mapping(database, &mapping).await;
        let uid = &person.uid;
        let told = server.cli(&["explain", "--source", "lab", "--user", uid]).await.ok();
        for line in [
            format!("{uid} of lab: 2 roles"),
            format!("{uid} → {inner} → {outer} → rule {outer} (cn={outer},{GROUPS})"),
            "default of lab".to_owned(),
            format!("secret: deny no-secrets matches group cn={inner},{GROUPS}"),
            format!("\"team1:write\" of rule team, group cn=app-team1-write,{GROUPS}: matches none of allow_roles"),
            format!("rule {near}: group cn={inner},{GROUPS}: it differs a little from cn={near}"),
        ] {
            assert!(told.contains(&line), "no {line:?} in\n{told}");
        }

        let told = server.cli(&["explain", "--source", "lab", "--user", uid, "--json"]).await.json();
        assert_eq!((&told["source"], &told["user"], &told["denied"]), (&json!("lab"), &json!(uid), &Value::Null));
        let because = json!({"because": "rule", "id": outer, "matched": {"group": Ldap::group_dn(&outer)}, "via": [Ldap::group_dn(&inner)]});
        assert_eq!(told["roles"][0], json!({"role": "operator", "because": [because]}));
        assert_eq!(told["roles"][1], json!({"role": "person", "because": [{"because": "default", "source": "lab"}]}));
        assert_eq!(told["taken_away"][0]["deny"], json!("no-secrets"));
        assert_eq!(told["dropped"][0]["role"], json!("team1:write"));
        assert_eq!(told["near_misses"][0]["condition"], json!(format!("rule {near}")));

        let denied = server.cli(&["explain", "--source", "lab", "--user", "mallory"]).await.ok();
        assert!(denied.contains("the sign-in is denied") && denied.contains("mallory → leavers → deny leavers"), "{denied}");
        let nobody = server.cli(&["explain", "--source", "lab", "--user", "nobody-at-all"]).await.failed(1);
        assert!(nobody.contains("unknown_user"), "{nobody}");
        let elsewhere = server.cli(&["explain", "--source", "lad", "--user", uid]).await.failed(1);
        assert!(elsewhere.contains("lad") && elsewhere.contains("lab"), "{elsewhere}");
        assert!(server.rows("SELECT username FROM accounts WHERE source = 'lab'").is_empty(), "explain signs nobody in");
        for dn in [Ldap::group_dn(&outer), Ldap::group_dn(&inner), person.dn] {
            ldap.delete(&dn);
        }
    }

    async fn cases_of_the_mapping_are_checked_before_anybody_signs_in(database) {
        let good = format!(
            "{TEAMS}\n[[mapping.expect]]\nsource = \"lab\"\ngroups = [\"CN=App-Red-Read,OU=Groups,DC=lab,DC=test\"]\nroles = [\"red:read\"]\n"
        );
        let (server, _) = with_mapping(database, &good).await;
        let said = server.cli(&["check"]).await.ok();
        assert!(said.contains("1 expect cases") && said.contains("valid"), "{said}");

        let bad = good.replace("red:read\"]", "Red:read\"]");
        let line = 1 + bad.lines().position(|l| l == "[[mapping.expect]]").unwrap();
        let said = check(&server, &bad).failed(1);
        assert!(said.contains(&format!("broken.toml:{line}:")) && said.contains("mapping.expect[0]"), "line {line}:\n{said}");
        assert!(said.contains("expected the roles Red:read, got the roles red:read; red:read comes from rule team"), "{said}");
    }

    async fn a_server_whose_cases_fail_does_not_start(database) {
        let case = "[[mapping.expect]]\nsource = \"lab\"\ngroups = []\nroles = [\"person\"]\n";
        let said = Setup::new(database).config(case).ldap("lab", &Ldap::shared(), "").refused().await;
        assert!(said.contains("countersign.toml:1:") && said.contains("nothing gives person"), "{said}");
    }
}

/// `countersign check` of a file with this mapping, beside the server.
fn check(server: &Server, mapping: &str) -> crate::harness::Output {
    let text = format!("{mapping}\n{}", Ldap::shared().section("lab", "lab.password", ""));
    fs::write(server.directory().join("broken.toml"), text).unwrap();
    countersign(server.directory(), &["check", "--config", "broken.toml"], &[])
}
