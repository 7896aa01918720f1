use super::*;

#[test]
fn a_good_token_is_a_person() {
    let identity = judge(&source(|_| ()), &sign(json!({}))).unwrap();
    assert_eq!((identity.issuer.as_str(), identity.subject.as_str(), identity.username.as_str()), (ISSUER, "00u1", "alice"));
    assert_eq!((identity.email.as_deref(), identity.email_verified), (Some("alice@example.test"), true));
    assert_eq!((identity.name.as_deref(), identity.auth_time), (Some("Alice"), NOW - 30));
    assert_eq!(identity.amr, ["pwd", "mfa"]);
    assert!(identity.facts.groups.is_empty());
    assert_eq!(identity.facts.claims["groups"], json!(["Everyone", "eng"]));
    let upstream = identity.upstream.unwrap();
    assert_eq!((upstream.issuer.as_str(), upstream.session.as_deref(), upstream.token_id.as_str()), (ISSUER, Some("s1"), "jti:ID.1"));
    assert_eq!(upstream.remember_until, NOW - 5 + 600 + 60);
}

#[test]
fn what_a_thin_token_leaves_out() {
    let changes = json!({"jti": null, "auth_time": null, "preferred_username": null, "email": null, "amr": null, "sid": null});
    let identity = judge(&source(|_| ()), &sign(changes)).unwrap();
    assert_eq!((identity.username.as_str(), identity.auth_time, identity.email_verified), ("00u1", NOW - 5, false));
    let upstream = identity.upstream.unwrap();
    assert!(upstream.token_id.starts_with("dg:") && upstream.session.is_none());
}

#[test]
fn ids_that_cannot_be_kept_as_they_are() {
    let upstream = |changes: Value| judge(&source(|_| ()), &sign(changes)).unwrap().upstream.unwrap();
    for odd in [json!("a\u{0}b"), json!("a\nb"), json!("x".repeat(256)), json!(""), json!(7)] {
        let found = upstream(json!({"jti": odd, "sid": odd}));
        assert!(found.token_id.starts_with("dg:") && found.session.is_none(), "{odd}");
        assert_eq!(found.token_id, upstream(json!({"jti": odd, "sid": odd})).token_id, "{odd}");
    }
    let long = "x".repeat(255);
    let found = upstream(json!({"jti": long, "sid": long}));
    assert_eq!((found.token_id, found.session), (format!("jti:{long}"), Some(long)));
}

#[test]
fn attributes_may_stand_elsewhere() {
    let oidc = source(|config| {
        config.attributes.username = Some("/login/name".into());
        config.attributes.email = Some("/work_mail".into());
    });
    let identity = judge(&oidc, &sign(json!({"login": {"name": "a.archer"}, "work_mail": "a@work.test"}))).unwrap();
    assert_eq!(identity.username, "a.archer");
    assert_eq!((identity.email.as_deref(), identity.email_verified), (Some("a@work.test"), false), "email_verified speaks of email only");
    assert_eq!(judge(&oidc, &sign(json!({}))).unwrap().username, "alice");
}

#[test]
fn wrong_issuer() {
    for issuer in ["https://org.okta.test", "https://org.okta.test/oauth2/default/", "HTTPS://org.okta.test/oauth2/default"] {
        assert_eq!(refused(&source(|_| ()), json!({"iss": issuer})), TokenRefusal::WrongIssuer);
    }
}

#[test]
fn wrong_token_type() {
    for changes in [json!({"events": {}}), json!({"scope": "openid"}), json!({"scp": ["openid"]}), json!({"cid": "app"})] {
        assert_eq!(refused(&source(|_| ()), changes), TokenRefusal::WrongTokenType);
    }
    // What Keycloak calls its access, refresh and logout tokens; its id tokens are `ID`.
    for kind in [json!("Bearer"), json!("Refresh"), json!("Logout"), json!("id"), json!(7)] {
        assert_eq!(refused(&source(|_| ()), json!({"typ": kind})), TokenRefusal::WrongTokenType);
    }
    judge(&source(|_| ()), &sign(json!({"typ": "ID"}))).unwrap();
    for kind in ["at+jwt", "application/at+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt"] {
        let header = with(header(), json!({"typ": kind}));
        let found = judge(&source(|_| ()), &sign_text(&header.to_string(), &claims().to_string()));
        assert_eq!(found.unwrap_err(), TokenRefusal::WrongTokenType, "{kind}");
    }
    let header = with(header(), json!({"typ": "JWT"}));
    judge(&source(|_| ()), &sign_text(&header.to_string(), &claims().to_string())).unwrap();
}

