//! What is refused at start, each with its key.

use super::*;

/// The problems of a source at a directory that need not exist.
fn problems(change: impl FnOnce(&mut LdapSource)) -> Vec<String> {
    let source = Source::at("ldap://127.0.0.1:1").with(change);
    match Ldap::new("lab".into(), &source.config, Clock::System) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.into_iter().map(|problem| problem.path).collect(),
    }
}

fn urls(config: &mut LdapSource, text: &str) {
    config.urls = vec![text.parse().unwrap()];
}

#[test]
fn a_right_configuration_has_no_problem() {
    assert_eq!(problems(|_| ()), Vec::<String>::new());
}

#[test]
fn urls_name_a_host_and_nothing_else() {
    let bad =
        ["ldap:///", "ldap://", "http://x", "ldap://x/dc=lab", "ldap://x?uid", "ldap://me@x", "ldap://me:secret@x", "ldapi://x", "ldap:x"];
    for url in bad {
        assert_eq!(problems(|config| urls(config, url)), ["urls[0]"], "{url}");
    }
    assert_eq!(problems(|config| config.urls.clear()), ["urls"]);
    assert_eq!(problems(|config| urls(config, "ldap://[::1]:389/")), Vec::<String>::new());
}

#[test]
fn tls_follows_the_url() {
    let tls = |url: &'static str, tls: Option<LdapTls>, plaintext: bool| {
        problems(move |config| {
            urls(config, url);
            config.tls = tls;
            config.insecure_plaintext = plaintext;
            let stranger = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/stranger-ca.crt");
            config.ca_file = (tls != Some(LdapTls::None)).then(|| stranger.into());
        })
    };
    for (url, mode) in [("ldaps://x", None), ("ldaps://x", Some(LdapTls::Ldaps)), ("ldap://x", None), ("ldap://x", Some(LdapTls::StartTls))]
    {
        assert_eq!(tls(url, mode, false), Vec::<String>::new());
    }
    assert_eq!(tls("ldap://x", Some(LdapTls::None), false), ["tls"]);
    assert_eq!(problems(|config| config.server_name = Some("x".to_owned())), ["server_name"], "which plain text never compares");
    assert_eq!(tls("ldap://x", None, true), ["insecure_plaintext"]);
    assert_eq!(tls("ldap://x", Some(LdapTls::Ldaps), false), ["urls[0]"]);
    assert_eq!(tls("ldaps://x", Some(LdapTls::StartTls), false), ["urls[0]"]);
    assert_eq!(tls("ldaps://x", Some(LdapTls::None), true), ["urls[0]"]);
    assert_eq!(tls("ldaps://[::1]", None, false), Vec::<String>::new());
    assert_eq!(tls("ldaps://a_b..c", None, false), ["urls[0]"], "no certificate can have this name");
}

#[test]
fn files_are_read_at_start() {
    let not_pem = file("nonsense");
    let secured = |config: &mut LdapSource| {
        config.tls = None;
        config.insecure_plaintext = false;
    };
    for ca in ["/does/not/exist".into(), not_pem.path().to_owned()] {
        assert_eq!(
            problems(|config| {
                secured(config);
                config.ca_file = Some(ca);
            }),
            ["ca_file"]
        );
    }
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/stranger-ca.crt");
    assert_eq!(
        problems(|config| {
            secured(config);
            config.ca_file = Some(ca.into());
            config.client_certificate = Some(ca.into());
        }),
        ["client_certificate"]
    );
    assert_eq!(problems(|config| config.bind_password_file = Some("/does/not/exist".into())), ["bind_password_file"]);
    let empty = file("\n");
    assert_eq!(problems(|config| config.bind_password_file = Some(empty.path().to_owned())), ["bind_password_file"]);
    assert_eq!(problems(|config| config.bind_password_file = None), ["bind_password_file"]);
}

#[test]
fn bases_filters_templates_and_limits_make_sense() {
    assert_eq!(problems(|config| config.user_base = None), ["user_base"]);
    assert_eq!(problems(|config| config.group_base = Some("groups".to_owned())), ["group_base"]);
    assert_eq!(problems(|config| config.bind_dn = Some("svc".to_owned())), ["bind_dn"]);
    for filter in ["uid=x", "(uid=x", "(uid=x))", "", "(a=b)(c=d)"] {
        assert_eq!(problems(|config| config.user_filter = Some(filter.to_owned())), ["user_filter"], "{filter}");
    }
    assert_eq!(problems(|config| config.login_attributes = Some(vec!["uid)(".to_owned()])), ["login_attributes[0]"]);
    assert_eq!(problems(|config| config.bind_template = Some("uid={login}".to_owned())), ["bind_template"]);
    for template in [
        None,
        Some("uid=login,ou=people,dc=lab,dc=test"),
        Some("uid={login},ou=other,dc=lab,dc=test"),
        Some("uid={login},,"),
        Some("{login}@lab.test"),
    ] {
        let direct = |config: &mut LdapSource| {
            config.bind = LdapBind::Direct;
            config.bind_template = template.map(str::to_owned);
        };
        assert_eq!(problems(direct), ["bind_template"], "{template:?}");
    }
    assert_eq!(problems(|config| config.max_depth = 0), ["max_depth"]);
    for threshold in [1, 2, 10_001] {
        assert_eq!(problems(|config| config.lockout_threshold = threshold), ["lockout_threshold"]);
    }
    assert_eq!(problems(|config| config.lockout_threshold = 0), Vec::<String>::new());
    assert_eq!(problems(|config| config.lockout_window = std::time::Duration::from_secs(59)), ["lockout_window"]);
    assert_eq!(problems(|config| config.pool.size = 0), ["pool.size"]);
    assert_eq!(problems(|config| config.page_size = 0), ["page_size"]);
}
