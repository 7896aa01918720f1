//! People of an Active Directory (Samba) sign in, with all groups that the directory counts, and stay the same through a rename.

use crate::harness::{Answer, Client, Database, Ldap, Samba, Server, Setup, on_both_databases};

const APP: [&str; 6] = ["--grant", "password", "--grant", "refresh_token", "--scope", "read"];

const MAPPING: &str = r"
[[mapping.rule]]
id = 'users'
match.dn = 'cn=app-users,ou=staff,dc=lab,dc=example,dc=test'
roles = ['user']

[[mapping.rule]]
id = 'admins'
match.dn = 'CN=App\2C Admins (x),OU=Staff,DC=lab,DC=example,DC=test'
roles = ['admin']

[[mapping.rule]]
id = 'third-level'
match.dn = 'CN=lvl3,OU=Staff,DC=lab,DC=example,DC=test'
roles = ['nested']

[[mapping.rule]]
id = 'team'
match.cn_regex = '(?<team>team|above-team|wide|g07)'
under = 'OU=Staff,DC=lab,DC=example,DC=test'
roles = ['${team}']
allow_roles = ['*']

[[mapping.rule]]
id = 'everybody'
match.dn = 'CN=Domain Users,CN=Users,DC=lab,DC=example,DC=test'
roles = ['everybody']
";

const UPN: &str = "bind = \"direct\"\nbind_template = \"{login}@lab.example.test\"\n";

async fn house(database: Database, more: &str) -> (Server, Client) {
    let server = Setup::new(database).active_directory("ad", &Samba::shared(), more).config(MAPPING).start().await;
    let client = server.client_add(&APP).await;
    (server, client)
}

/// The password grant at a named source.
async fn sign_in_at(server: &Server, client: &Client, source: &str, username: &str, password: &str) -> Answer {
    let parameters = [("grant_type", "password"), ("username", username), ("password", password), ("source", source)];
    server.token(client, &parameters).await
}

async fn roles_at(server: &Server, client: &Client, source: &str, username: &str, password: &str) -> Vec<String> {
    let token = sign_in_at(server, client, source, username, password).await.access_token();
    server.introspect(client, &token).await.roles()
}

