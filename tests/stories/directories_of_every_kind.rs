//! The other presets: 389-ds as it is, and posix, FreeIPA and lldap by data of their shape in OpenLDAP.

use crate::harness::{Answer, Asked, Client, DirSrv, Ldap, Played, Server, Setup, on_both_databases};

const APP: [&str; 6] = ["--grant", "password", "--grant", "refresh_token", "--scope", "read"];

/// Every group's name is a role.
const MAPPING: &str = "
[[mapping.rule]]
id = 'all'
match.cn_regex = '(?<name>[a-z0-9-]+).*'
under = 'dc=lab,dc=test'
roles = ['${name}']
allow_roles = ['*']
";

async fn sign_in_at(server: &Server, client: &Client, source: &str, username: &str, password: &str) -> Answer {
    let parameters = [("grant_type", "password"), ("username", username), ("password", password), ("source", source)];
    server.token(client, &parameters).await
}

async fn roles_at(server: &Server, client: &Client, source: &str, uid: &str) -> Vec<String> {
    let token = sign_in_at(server, client, source, uid, &format!("pw-{uid}")).await.access_token();
    server.introspect(client, &token).await.roles()
}

/// A source over the subtree of OpenLDAP that plays this kind.
fn played_by(ldap: &Ldap, name: &str, preset: &str, kind: &str, more: &str) -> String {
    format!(
        "[[source]]\nname = {name:?}\ntype = \"ldap\"\npreset = {preset:?}\nurls = [{:?}]\nca_file = {:?}\nbind_dn = {:?}\n\
         bind_password_file = \"svc\"\nuser_base = \"ou=people,ou={kind},dc=lab,dc=test\"\ngroup_base = \"ou=groups,ou={kind},dc=lab,dc=test\"\n{more}\n",
        ldap.tls_url(),
        ldap.authority(),
        Ldap::SERVICE_DN
    )
}

/// A source over a directory that the story plays.
fn played(directory: &Played) -> String {
    format!(
        "[[source]]\nname = \"played\"\ntype = \"ldap\"\npreset = \"389ds\"\nurls = [{:?}]\ntls = \"none\"\ninsecure_plaintext = true\n\
         bind_dn = \"cn=svc,dc=lab,dc=test\"\nbind_password_file = \"svc\"\nuser_base = \"dc=lab,dc=test\"\ngroup_base = \"dc=lab,dc=test\"\n",
        directory.url()
    )
}

