use super::*;
use crate::roles::compare::Change;

const STAFF: &str = "cn=staff,dc=corp";

fn change(today: &str, then: &str, facts: &Facts) -> Change {
    rules(today).compare(&rules(then), "corp-ad", facts, &["own".to_owned()]).unwrap()
}

fn rule(id: &str, role: &str) -> String {
    format!("[[rule]]\nid = {id:?}\nmatch.dn = {STAFF:?}\nroles = [{role:?}]\n")
}

#[test]
fn the_same_rules_change_nothing() {
    let change = change(&rule("a", "x"), &rule("other-name", "x"), &groups(&[STAFF]));
    assert!(change.is_none() && !change.loses());
}

#[test]
fn roles_come_and_go_with_their_rules() {
    let change = change(&rule("a", "x"), &rule("b", "y"), &groups(&["CN=Staff, DC=corp"]));
    assert!(change.loses());
    assert_eq!((change.lost[0].role.as_str(), change.lost[0].because[0].as_str()), ("x", "rule a, group CN=Staff, DC=corp"));
    assert_eq!((change.gained[0].role.as_str(), change.gained.len(), change.lost.len()), ("y", 1, 1));
}

#[test]
fn a_deny_of_roles_is_named() {
    let deny = format!("{}[[deny]]\nid = \"d\"\nmatch.dn = {STAFF:?}\neffect = \"roles\"\nroles = [\"own\"]\n", rule("a", "x"));
    let change = change(&rule("a", "x"), &deny, &groups(&[STAFF]));
    assert_eq!(change.lost[0].because, ["given to the account itself", "deny d would take it away, group cn=staff,dc=corp"]);
    assert!(change.denied.is_none() && change.gained.is_empty());
}

#[test]
fn a_sign_in_that_ends_is_a_loss_even_without_roles() {
    let deny = format!("[[deny]]\nid = \"d\"\nmatch.dn = {STAFF:?}\n");
    let ended = rules("").compare(&rules(&deny), "corp-ad", &groups(&[STAFF]), &[]).unwrap();
    assert!(ended.loses() && ended.lost.is_empty() && ended.denied.unwrap().starts_with("deny d matches"));
    let begun = rules(&deny).compare(&rules(""), "corp-ad", &groups(&[STAFF]), &["own".to_owned()]).unwrap();
    assert!(!begun.loses() && begun.denied_today.is_some() && begun.gained[0].role == "own");
    let too_many = change(&rule("a", "x"), &format!("max_roles = 1\n{}", rule("a", "x")), &groups(&[STAFF]));
    assert!(too_many.denied.unwrap().contains("max_roles") && too_many.lost.len() == 2);
}

#[test]
fn what_today_cannot_judge_cannot_be_compared() {
    let facts = claims(serde_json::json!({ "groups": 1 }));
    let by_claim = rules("[[rule]]\nid = \"a\"\nmatch.claim = \"/groups\"\nequals = \"x\"\nroles = [\"r\"]\n");
    assert!(by_claim.compare(&rules(""), "okta", &facts, &[]).is_err());
    assert_eq!(by_claim.claims_looked_at("okta").into_iter().collect::<Vec<_>>(), ["/groups"]);
    assert!(!by_claim.denies_by_claim("okta", "/groups"));
}

#[test]
fn what_lets_somebody_in_is_recorded() {
    let mapping = format!("require_any = [\"dn:{STAFF}\", \"dn:cn=b,dc=corp\"]\n{}", rule("a", "x"));
    let evaluation = evaluate(&rules(&mapping), "corp-ad", &groups(&["CN=B,dc=corp", STAFF, "cn=c,dc=corp"]));
    assert_eq!(evaluation.group_dns(), ["cn=b,dc=corp", "cn=staff,dc=corp"]);
    assert_eq!(evaluation.admitted_by.len(), 2);
}
