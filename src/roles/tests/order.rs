//! Each step of the order, and that it comes where it does.

use serde_json::json;

use super::*;
use crate::roles::{Denial, EvaluationError, Explanation, Matched, Reason};

fn names(evaluation: &Evaluation) -> Vec<String> {
    evaluation.role_names()
}

#[test]
fn rules_unite_and_defaults_are_added() {
    let rules = rules(EXAMPLE);
    let facts = groups(&["cn=APP-Red-read, ou=roles,dc=corp,dc=test", r"CN=App\20Admins,OU=Roles,DC=corp,DC=test"]);
    let evaluation = evaluate(&rules, "corp-ad", &facts);
    assert_eq!(names(&evaluation), ["admin", "red:read", "user"]);
    assert_eq!(evaluation.rule_ids(), ["admins", "team"]);
    assert_eq!(evaluation.group_dns(), ["cn=app admins,ou=roles,dc=corp,dc=test", "cn=app-red-read,ou=roles,dc=corp,dc=test"]);
    assert_eq!(evaluation.roles[2].because, [Reason::Default { source: "corp-ad".to_owned() }]);
    assert_eq!(names(&evaluate(&rules, "okta", &groups(&["cn=app-red-read,ou=roles,dc=corp,dc=test"]))), Vec::<String>::new());
}

#[test]
fn claims_match_by_case_as_text_or_list() {
    let rules = rules(EXAMPLE);
    for (value, expected) in [
        (json!({"groups": ["x", "eng-core"]}), vec!["engineer"]),
        (json!({"groups": "eng-core"}), vec!["engineer"]),
        (json!({"groups": ["Eng-core", "xeng-core"]}), vec![]),
        (json!({"groups": []}), vec![]),
        (json!({}), vec![]),
        (json!(null), vec![]),
    ] {
        assert_eq!(names(&evaluate(&rules, "okta", &claims(value.clone()))), expected, "{value}");
    }
}

#[test]
fn facts_that_cannot_be_judged_are_errors() {
    let rules = rules(EXAMPLE);
    for bad in [json!({"groups": 1}), json!({"groups": null}), json!({"groups": ["a", ["b"]]}), json!({"groups": {"a": 1}})] {
        let error = rules.evaluate("okta", &claims(bad.clone()), &[]).unwrap_err();
        assert!(matches!(error, EvaluationError::Claim { .. }), "{bad}: {error}");
        // Nothing of the other source looks there.
        assert!(rules.evaluate("corp-ad", &claims(bad), &[]).is_ok());
    }
    // Even where a deny would have ended it: normalisation comes first.
    let error = rules.evaluate("corp-ad", &groups(&["cn=leavers,ou=hr,dc=corp,dc=test", "leavers"]), &[]).unwrap_err();
    assert!(error.to_string().contains("\"leavers\": at byte 0"), "{error}");
    assert_eq!(rules.evaluate("ldap", &groups(&[]), &[]).unwrap_err(), EvaluationError::UnknownSource("ldap".to_owned()));
}

#[test]
fn a_deny_is_not_dodged_by_leaving_the_claim_out() {
    for effect in ["effect = \"login\"", "effect = \"roles\"\nroles = [\"*\"]"] {
        let deny = |source: &str| format!("[[deny]]\nid = \"banned\"\n{source}match.claim = \"/groups\"\nequals = \"banned\"\n{effect}");
        let rules = |source: &str| rules(&format!("{}\n[defaults]\nokta = [\"user\"]\ncorp-ad = [\"user\"]", deny(source)));
        let missing = EvaluationError::ClaimMissing { deny: "banned".to_owned(), pointer: "/groups".to_owned() };
        for source in ["", "source = \"okta\"\n"] {
            let rules = rules(source);
            for thin in [json!({}), json!({"Groups": ["banned"]})] {
                assert_eq!(rules.evaluate("okta", &claims(thin.clone()), &[]), Err(missing.clone()));
                assert_eq!(rules.explain("okta", &claims(thin), &[]), Err(missing.clone()));
            }
            assert_eq!(names(&evaluate(&rules, "okta", &claims(json!({"groups": []})))), ["user"]);
            // A directory has no claims that could be left out.
            assert_eq!(names(&evaluate(&rules, "corp-ad", &groups(&["cn=a,dc=lab"]))), ["user"]);
        }
        // A deny of another source has no say.
        assert_eq!(names(&evaluate(&rules("source = \"corp-ad\"\n"), "okta", &claims(json!({})))), ["user"]);
        let text = missing.to_string();
        assert!(text.contains("/groups") && text.contains("groups_required = true") && text.contains("scope"), "{text}");
    }
}

