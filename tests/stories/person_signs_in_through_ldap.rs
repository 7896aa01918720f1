//! A person of the directory signs in with the password that they know, and gets a token with the roles of their groups.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Answer, Client, Database, Ldap, Proxy, Server, Setup, eventually, on_both_databases, unique};

const PASSWORD: [&str; 2] = ["--grant", "password"];

const MAPPING: &str = r"
[[mapping.rule]]
id = 'users'
match.dn = 'cn=app-users,ou=groups,dc=lab,dc=test'
roles = ['user']

[[mapping.rule]]
id = 'admins'
match.dn = 'cn=ceph-admins,ou=groups,dc=lab,dc=test'
roles = ['admin']

[[mapping.rule]]
id = 'third-level'
match.dn = 'cn=lvl3,ou=groups,dc=lab,dc=test'
roles = ['nested']

[[mapping.rule]]
id = 'in-a-circle'
match.dn = 'cn=loop-a,ou=groups,dc=lab,dc=test'
roles = ['circle']

[[mapping.rule]]
id = 'special'
match.dn = 'cn=a\2Cb (x)*,ou=groups,dc=lab,dc=test'
roles = ['special']

[[mapping.rule]]
id = 'unique'
match.cn = 'unique'
under = 'ou=groups,dc=lab,dc=test'
roles = ['unique']
";

const DIRECT: &str = "bind = \"direct\"\nbind_template = \"uid={login},ou=people,dc=lab,dc=test\"\n";

/// One source `lab` over the shared directory, and a client that may use the password grant.
async fn server_and_client(database: Database) -> (Server, Client) {
    let server = Setup::new(database).ldap("lab", &Ldap::shared(), "").config(MAPPING).start().await;
    let client = server.client_add(&PASSWORD).await;
    (server, client)
}

/// The password grant at a named source.
async fn sign_in_at(server: &Server, client: &Client, source: &str, username: &str, password: &str) -> Answer {
    let parameters = [("grant_type", "password"), ("username", username), ("password", password), ("source", source)];
    server.token(client, &parameters).await
}