on_both_databases! {
    async fn in_389_ds_with_nested_groups_and_strange_names(database) {
        let server = Setup::new(database).dirsrv("ds", &DirSrv::shared(), "").config(MAPPING).start().await;
        let client = server.client_add(&APP).await;
        for (uid, roles) in [
            ("alice", &["app-users", "ceph-admins"][..]),
            ("carol", &[]),
            ("dave", &["loop-a", "loop-b", "lvl1", "lvl2", "lvl3"]),
            ("o,connor (x)*", &["a", "app-users"]),
            ("josé", &["app-users"]),
        ] {
            assert_eq!(roles_at(&server, &client, "ds", uid).await, roles, "{uid}");
        }
        for (uid, password) in [("alice", "wrong"), ("inactive", "pw-inactive"), ("mustchange", "pw-mustchange"), ("expired", "pw-expired")] {
            sign_in_at(&server, &client, "ds", uid, password).await.refused(400, "invalid_grant");
        }
        let said = server.cli(&["explain", "--source", "ds", "--user", "dave"]).await.ok();
        assert!(said.contains("dave → lvl1 → lvl2 → lvl3"), "{said}");
    }

    async fn in_389_ds_a_renamed_person_stays_and_an_inactivated_one_is_out(database) {
        let (with, without) = (DirSrv::shared(), DirSrv::without_entry_uuid());
        let server = Setup::new(database).dirsrv("with", &with, "").dirsrv("without", &without, "").start().await;
        let client = server.client_add(&APP).await;
        for (source, directory) in [("with", &with), ("without", &without)] {
            let person = directory.add_person(&[]);
            let signed_in = sign_in_at(&server, &client, source, &person.uid, &person.password).await;
            let subject = server.introspect(&client, &signed_in.access_token()).await.text("sub");
            let name = format!("{}x", person.uid);
            directory.modify(&format!("dn: {}\nchangetype: modrdn\nnewrdn: uid={name}\ndeleteoldrdn: 1\n", person.dn));
            let fresh = server.refresh(&client, &signed_in.text("refresh_token")).await;
            assert_eq!(server.introspect(&client, &fresh.access_token()).await.text("sub"), subject, "{source}");
            let dn = DirSrv::person_dn(&name);
            directory.set(&dn, "nsAccountLock", "true");
            server.refresh(&client, &fresh.text("refresh_token")).await.refused(400, "invalid_grant");
            directory.delete(&dn);
        }
    }

    async fn in_posix_by_uid_and_primary_group(database) {
        let ldap = Ldap::private();
        let server = Setup::new(database).file("svc", "svcpw").config(&played_by(&ldap, "posix", "posix", "posix", "")).config(MAPPING);
        let server = server.start().await;
        let client = server.client_add(&APP).await;
        for (uid, roles) in [("pia", &["painters", "pioneers"][..]), ("o,connor (x)*", &["painters", "pioneers"]), ("paul", &["potters"])] {
            assert_eq!(roles_at(&server, &client, "posix", uid).await, roles, "{uid}");
        }
    }

    async fn in_freeipa_by_its_unique_id_and_member_of(database) {
        let ldap = Ldap::private();
        let server = Setup::new(database)
            .file("svc", "svcpw")
            .config(&played_by(&ldap, "ipa", "freeipa", "ipa", ""))
            .config(&played_by(&ldap, "flat", "freeipa", "ipa", "nested = false"))
            .config(MAPPING)
            .start()
            .await;
        let client = server.client_add(&APP).await;
        for uid in ["ivy", "josé", "o,connor (x)*"] {
            assert_eq!(roles_at(&server, &client, "ipa", uid).await, ["direct", "nested", "top"], "{uid}");
            assert_eq!(roles_at(&server, &client, "flat", uid).await, ["direct"], "{uid}");
        }
        let said = server.cli(&["explain", "--source", "ipa", "--user", "ivy"]).await.ok();
        assert!(said.contains("ivy → direct → nested → top"), "{said}");
        sign_in_at(&server, &client, "ipa", "inez", "pw-inez").await.refused(400, "invalid_grant");
        // A group lists her, and her memberOf does not say so: nobody knows all her groups.
        sign_in_at(&server, &client, "ipa", "ida", "pw-ida").await.unavailable();
        assert!(server.log().contains("memberOf plugin"), "{}", server.log());
        let by = server.rows("SELECT subject FROM account_links WHERE source = 'ipa'");
        assert!(by.contains(&"3b2b619f-db6a-5b82-9c37-3c38a4a5b243".to_owned()), "the ipaUniqueID of ivy: {by:?}");
    }

    async fn in_lldap_by_direct_groups(database) {
        let ldap = Ldap::private();
        let server = Setup::new(database).file("svc", "svcpw").config(&played_by(&ldap, "lldap", "lldap", "lldap", "")).config(MAPPING);
        let server = server.start().await;
        let client = server.client_add(&APP).await;
        for (uid, roles) in [("lea", &["crew", "team"][..]), ("josé", &["crew", "team"]), ("liam", &["crew"])] {
            assert_eq!(roles_at(&server, &client, "lldap", uid).await, roles, "{uid}");
        }
    }

    async fn values_that_come_in_pieces_are_followed_to_the_end(database) {
        let groups: Vec<Vec<u8>> = (0..1_800).map(|n| format!("cn=g{n:04},ou=groups,dc=lab,dc=test").into_bytes()).collect();
        let directory = Played::new(move |asked: &Asked| {
            let mut attributes = vec![("uid".to_owned(), vec![b"p".to_vec()]), ("entryUUID".to_owned(), vec![b"e-1".to_vec()])];
            if asked.wants("memberOf") {
                attributes.push(("memberOf".to_owned(), Vec::new()));
                attributes.push(("memberOf;range=0-999".to_owned(), groups[..1_000].to_vec()));
            } else if asked.wants("memberOf;range=1000-*") {
                attributes.push(("memberof;Range=1000-1499".to_owned(), groups[1_000..1_500].to_vec()));
            } else if asked.wants("memberOf;range=1500-*") {
                attributes.push(("memberOf;range=1500-*".to_owned(), groups[1_500..].to_vec()));
            }
            vec![("uid=p,dc=lab,dc=test".to_owned(), attributes)]
        });
        let mapping = "mapping.rule = [{ id = 'last', match.dn = 'cn=g1799,ou=groups,dc=lab,dc=test', roles = ['last'] }]";
        let server = Setup::new(database).config(mapping).file("svc", "svcpw").config(&played(&directory)).start().await;
        let client = server.client_add(&APP).await;
        assert_eq!(server.introspect_person(&client, "p", "any").await.roles(), ["last"]);
    }

    async fn a_piece_that_does_not_come_is_an_outage(database) {
        let directory = Played::new(|asked: &Asked| {
            let mut attributes = vec![("uid".to_owned(), vec![b"p".to_vec()]), ("entryUUID".to_owned(), vec![b"e-1".to_vec()])];
            if asked.wants("memberOf") {
                attributes.push(("memberOf;range=0-0".to_owned(), vec![b"cn=g,dc=lab,dc=test".to_vec()]));
            } else if asked.wants("memberOf;range=1-*") {
                attributes.push(("memberOf;range=1-1".to_owned(), Vec::new()));
            }
            vec![("uid=p,dc=lab,dc=test".to_owned(), attributes)]
        });
        let server = Setup::new(database).file("svc", "svcpw").config(&played(&directory)).start().await;
        let client = server.client_add(&APP).await;
        server.sign_in(&client, "p", "any").await.unavailable();
        assert!(directory.searches() < 20, "it did not ask for ever");
    }

    async fn an_evil_referral_is_never_followed(database) {
        let evil = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        evil.set_nonblocking(true).unwrap();
        let ldap = Ldap::private();
        let url = format!("ldap://{}/ou=people,dc=evil,dc=test", evil.local_addr().unwrap());
        for unit in ["people", "groups"] {
            ldap.modify(&format!(
                "dn: cn=away,ou={unit},dc=lab,dc=test\nchangetype: add\nobjectClass: referral\nobjectClass: extensibleObject\ncn: away\nref: {url}\n"
            ));
        }
        let away = "user_base = \"cn=away,ou=people,dc=lab,dc=test\"\n";
        let beyond = ldap.section("beyond", "lab.password", "").replacen("user_base = \"ou=people,dc=lab,dc=test\"\n", away, 1);
        let server = Setup::new(database)
            .ldap("lab", &ldap, "")
            .ldap("strict", &ldap, "referrals = \"reject\"\n")
            .config(&beyond)
            .ldap("direct", &ldap, "bind = \"direct\"\nbind_template = \"cn={login},cn=away,ou=people,dc=lab,dc=test\"\n")
            .config(MAPPING)
            .start()
            .await;
        let client = server.client_add(&APP).await;
        assert_eq!(roles_at(&server, &client, "lab", "alice").await, ["app-team1-write", "app-users", "ceph-admins"]);
        for source in ["strict", "beyond", "direct"] {
            sign_in_at(&server, &client, source, "alice", "pw-alice").await.unavailable();
        }
        assert_eq!(evil.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody went where the referral pointed");
    }
}