#[test]
fn a_deny_of_the_sign_in_comes_before_everything() {
    let rules = rules(EXAMPLE);
    let facts = groups(&["cn=app-red-read,ou=roles,dc=corp,dc=test", "cn=leavers,ou=a,ou=HR,dc=corp,dc=test"]);
    let evaluation = rules.evaluate("corp-ad", &facts, &["admin".to_owned()]).unwrap();
    assert!(evaluation.roles.is_empty());
    let matched = Matched::Group("cn=leavers,ou=a,ou=HR,dc=corp,dc=test".to_owned());
    assert_eq!(evaluation.denied, Some(Denial::Deny { id: "leavers".to_owned(), matched, via: Vec::new() }));
    // A group of that name elsewhere is another group.
    assert_eq!(evaluate(&rules, "corp-ad", &groups(&["cn=leavers,dc=corp,dc=test"])).denied, None);
}

#[test]
fn require_any_and_require_all() {
    let required = rules(
        r#"
        under = "ou=groups,dc=lab"
        require_any = ["dn:cn=app-users,ou=groups,dc=lab", "claim:/groups=app=users"]
        require_all = ["cn:Staff"]
        defaults.corp-ad = ["user"]
        "#,
    );
    let denied = |facts: &Facts| evaluate(&required, "corp-ad", facts).denied;
    assert!(matches!(denied(&groups(&["cn=staff,ou=groups,dc=lab"])), Some(Denial::RequireAny { selectors }) if selectors.len() == 2));
    assert_eq!(
        denied(&groups(&["cn=App-Users,ou=groups,dc=lab", "cn=staff,dc=lab"])),
        Some(Denial::RequireAll { selectors: vec!["cn:Staff".to_owned()] })
    );
    let both = groups(&["cn=App-Users,ou=groups,dc=lab", "cn=staff,ou=groups,dc=lab"]);
    assert_eq!(names(&evaluate(&required, "corp-ad", &both)), ["user"]);
    let by_claim = Facts { claims: json!({"groups": ["app=users"]}), ..groups(&["cn=staff,ou=groups,dc=lab"]) };
    assert_eq!(denied(&by_claim), None);
}

#[test]
fn captures_outside_allow_roles_are_dropped_and_told() {
    let evaluation = evaluate(&rules(EXAMPLE), "corp-ad", &groups(&["cn=app-blue-write,ou=roles,dc=corp,dc=test"]));
    assert_eq!(names(&evaluation), ["user"]);
    assert_eq!(evaluation.dropped[0].role, "blue:write");
    assert_eq!(evaluation.dropped[0].rule, "team");
}

#[test]
fn captures_that_make_no_role_are_dropped() {
    let rules = rules(
        r#"
        [[rule]]
        id = "any"
        match.cn_regex = "x-(?<a>.*?)(?:/(?<b>.*))?"
        under = "dc=lab"
        roles = ["${a}", "b:${b}"]
        allow_roles = ["*"]
        "#,
    );
    let long = format!("cn=x-{},dc=lab", "y".repeat(200));
    let facts = groups(&["cn=x-two words/b,dc=lab", "cn=x-countersign:admin,dc=lab", "cn=x-,dc=lab", "cn=x-a\u{200b}b,dc=lab", &long]);
    let evaluation = evaluate(&rules, "okta", &facts);
    assert_eq!(names(&evaluation), ["b:b"]);
    let reasons: Vec<&str> = evaluation.dropped.iter().map(|dropped| dropped.reason.as_str()).collect();
    assert_eq!(reasons.iter().filter(|reason| reason.starts_with("not a role")).count(), 3);
    assert_eq!(reasons.iter().filter(|reason| reason.starts_with("captures never")).count(), 1);
    assert_eq!(reasons.iter().filter(|reason| reason.starts_with("the capture")).count(), 5);
}

#[test]
fn a_deny_of_roles_takes_from_rules_defaults_and_assigned_alike() {
    let rules = rules(EXAMPLE);
    let facts = groups(&["cn=juniors,dc=corp,dc=test", "cn=app-red-write,ou=roles,dc=corp,dc=test"]);
    let evaluation = rules.evaluate("corp-ad", &facts, &["admin".to_owned(), "auditor".to_owned()]).unwrap();
    assert_eq!(names(&evaluation), ["auditor", "user"]);
    assert_eq!(evaluation.roles[0].because, [Reason::Assigned]);
    let taken: Vec<&str> = evaluation.taken_away.iter().map(|taken| taken.role.as_str()).collect();
    assert_eq!(taken, ["admin", "red:write"]);
}