on_both_databases! {
    async fn by_account_name_and_by_principal_name_with_every_group(database) {
        let samba = Samba::shared();
        let starttls = format!("urls = [{:?}]\n", samba.url());
        let server = Setup::new(database)
            .active_directory("ad", &samba, "")
            .active_directory("samba", &samba, "preset = \"samba\"\n")
            .active_directory("starttls", &samba, &starttls)
            .config(MAPPING)
            .start()
            .await;
        let client = server.client_add(&APP).await;
        for source in ["ad", "samba", "starttls"] {
            for (login, name, roles) in [
                ("ok", "ok", &["everybody", "nested", "user"][..]),
                ("OK@lab.example.test", "ok", &["everybody", "nested", "user"]),
                // The directory keeps the former primary group as an ordinary one.
                ("primary", "primary", &["above-team", "everybody", "team"]),
                ("some.body@example.test", "upn", &["everybody", "user"]),
                ("plain", "plain", &["everybody"]),
                ("many", "many", &["everybody", "g07", "wide"]),
                // O'Connor, Ann (x)*; and Ünï Çödé.
                ("ann", "ann", &["admin", "everybody", "user"]),
                ("unicode", "unicode", &["everybody", "nested", "user"]),
                ("josé", "josé", &["admin", "everybody", "user"]),
                // Whose tokenGroups the service account may not read: the directory searches in a chain.
                ("hidden", "hidden", &["everybody", "nested", "user"]),
            ] {
                let token = sign_in_at(&server, &client, source, login, &format!("Passw0rd!{name}")).await.access_token();
                let meaning = server.introspect(&client, &token).await;
                assert_eq!(meaning.roles(), roles, "{login} at {source}");
                assert_eq!(meaning.text("username").split('@').next(), Some(name), "{login} at {source}");
            }
        }
        // Three wrong passwords lock an account here, so nobody whom other stories need is guessed at.
        let guessed = Samba::shared().add_person(&[]);
        sign_in_at(&server, &client, "ad", &guessed.name, "wrong").await.refused(400, "invalid_grant");
        sign_in_at(&server, &client, "ad", "nobody-at-all", "wrong").await.refused(400, "invalid_grant");
    }

    async fn without_nesting_the_direct_and_the_primary_group_count(database) {
        let (server, client) = house(database, "nested = false\n").await;
        for (login, roles) in [("ok", &["everybody", "user"][..]), ("primary", &["everybody", "team"]), ("many", &["everybody", "g07"])] {
            assert_eq!(roles_at(&server, &client, "ad", login, &format!("Passw0rd!{login}")).await, roles, "{login}");
        }
    }

    async fn who_binds_by_principal_name_is_who_is_read(database) {
        let samba = Samba::shared();
        let without_service: String = {
            let section = samba.section("alone", "", UPN);
            section.lines().filter(|line| !line.starts_with("bind_dn") && !line.starts_with("bind_password")).map(|l| format!("{l}\n")).collect()
        };
        let elsewhere = "bind = \"direct\"\nbind_template = \"{login}@example.test\"\n";
        let server = Setup::new(database)
            .active_directory("upn", &samba, UPN)
            .config(&without_service)
            .active_directory("elsewhere", &samba, elsewhere)
            .active_directory("filtered", &samba, &format!("{elsewhere}user_filter = \"(!(sAMAccountName=usurper))\"\n"))
            .config(MAPPING)
            .start()
            .await;
        let client = server.client_add(&APP).await;
        let guessed = samba.add_person(&[]);
        for source in ["upn", "alone"] {
            for login in ["ok", "ok@lab.example.test", "OK@LAB.example.test"] {
                assert_eq!(roles_at(&server, &client, source, login, "Passw0rd!ok").await, ["everybody", "nested", "user"], "{login}");
            }
            // An account without this suffix binds by its sAMAccountName all the same.
            assert_eq!(roles_at(&server, &client, source, "upn", "Passw0rd!upn").await, ["everybody", "user"]);
            sign_in_at(&server, &client, source, &guessed.name, "wrong").await.refused(400, "invalid_grant");
        }
        // victim.of@example.test is the usurper's, whatever the account victim.of is called.
        let token = sign_in_at(&server, &client, "elsewhere", "victim.of", "Passw0rd!usurper").await.access_token();
        assert_eq!(server.introspect(&client, &token).await.text("username"), "usurper@elsewhere");
        sign_in_at(&server, &client, "elsewhere", "victim.of", "Passw0rd!victim.of").await.refused(400, "invalid_grant");
        sign_in_at(&server, &client, "filtered", "victim.of", "Passw0rd!usurper").await.refused(400, "invalid_grant");
    }

    async fn a_renamed_person_keeps_the_account(database) {
        let samba = Samba::shared();
        let (server, client) = house(database, "").await;
        let person = samba.add_person(&["app-users"]);
        let before = sign_in_at(&server, &client, "ad", &person.name, &person.password).await;
        let subject = server.introspect(&client, &before.access_token()).await.text("sub");
        let known = server.rows("SELECT subject FROM account_links WHERE source = 'ad'");
        assert!(known.iter().all(|guid| guid.len() == 36 && *guid == guid.to_lowercase()), "a UUID in lower case: {known:?}");

        let renamed = format!("CN=New\\, {} (x)", person.name);
        samba.modify(&format!("dn: {}\nchangetype: modrdn\nnewrdn: {renamed}\ndeleteoldrdn: 1\n", person.dn));
        let (dn, name) = (format!("{renamed},{}", Samba::STAFF), format!("n{}", &person.name[1..]));
        samba.set(&dn, "sAMAccountName", &name);
        samba.set(&dn, "userPrincipalName", &format!("{name}@example.test"));

        let refreshed = server.refresh(&client, &before.text("refresh_token")).await.access_token();
        assert_eq!(server.introspect(&client, &refreshed).await.text("sub"), subject);
        let again = sign_in_at(&server, &client, "ad", &name, &person.password).await.access_token();
        assert_eq!(server.introspect(&client, &again).await.text("sub"), subject);
        sign_in_at(&server, &client, "ad", &person.name, &person.password).await.refused(400, "invalid_grant");
        samba.delete(&dn);
    }

    async fn who_leaves_the_filter_or_is_disabled_is_out_at_the_next_refresh(database) {
        let samba = Samba::shared();
        let (server, client) = house(database, "user_filter = \"(!(department=gone))\"\n").await;
        for (attribute, value) in
            [("department", "gone"), ("userAccountControl", "514"), ("accountExpires", "120000000000000000"), ("pwdLastSet", "0")]
        {
            let person = samba.add_person(&[]);
            let signed_in = sign_in_at(&server, &client, "ad", &person.name, &person.password).await;
            let fresh = server.refresh(&client, &signed_in.text("refresh_token")).await;
            samba.set(&person.dn, attribute, value);
            server.refresh(&client, &fresh.text("refresh_token")).await.refused(400, "invalid_grant");
            assert!(!server.is_active(&client, &fresh.access_token()).await, "{attribute}");
            samba.delete(&person.dn);
        }
        // A stranger's wrong guesses lock the account for a while, and end no session.
        let person = samba.add_person(&[]);
        let signed_in = sign_in_at(&server, &client, "ad", &person.name, &person.password).await;
        for _ in 0..3 {
            samba.wrong_password(&person.upn);
        }
        assert!(samba.read(&person.dn, &["lockoutTime"]).contains("lockoutTime: 1"), "the directory has locked it");
        server.refresh(&client, &signed_in.text("refresh_token")).await.ok();
        samba.delete(&person.dn);
    }

    async fn explain_tells_the_way_to_each_group(database) {
        let (server, _) = house(database, "").await;
        for (person, ways) in [
            ("ok", &["ok → lvl1 → lvl2 → lvl3"][..]),
            ("hidden", &["hidden → lvl1 → lvl2 → lvl3"]),
            ("primary", &["primary → team → above-team"]),
            ("many", &["→ wide"]),
        ] {
            let said = server.cli(&["explain", "--source", "ad", "--user", person]).await.ok();
            for way in ways {
                assert!(said.contains(way), "{person}: {way} in\n{said}");
            }
        }
    }

    async fn another_directory_than_it_says_is_told_and_never_without_groups(database) {
        let preset = "preset = \"active-directory\"\nlogin_attributes = [\"uid\"]\nsubject_attribute = \"entryUUID\"\n";
        let ldap = Ldap::shared();
        let section = ldap.section("lab", "lab.password", preset).replacen("preset = \"openldap\"\n", "", 1);
        let server = Setup::new(database).file("lab.password", Ldap::SERVICE_PASSWORD).config(&section).start().await;
        let client = server.client_add(&APP).await;
        server.sign_in(&client, "alice", "pw-alice").await.unavailable();
        assert!(server.log().contains("choose the directory's own preset"), "{}", server.log());
    }
}
