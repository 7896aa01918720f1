//! Roles that administer Countersign, and what is published of the rules.

use super::*;

const PRIVILEGED: &str = r#"
    [[rule]]
    id = "operators"
    match.dn = "cn=Operators,dc=lab"
    roles = ["countersign:admin", "operator"]
    privileged = true
    [[rule]]
    id = "okta-operators"
    source = "okta"
    match.claim = "/groups"
    equals = "ops"
    roles = ["countersign:read"]
    privileged = true
    [[rule]]
    id = "more"
    match.cn = "operators"
    under = "dc=lab"
    roles = ["extra"]
    [[rule]]
    id = "glob"
    match.claim = "/groups"
    glob = "o*"
    roles = ["globbed"]
"#;

#[test]
fn literal_rules_and_the_record_itself_give_them() {
    let rules = rules(PRIVILEGED);
    assert_eq!(evaluate(&rules, "corp-ad", &groups(&["CN=operators,DC=lab"])).role_names(), ["countersign:admin", "extra", "operator"]);
    assert_eq!(evaluate(&rules, "okta", &claims(serde_json::json!({"groups": ["ops"]}))).role_names(), ["countersign:read", "globbed"]);
    let assigned = rules.evaluate("corp-ad", &groups(&[]), &["countersign:admin".to_owned()]).unwrap();
    assert_eq!(assigned.role_names(), ["countersign:admin"]);
}

#[test]
fn literal_roles_are_published_without_them() {
    let rules = rules(PRIVILEGED);
    let published = rules.literal_roles("okta");
    let of = |name: &str| published.get(name).map(|roles| roles.join(" "));
    assert_eq!(of("Operators"), Some("operator".to_owned()));
    assert_eq!(of("operators"), Some("extra".to_owned()));
    assert_eq!(published.len(), 2);
}

#[test]
fn groups_that_are_stale_give_none_of_them() {
    let rules = rules(PRIVILEGED);
    let stale = |names: &[&str]| rules.evaluate_stale("corp-ad", &groups(names), None).unwrap().role_names();
    assert_eq!(stale(&["cn=Operators,dc=lab"]), ["extra"], "a privileged rule gives nothing, not even an ordinary role");
    assert!(stale(&[]).is_empty());
}
