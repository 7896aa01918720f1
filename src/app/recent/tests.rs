use super::*;
use crate::config::{File, parse};

fn standing(text: &str) -> Standing {
    let sources = "[[source]]\nname = \"okta\"\ntype = \"okta\"\nissuer = \"https://x.okta.com\"\nclient_id = \"c\"\n\
                   groups_claim = \"/realm/gro~1ups\"\n[[source]]\nname = \"local\"\ntype = \"local\"\n";
    let text = format!("{sources}{text}");
    let config = parse(Some(File { name: "c.toml".into(), text, directory: ".".into() }), []).unwrap();
    let kept = serde_json::to_string(&Kept::of(&config)).unwrap();
    let again: Kept = serde_json::from_str(&kept).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), kept);
    again.standing().unwrap()
}

fn person(source: &str, groups: &[&str]) -> Person {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Person { username: "anna".into(), source: source.into(), groups, assigned: vec!["own".into()] }
}

const RULE: &str = "[[mapping.rule]]\nid = \"eng\"\nmatch.claim = \"/realm/gro~1ups\"\nequals = \"eng\"\nroles = [\"engineer\"]\n";

#[test]
fn the_groups_of_a_provider_are_judged_where_they_stood() {
    let (today, new) = (standing(RULE), standing(&RULE.replace("engineer", "builder")));
    let change = judge(&today, &new, &person("okta", &["eng"])).unwrap();
    assert_eq!((change.lost[0].role.as_str(), change.gained[0].role.as_str()), ("engineer", "builder"));
    assert!(judge(&today, &new, &person("okta", &["x"])).unwrap().is_none());
    // Roles of an account are its own, whatever the groups.
    assert!(judge(&today, &standing("[mapping.defaults]\nlocal = [\"own\"]\n"), &person("local", &[])).unwrap().is_none());
}

#[test]
fn what_was_not_recorded_is_not_guessed() {
    let today = standing(RULE);
    let other =
        standing("[[mapping.rule]]\nid = \"d\"\nsource = \"okta\"\nmatch.claim = \"/department\"\nequals = \"x\"\nroles = [\"r\"]\n");
    assert!(judge(&today, &other, &person("okta", &["eng"])).unwrap_err().contains("/department"));
    let deny = standing("[[mapping.deny]]\nid = \"d\"\nmatch.claim = \"/realm/gro~1ups\"\nequals = \"x\"\n");
    assert!(judge(&today, &deny, &person("okta", &[])).unwrap_err().contains("new deny"));
    assert!(judge(&today, &deny, &person("okta", &["eng"])).unwrap().loses());
    assert!(judge(&today, &today, &person("gone", &[])).is_err());
}

#[test]
fn who_may_lose_something() {
    let today = standing(RULE);
    let corp =
        standing(&format!("{RULE}[[mapping.rule]]\nid = \"l\"\nsource = \"local\"\nmatch.cn = \"x\"\nunder = \"dc=x\"\nroles = [\"r\"]\n"));
    assert!(!today.may_take(&today, "okta") && !today.may_take(&corp, "okta") && today.may_take(&corp, "local"));
    assert!(!today.may_take(&corp, "gone"));
    for changed in ["[mapping]\nmax_roles = 3\n", "[mapping.defaults]\nokta = [\"user\"]\n", "[mapping]\nrequire_any = [\"claim:/a=b\"]\n"]
    {
        assert!(today.may_take(&standing(&format!("{changed}{RULE}")), "okta"), "{changed}");
    }
}

#[test]
fn sums_and_shares() {
    let anna = person("okta", &[]);
    let lost = Change { denied: Some("x".into()), ..Change::default() };
    let weighed = [(&anna, Ok(lost)), (&anna, Ok(Change::default())), (&anna, Ok(Change::default())), (&anna, Err("?".into()))];
    let sums = Sums::of(&weighed);
    assert_eq!(sums, Sums { judged: 3, lose: 1, denied: 1, gain: 0, cannot_be_told: 1 });
    assert_eq!((sums.percent(), Sums::default().percent()), (33.3, 0.0));
}
