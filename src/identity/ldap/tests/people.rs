use super::*;
use RefusalReason::{BadPassword, Locked, NotEligible, PasswordChangeRequired, PasswordExpired, UnknownUser};

#[tokio::test]
async fn alice_signs_in_in_both_bind_modes() {
    for source in [Source::at(&plain_url()), Source::at(&plain_url()).direct(true), Source::at(&plain_url()).direct(false)] {
        let ldap = source.open();
        let alice = accepted(sign_in(&ldap, "alice", "pw-alice").await);
        assert_eq!(alice.username, "alice");
        assert_eq!(alice.dn.as_deref(), Some("uid=alice,ou=people,dc=lab,dc=test"));
        assert_eq!((alice.email.as_deref(), alice.name.as_deref()), (Some("alice@lab.test"), Some("Alice")));
        assert_eq!(alice.subject.len(), 36);
        assert_eq!(alice.amr, ["pwd"]);
        assert!(alice.auth_time > 0);
        assert_eq!(groups(&alice), ["app-team1-write", "app-users", "ceph-admins"]);
        assert_eq!(refused(sign_in(&ldap, "alice", "wrong").await), BadPassword);
    }
}

#[tokio::test]
async fn the_username_is_what_the_directory_stores() {
    let ldap = Source::at(&plain_url()).open();
    for login in ["ALICE", "alice@lab.test", "Alice@LAB.test", " alice "] {
        assert_eq!(accepted(sign_in(&ldap, login, "pw-alice").await).username, "alice", "{login:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_wrong_in_every_tls_mode() {
    for source in [Source::at(&plain_url()), Source::at(&plain_url()).starttls(), Source::at(&tls_url())] {
        let (search, direct) = (source.open(), source.direct(true).open());
        for ldap in [search, direct] {
            assert_eq!(refused(sign_in(&ldap, "alice", "pw-bob").await), BadPassword);
            assert_eq!(accepted(sign_in(&ldap, "alice", "pw-alice").await).username, "alice");
        }
    }
}

#[tokio::test]
async fn names_that_need_escaping_are_escaped_once() {
    for source in [Source::at(&plain_url()), Source::at(&plain_url()).direct(true)] {
        let ldap = source.open();
        let connor = accepted(sign_in(&ldap, "o,connor (x)*", "pw-o,connor (x)*").await);
        assert_eq!(connor.username, "o,connor (x)*");
        assert_eq!(connor.facts.groups.len(), 2, "{:?}", connor.facts.groups);
        assert_eq!(accepted(sign_in(&ldap, "josé", "pw-josé").await).username, "josé");
        for wild in ["*", "ali*", "alice)(uid=*", "x)(|(uid=alice", "alice\\00", "alice,ou=people", "uid=alice"] {
            let reason = refused(sign_in(&ldap, wild, "pw-alice").await);
            assert!(matches!(reason, UnknownUser | BadPassword), "{wild} {reason:?}");
        }
    }
}

#[tokio::test]
async fn states_of_the_account_are_refused_for_what_they_are() {
    for source in [Source::at(&plain_url()), Source::at(&plain_url()).direct(true)] {
        let ldap = source.open();
        for (login, reason) in
            [("mustchange", PasswordChangeRequired), ("locked", Locked), ("expired", PasswordExpired), ("grace", PasswordExpired)]
        {
            assert_eq!(refused(sign_in(&ldap, login, &format!("pw-{login}")).await), reason, "{login}");
        }
        assert_eq!(refused(sign_in(&ldap, "mustchange", "wrong").await), BadPassword);
    }
}

#[tokio::test]
async fn strangers_and_twins_are_refused_before_a_bind_as_anybody() {
    let ldap = Source::at(&plain_url()).open();
    assert_eq!(refused(sign_in(&ldap, "stranger", "pw-stranger").await), UnknownUser);
    assert_eq!(refused(sign_in(&ldap, "twin@lab.test", "pw-twin1").await), NotEligible);
    assert_eq!(accepted(sign_in(&ldap, "twin1", "pw-twin1").await).username, "twin1");
    assert_eq!(accepted(sign_in(&ldap, "nomail", "pw-nomail").await).email, None);
}

#[tokio::test]
async fn somebody_outside_the_filter_is_no_user() {
    let narrow = |source: Source| source.with(|config| config.user_filter = Some(format!("(memberOf=cn=app-users,ou=groups,{BASE})")));
    let ldap = narrow(Source::at(&plain_url())).open();
    assert_eq!(refused(sign_in(&ldap, "mallory", "pw-mallory").await), UnknownUser);
    accepted(sign_in(&ldap, "bob", "pw-bob").await);
    let direct = narrow(Source::at(&plain_url())).direct(true).open();
    assert_eq!(refused(sign_in(&direct, "mallory", "pw-mallory").await), NotEligible);
}

#[tokio::test]
async fn groups_in_groups_come_with_their_path_and_cycles_end() {
    let ldap = Source::at(&plain_url()).open();
    let dave = accepted(sign_in(&ldap, "dave", "pw-dave").await);
    assert_eq!(groups(&dave), ["loop-a", "loop-b", "lvl1", "lvl2", "lvl3"]);
    let via = |cn: &str| dave.facts.groups.iter().find(|group| group.dn.starts_with(&format!("cn={cn},"))).unwrap().via.clone();
    assert_eq!(via("lvl1"), Vec::<String>::new());
    assert_eq!(via("lvl3"), [format!("cn=lvl1,ou=groups,{BASE}"), format!("cn=lvl2,ou=groups,{BASE}")]);
    assert_eq!(via("loop-b"), [format!("cn=loop-a,ou=groups,{BASE}")]);

    let flat = Source::at(&plain_url()).with(|config| config.nested = Some(false)).open();
    assert_eq!(groups(&accepted(sign_in(&flat, "dave", "pw-dave").await)), ["loop-a", "lvl1"]);
    assert_eq!(groups(&accepted(sign_in(&ldap, "frank", "pw-frank").await)), ["unique"]);
}

#[tokio::test]
async fn past_a_limit_there_is_an_error_and_no_shorter_list() {
    let shallow = Source::at(&plain_url()).open();
    assert!(unavailable(sign_in(&shallow, "erin", "pw-erin").await).contains("max_depth = 10"));
    let deep = Source::at(&plain_url()).with(|config| config.max_depth = 12).open();
    assert_eq!(accepted(sign_in(&deep, "erin", "pw-erin").await).facts.groups.len(), 12);

    let few = Source::at(&plain_url()).with(|config| config.max_groups = 2).open();
    assert!(unavailable(sign_in(&few, "alice", "pw-alice").await).contains("max_groups = 2"));
    let nested = Source::at(&plain_url()).with(|config| config.max_groups = 4).open();
    assert!(unavailable(sign_in(&nested, "dave", "pw-dave").await).contains("max_groups = 4"));
    let paged = Source::at(&plain_url()).with(|config| config.page_size = 1).open();
    assert_eq!(accepted(sign_in(&paged, "alice", "pw-alice").await).facts.groups.len(), 3);
}

#[tokio::test]
async fn explain_looks_people_up_without_their_password() {
    for source in [Source::at(&plain_url()), Source::at(&plain_url()).direct(true)] {
        let ldap = source.open();
        let locked = accepted(ldap.lookup("locked").await);
        assert_eq!((locked.username.as_str(), groups(&locked), locked.auth_time), ("locked", vec!["app-users"], 0));
        assert_eq!(refused(ldap.lookup("stranger").await), UnknownUser);
        assert_eq!(refused(ldap.lookup("").await), UnknownUser);
    }
    let alone = Source::at(&plain_url()).direct(false).open();
    assert!(!alone.can_recheck());
    assert!(unavailable(alone.lookup("alice").await).contains("bind_dn"));
}