#[test]
fn max_roles_counts_what_the_ceiling_left() {
    let rules = rules("max_roles = 2\ndefaults.okta = [\"a:1\", \"a:2\", \"b\"]");
    let error = rules.evaluate("okta", &groups(&[]), &[]).unwrap_err();
    assert_eq!(error, EvaluationError::TooManyRoles { count: 3, max: 2 });
    let evaluation = rules.evaluate_under("okta", &groups(&[]), &[], Some(&["a:*".to_owned()])).unwrap();
    assert_eq!(names(&evaluation), ["a:1", "a:2"]);
    assert_eq!(evaluation.over_ceiling, ["b"]);
}

#[test]
fn a_regex_is_whole_whatever_it_holds() {
    let rule = |regex: &str| format!("[[rule]]\nid = \"r\"\nmatch.cn_regex = '{regex}'\nunder = \"dc=lab\"\nroles = [\"r\"]");
    let either = rules(&rule("a|b"));
    assert_eq!(names(&evaluate(&either, "okta", &groups(&["cn=B,dc=lab"]))), ["r"]);
    for dn in ["cn=ax,dc=lab", "cn=xb,dc=lab", r"cn=a\0ab,dc=lab", "ou=a,dc=lab"] {
        assert!(evaluate(&either, "okta", &groups(&[dn])).roles.is_empty(), "{dn}");
    }
    for broken in ["a)|(b", "(?x)a #", "a(", r"\w{5000}", r"(a)\1", ""] {
        let problems = compile(&rule(broken)).unwrap_err();
        assert_eq!(problems[0].path, "mapping.rule[0].match.cn_regex", "{broken}");
    }
}

#[test]
fn the_shortest_way_is_told() {
    let rules = rules(EXAMPLE);
    let name = "CN=app-red-read,OU=Roles,DC=corp,DC=test";
    let group = |via: &[&str]| Group { dn: name.to_owned(), via: via.iter().map(|dn| (*dn).to_owned()).collect() };
    let facts = Facts { groups: vec![group(&["cn=a,dc=x", "cn=b,dc=x"]), group(&["cn=lvl1,dc=x"])], claims: json!(null) };
    let evaluation = rules.explain("corp-ad", &facts, &[]).unwrap();
    assert_eq!(evaluation.group_dns(), ["cn=app-red-read,ou=roles,dc=corp,dc=test", "cn=lvl1,dc=x"]);
    let text = Explanation::new("corp-ad", "jdoe", evaluation).to_string();
    assert!(text.contains("    ← jdoe → lvl1 → app-red-read → rule team (CN=app-red-read,"), "{text}");
}

#[test]
fn near_misses_say_what_is_amiss() {
    let rules = rules(EXAMPLE);
    let of = |source: &str, facts: &Facts| -> Vec<(String, String)> {
        let misses = rules.explain(source, facts, &[]).unwrap().near_misses;
        misses.into_iter().map(|miss| (miss.condition, miss.reason)).collect()
    };
    let miss = |condition: &str, reason: &str| vec![(condition.to_owned(), reason.to_owned())];
    let elsewhere = "it is not under OU=Roles,DC=corp,DC=test";
    assert_eq!(of("corp-ad", &groups(&["cn=app-red-read,ou=x,dc=corp,dc=test"])), miss("rule team", elsewhere));
    assert_eq!(
        of("corp-ad", &groups(&["cn=App Admin,ou=roles,dc=corp,dc=test"])),
        miss("rule admins", "it differs a little from CN=App Admins,OU=Roles,DC=corp,DC=test")
    );
    assert_eq!(
        of("corp-ad", &groups(&["cn=App Admins,ou=x,dc=corp,dc=test"])),
        miss("rule admins", "the name is the same, but it stands elsewhere than CN=App Admins,OU=Roles,DC=corp,DC=test")
    );
    assert_eq!(of("corp-ad", &groups(&["cn=laevers,ou=hr,dc=corp,dc=test"])), vec![]);
    assert_eq!(
        of("corp-ad", &groups(&["cn=leaver,ou=hr,dc=corp,dc=test"])),
        miss("deny leavers", "the name differs a little from leavers")
    );
    assert_eq!(
        of("okta", &groups(&["cn=app-red-read,ou=roles,dc=corp,dc=test"])),
        miss("rule team", "it is for the source corp-ad, and this is okta")
    );
    assert_eq!(of("corp-ad", &groups(&["cn=app-red-read,ou=roles,dc=corp,dc=test"])), vec![]);
}