on_both_databases! {
    async fn by_search_and_by_template_over_every_kind_of_tls(database) {
        let ldap = Ldap::shared();
        let starttls = format!("urls = [{:?}]\n", ldap.url());
        let without_service = |name: &str| {
            let section = ldap.section(name, "", DIRECT);
            section.lines().filter(|line| !line.starts_with("bind_dn") && !line.starts_with("bind_password")).collect::<Vec<_>>().join("\n")
        };
        let server = Setup::new(database)
            .ldap("search-ldaps", &ldap, "")
            .ldap("search-starttls", &ldap, &starttls)
            .ldap("direct-ldaps", &ldap, DIRECT)
            .ldap("direct-starttls", &ldap, &format!("{starttls}{DIRECT}"))
            .config(&without_service("as-the-person"))
            .config(MAPPING)
            .start()
            .await;
        let client = server.client_add(&PASSWORD).await;
        let stranger = ldap.add_person(&["app-users"]);
        for source in ["search-ldaps", "search-starttls", "direct-ldaps", "direct-starttls", "as-the-person"] {
            for (username, password, roles) in [
                ("alice", "pw-alice", &["admin", "user"][..]),
                ("dave", "pw-dave", &["circle", "nested"]),
                ("o,connor (x)*", "pw-o,connor (x)*", &["special", "user"]),
                ("josé", "pw-josé", &["user"]),
            ] {
                let token = sign_in_at(&server, &client, source, username, password).await.access_token();
                let meaning = server.introspect(&client, &token).await;
                assert_eq!(meaning.roles(), roles, "{username} at {source}");
                assert_eq!(meaning.json["source"], json!(source));
            }
            sign_in_at(&server, &client, source, &stranger.uid, "wrong").await.refused(400, "invalid_grant");
            sign_in_at(&server, &client, source, &stranger.uid, &stranger.password).await.ok();
            sign_in_at(&server, &client, source, "nobody-at-all", "wrong").await.refused(400, "invalid_grant");
        }
        ldap.delete(&stranger.dn);
    }

    async fn a_server_with_a_wrong_certificate_is_told_nothing(database) {
        let ldap = Ldap::shared();
        let stranger = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/stranger-ca.crt");
        let wrong_authority = |name: &str, more: &str| ldap.section(name, "good.password", more).replace(&ldap.authority(), stranger);
        let starttls = format!("urls = [{:?}]\n", ldap.url());
        let server = Setup::new(database)
            .ldap("good", &ldap, "")
            .config(&wrong_authority("wrong-authority", ""))
            .config(&wrong_authority("wrong-authority-starttls", &starttls))
            .ldap("wrong-name", &ldap, "server_name = \"ldap.elsewhere.test\"")
            .ldap("wrong-name-starttls", &ldap, &format!("server_name = \"ldap.elsewhere.test\"\n{starttls}"))
            .ldap("wrong-address", &ldap, "server_name = \"127.0.0.2\"")
            .ldap("wrong-address-starttls", &ldap, &format!("server_name = \"127.0.0.2\"\n{starttls}"))
            .start()
            .await;
        let client = server.client_add(&PASSWORD).await;
        for wrong in ["wrong-authority", "wrong-name", "wrong-address"] {
            sign_in_at(&server, &client, wrong, "alice", "pw-alice").await.unavailable();
            sign_in_at(&server, &client, &format!("{wrong}-starttls"), "alice", "pw-alice").await.unavailable();
        }
        assert!(server.log().contains("certificate"), "the log says why:\n{}", server.log());
        sign_in_at(&server, &client, "good", "alice", "pw-alice").await.ok();
    }

    async fn groups_and_groups_of_groups_become_roles(database) {
        let (server, client) = server_and_client(database).await;
        for (username, roles) in [
            ("alice", &["admin", "user"][..]),
            ("bob", &["user"]),
            ("carol", &["user"]),
            ("dave", &["circle", "nested"]),
            ("frank", &["unique"]),
            ("nomail", &[]),
        ] {
            let meaning = server.introspect_person(&client, username, &format!("pw-{username}")).await;
            assert_eq!(meaning.roles(), roles, "{username}");
        }
        // Erin's groups go deeper than max_depth: nobody knows all of them, so nothing is decided.
        server.sign_in(&client, "erin", "pw-erin").await.unavailable();
    }

    async fn the_name_is_the_directorys_never_as_typed(database) {
        let (server, client) = server_and_client(database).await;
        let subject = server.introspect_person(&client, "alice", "pw-alice").await.text("sub");
        assert!(subject.len() == 32 && subject.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{subject}");
        for typed in ["ALICE", "Alice", "alice@lab.test", "ALICE@Lab.Test"] {
            let meaning = server.introspect_person(&client, typed, "pw-alice").await;
            assert_eq!((meaning.text("username"), meaning.text("sub")), ("alice".to_owned(), subject.clone()), "{typed}");
        }
        for name in ["o,connor (x)*", "josé"] {
            let meaning = server.introspect_person(&client, name, &format!("pw-{name}")).await;
            assert_eq!(meaning.text("username"), name);
            assert_ne!(meaning.text("sub"), subject);
        }
        // Half of what a filter is made of, and all that a name escapes: people of this story alone.
        for odd in ["a(b", "a)b", "a*b", "a&(b"] {
            let (uid, ldap) = (format!("{}-{odd}", unique()), Ldap::shared());
            let dn = Ldap::person_dn(&uid);
            ldap.modify(&format!("dn: {dn}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: x\nsn: x\nuserPassword: pw-{odd}\n"));
            let meaning = server.introspect_person(&client, &uid, &format!("pw-{odd}")).await;
            assert_eq!(meaning.text("username"), uid);
            server.sign_in(&client, &uid, "wrong").await.refused(400, "invalid_grant");
            ldap.delete(&dn);
        }
        // What means something in a filter or a name means nothing in a login; one address of two people is nobody's.
        for typed in ["*", "alic*", "alice)(uid=*", "*)(objectClass=*", "alice,ou=people,dc=lab,dc=test", "twin@lab.test", "alice\\2a"] {
            server.sign_in(&client, typed, "pw-alice").await.refused(400, "invalid_grant");
        }
    }

    async fn an_account_follows_the_entry_and_not_the_name(database) {
        let (server, client) = server_and_client(database).await;
        let ldap = Ldap::shared();
        let person = ldap.add_person(&[]);
        let before = server.introspect_person(&client, &person.uid, &person.password).await;

        let renamed = format!("{}2", person.uid);
        ldap.modify(&format!("dn: {}\nchangetype: modrdn\nnewrdn: uid={renamed}\ndeleteoldrdn: 1\n", person.dn));
        server.sign_in(&client, &person.uid, &person.password).await.refused(400, "invalid_grant");
        let after = server.introspect_person(&client, &renamed, &person.password).await;
        assert_eq!(after.text("sub"), before.text("sub"));

        ldap.delete(&Ldap::person_dn(&renamed));
        ldap.modify(&format!(
            "dn: {}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: {uid}\nuserPassword: another\n",
            person.dn,
            uid = person.uid
        ));
        let successor = server.introspect_person(&client, &person.uid, "another").await;
        assert_ne!(successor.text("sub"), before.text("sub"), "whoever gets a used name gets no used account");
        assert_ne!(successor.text("username"), before.text("username"));
        ldap.delete(&person.dn);
    }

    async fn introspection_tells_all_that_is_promised(database) {
        let server = Setup::new(database).ldap("lab", &Ldap::shared(), "").config(MAPPING).start().await;
        let client = server.client_add(&["--grant", "password", "--grant", "refresh_token", "--scope", "read"]).await;
        let signed_in = server.sign_in(&client, "alice", "pw-alice").await;
        assert!(signed_in.text("refresh_token").starts_with("cs_rt_"));
        assert_eq!((signed_in.text("scope"), signed_in.text("token_type")), ("read".to_owned(), "Bearer".to_owned()));
        assert_eq!(signed_in.header("cache-control"), "no-store");

        let meaning = server.introspect(&client, &signed_in.access_token()).await;
        assert_eq!(meaning.roles(), ["admin", "user"]);
        let told = meaning.ok();
        for (member, value) in [
            ("client_id", json!(client.id)),
            ("iss", json!(server.origin())),
            ("aud", json!(server.origin())),
            ("scope", json!("read")),
            ("token_type", json!("Bearer")),
            ("username", json!("alice")),
            ("source", json!("lab")),
            ("amr", json!(["pwd"])),
            ("cache_for", json!(60)),
        ] {
            assert_eq!(told[member], value, "{member} in {}", meaning.body);
        }
        let time = |member: &str| told[member].as_i64().unwrap_or_else(|| panic!("no {member} in {}", meaning.body));
        assert_eq!(time("exp") - time("iat"), 900);
        assert!((time("auth_time") - time("iat")).abs() <= 10 && (time("identity_checked_at") - time("iat")).abs() <= 10);
        assert!(time("rv") >= 0 && told["jti"].is_string() && told["grant_id"].is_string(), "{}", meaning.body);
        assert_eq!(server.rows("SELECT id FROM grants"), [meaning.text("grant_id")]);
        let audit = server.rows("SELECT source, username, client_id, account_id, address FROM audit_records WHERE event = 'sign_in'");
        assert_eq!(audit, [format!("lab|alice|{}|{}|127.0.0.1", client.id, meaning.text("sub"))]);
    }

    async fn scopes_follow_roles_and_the_clients_ceiling_cuts_roles(database) {
        let scopes = "[scope.manage]\nrequires_role = \"admin\"\n[scope.read]\ndescription = \"Read\"\n";
        let server = Setup::new(database).config(scopes).ldap("lab", &Ldap::shared(), "").config(MAPPING).start().await;
        let client = server.client_add(&["--grant", "password", "--scope", "read", "--scope", "manage"]).await;
        assert_eq!(server.sign_in(&client, "alice", "pw-alice").await.text("scope"), "manage read");
        assert_eq!(server.sign_in(&client, "carol", "pw-carol").await.text("scope"), "read");

        let ceiling = ["--role-ceiling", "us*", "--scope", "read", "--scope", "manage"];
        let limited = server.client_add(&[&PASSWORD[..], &ceiling].concat()).await;
        let answer = server.sign_in(&limited, "alice", "pw-alice").await;
        assert_eq!(answer.text("scope"), "read", "the role that the scope needs is over the ceiling");
        assert_eq!(server.introspect(&limited, &answer.access_token()).await.roles(), ["user"]);
    }

    async fn a_source_can_be_named_and_a_client_be_kept_to_some(database) {
        let ldap = Ldap::shared();
        let server = Setup::new(database).ldap("first", &ldap, "").ldap("second", &ldap, "").start().await;
        let client = server.client_add(&PASSWORD).await;
        let bare = server.introspect_person(&client, "alice", "pw-alice").await;
        assert_eq!((bare.text("source"), bare.text("username")), ("first".to_owned(), "alice".to_owned()));

        let token = sign_in_at(&server, &client, "second", "alice", "pw-alice").await.access_token();
        let other = server.introspect(&client, &token).await;
        assert_eq!((other.text("source"), other.text("username")), ("second".to_owned(), "alice@second".to_owned()));
        assert_ne!(other.text("sub"), bare.text("sub"), "the same name at another source is another person");

        sign_in_at(&server, &client, "third", "alice", "pw-alice").await.refused(400, "invalid_request");
        let kept = server.client_add(&["--grant", "password", "--source", "second"]).await;
        assert_eq!(server.introspect_person(&kept, "alice", "pw-alice").await.text("source"), "second");
        sign_in_at(&server, &kept, "first", "alice", "pw-alice").await.refused(400, "invalid_request");
    }

    async fn an_addresss_domain_chooses_the_source(database) {
        let ldap = Ldap::shared();
        let server = Setup::new(database)
            .ldap("first", &ldap, "domains = [\"first.test\"]")
            .ldap("lab", &ldap, "domains = [\"Lab.Test\"]")
            .start()
            .await;
        let client = server.client_add(&PASSWORD).await;
        for (typed, source) in [("alice", "first"), ("alice@lab.test", "lab"), ("alice@LAB.TEST", "lab")] {
            assert_eq!(server.introspect_person(&client, typed, "pw-alice").await.text("source"), source, "{typed}");
        }
        server.sign_in(&client, "alice@first.test", "pw-alice").await.refused(400, "invalid_grant");
    }

    async fn only_no_such_user_moves_on_to_the_next_source(database) {
        let ldap = Ldap::shared();
        let (to_first, to_second) = (Proxy::to(&ldap.tls_address()), Proxy::to(&ldap.tls_address()));
        let person = ldap.add_person(&[]);
        let through = |proxy: &Proxy, uid: &str| {
            format!("urls = [\"ldaps://127.0.0.1:{}\"]\nuser_filter = \"(|(uid={uid})(uid=frank))\"\n", proxy.port())
        };
        let server = Setup::new(database)
            .ldap("first", &ldap, &through(&to_first, &person.uid))
            .ldap("second", &ldap, &through(&to_second, "carol"))
            .start()
            .await;
        let client = server.client_add(&PASSWORD).await;

        // Both know frank; a password that the first refuses is not tried elsewhere.
        server.sign_in(&client, &person.uid, "wrong").await.refused(400, "invalid_grant");
        assert_eq!(server.introspect_person(&client, "frank", "pw-frank").await.text("source"), "first");
        assert_eq!(to_second.connections(), 0, "a bad password went on to the second source");

        let carol = server.introspect_person(&client, "carol", "pw-carol").await;
        assert_eq!((carol.text("source"), carol.text("username")), ("second".to_owned(), "carol@second".to_owned()));
        server.sign_in(&client, "nobody-at-all", "wrong").await.refused(400, "invalid_grant");

        let asked = to_second.connections();
        to_first.stop();
        server.sign_in(&client, "carol", "pw-carol").await.unavailable();
        assert_eq!(to_second.connections(), asked, "an outage of the first source went on to the second");
        to_first.resume();
        eventually(Duration::from_secs(10), "the directory is used again", async || {
            server.sign_in(&client, "carol", "pw-carol").await.status == 200
        })
        .await;
        ldap.delete(&person.dn);
    }
}