#[test]
fn wrong_audience() {
    let oidc = source(|_| ());
    let bad = [
        json!({"aud": null}),
        json!({"aud": "other"}),
        json!({"aud": ""}),
        json!({"aud": []}),
        json!({"aud": 1}),
        json!({"aud": ["app", 1], "azp": "app"}),
        json!({"aud": ["app", "other"]}),
        json!({"aud": ["app", "other"], "azp": "other"}),
        json!({"aud": ["other"], "azp": "app"}),
        json!({"azp": "other"}),
        json!({"azp": 1}),
    ];
    for changes in bad {
        assert_eq!(refused(&oidc, changes), TokenRefusal::WrongAudience);
    }
    for changes in [json!({"aud": ["app"]}), json!({"azp": "app"}), json!({"aud": ["other", "app"], "azp": "app"})] {
        judge(&oidc, &sign(changes)).unwrap();
    }
    let api = source(|config| config.audiences = vec!["api://x".into(), "api://y".into()]);
    assert_eq!(refused(&api, json!({})), TokenRefusal::WrongAudience);
    judge(&api, &sign(json!({"aud": "api://y"}))).unwrap();
}

#[test]
fn times_to_the_second() {
    let oidc = source(|_| ());
    let cases = [
        (json!({"exp": NOW - 60}), Err(TokenRefusal::Expired)),
        (json!({"exp": NOW - 59}), Ok(())),
        (json!({"exp": -1}), Err(TokenRefusal::Expired)),
        (json!({"exp": i64::MAX}), Ok(())),
        (json!({"nbf": NOW + 61}), Err(TokenRefusal::NotYetValid)),
        (json!({"nbf": NOW + 60}), Ok(())),
        (json!({"iat": NOW + 61}), Err(TokenRefusal::NotYetValid)),
        (json!({"iat": NOW + 60}), Ok(())),
        (json!({"iat": NOW - 601}), Err(TokenRefusal::TooOld)),
        (json!({"iat": NOW - 600}), Ok(())),
        (json!({"iat": (NOW - 1) as f64 + 0.5}), Ok(())),
        (json!({"exp": null}), Err(TokenRefusal::Malformed)),
        (json!({"iat": null}), Err(TokenRefusal::Malformed)),
        (json!({"exp": "1900000000"}), Err(TokenRefusal::Malformed)),
        (json!({"iat": i64::MIN}), Err(TokenRefusal::TooOld)),
        (json!({"nbf": 1e300}), Err(TokenRefusal::Malformed)),
        (json!({"auth_time": true}), Err(TokenRefusal::Malformed)),
    ];
    for (changes, expected) in cases {
        assert_eq!(judge(&oidc, &sign(changes.clone())).map(drop), expected, "{changes}");
    }
}

#[test]
fn insufficient_authentication() {
    let refusal = TokenRefusal::InsufficientAuthentication;
    let acr = source(|config| config.acr_values = vec!["urn:2fa".into()]);
    judge(&acr, &sign(json!({}))).unwrap();
    for changes in [json!({"acr": null}), json!({"acr": "urn:1fa"}), json!({"acr": ["urn:2fa"]})] {
        assert_eq!(refused(&acr, changes), refusal);
    }
    let amr = source(|config| config.amr_values = vec!["mfa".into()]);
    judge(&amr, &sign(json!({}))).unwrap();
    for changes in [json!({"amr": null}), json!({"amr": ["pwd"]}), json!({"amr": "mfa"})] {
        assert_eq!(refused(&amr, changes), refusal);
    }
    let recent = source(|config| config.max_auth_age = Some(std::time::Duration::from_secs(300)));
    judge(&recent, &sign(json!({"auth_time": NOW - 360}))).unwrap();
    for changes in [json!({"auth_time": NOW - 361}), json!({"auth_time": null})] {
        assert_eq!(refused(&recent, changes), refusal);
    }
    assert_eq!(refused(&source(|_| ()), json!({"auth_time": NOW + 61})), refusal);
}

#[test]
fn subject_rejected() {
    let long = "x".repeat(256);
    for sub in [json!(null), json!(""), json!(long), json!("a\nb"), json!("a\u{0}"), json!(7)] {
        assert_eq!(refused(&source(|_| ()), json!({"sub": sub})), TokenRefusal::SubjectRejected);
    }
    judge(&source(|_| ()), &sign(json!({"sub": "x".repeat(255)}))).unwrap();
}

#[test]
fn groups_unavailable() {
    let (lax, strict) = (source(|_| ()), source(|config| config.groups_required = true));
    let names = |count: usize| (0..count).map(|n| format!("g{n}")).collect::<Vec<_>>();
    for changes in [json!({"groups": names(100)}), json!({"groups": ["a", 1]}), json!({"groups": {}}), json!({"groups": 1})] {
        assert_eq!(refused(&lax, changes), TokenRefusal::GroupsUnavailable);
    }
    let elsewhere = json!({"groups": null, "_claim_names": {"groups": "src1"}});
    assert_eq!(refused(&lax, elsewhere), TokenRefusal::GroupsUnavailable);
    for count in [0, 1, 99, 101] {
        judge(&strict, &sign(json!({"groups": names(count)}))).unwrap();
    }
    judge(&strict, &sign(json!({"groups": "one"}))).unwrap();
    judge(&lax, &sign(json!({"groups": null}))).unwrap();
    assert_eq!(refused(&strict, json!({"groups": null})), TokenRefusal::GroupsUnavailable);
    let nested = source(|config| {
        config.groups_claim = "/realm_access/roles".into();
        config.groups_required = true;
    });
    judge(&nested, &sign(json!({"realm_access": {"roles": []}}))).unwrap();
    assert_eq!(refused(&nested, json!({"realm_access": {}})), TokenRefusal::GroupsUnavailable);
}

/// The first check that fails names the reason.
#[test]
fn the_order_of_the_checks() {
    let oidc = source(|config| {
        config.amr_values = vec!["hwk".into()];
        config.groups_required = true;
    });
    let mut changes = json!({"iss": "https://x", "scp": [], "aud": "x", "exp": 1, "nbf": NOW + 900, "iat": 1, "sub": "", "groups": {}});
    let order = [
        ("iss", json!(ISSUER), TokenRefusal::WrongIssuer),
        ("scp", json!(null), TokenRefusal::WrongTokenType),
        ("aud", json!("app"), TokenRefusal::WrongAudience),
        ("exp", json!(NOW + 1), TokenRefusal::Expired),
        ("nbf", json!(null), TokenRefusal::NotYetValid),
        ("iat", json!(NOW), TokenRefusal::TooOld),
        ("amr", json!(["hwk"]), TokenRefusal::InsufficientAuthentication),
        ("sub", json!("00u1"), TokenRefusal::SubjectRejected),
        ("groups", json!([]), TokenRefusal::GroupsUnavailable),
    ];
    for (claim, mend, expected) in order {
        assert_eq!(refused(&oidc, changes.clone()), expected);
        changes[claim] = mend;
    }
    judge(&oidc, &sign(changes)).unwrap();
}

#[test]
fn what_the_dialects_show() {
    let oidc = source(|config| config.audiences = vec!["api://x".into()]);
    let shown = oidc.sign_in_config();
    assert_eq!((shown.base_url, shown.client_id, shown.issuer, shown.audience), ("https://org.okta.test", "app", ISSUER, "api://x"));
    assert!(!oidc.can_recheck());
}

#[test]
fn a_missing_authority_is_found_at_the_start() {
    let config = OidcSource { ca_file: Some("/nonexistent/ca.pem".into()), ..OidcSource::default() };
    let problems = Oidc::new("okta".into(), &config, Clock::System).unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), ["issuer", "client_id", "ca_file"]);
}
