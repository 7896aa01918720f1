//! What holds for all groups that a person can have.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::roles::dn::{Dn, escape_value};

static RULES: LazyLock<Rules> = LazyLock::new(|| rules(EXAMPLE));

static CAPTURES: LazyLock<Rules> = LazyLock::new(|| {
    rules(
        r#"
        [[rule]]
        id = "all"
        match.cn_regex = "(?s)x-(?<a>.*)"
        under = "dc=lab"
        roles = ["${a}"]
        allow_roles = ["*:read", "countersign:*"]
        "#,
    )
});

fn group() -> impl Strategy<Value = String> {
    let cn = prop_oneof!["app-(red|blue|a\\+b|[a-z0-9]{1,4})-(read|write|admin)", "App Admins", "(?i)leavers|juniors", "\\PC{0,12}"];
    let under = prop_oneof![Just("OU=Roles,DC=corp,DC=test"), Just("OU=HR,DC=corp,DC=test"), Just("DC=corp,DC=test"), Just("DC=other")];
    (cn, under).prop_map(|(cn, under)| format!("CN={},{under}", escape_value(&cn)))
}

fn facts(groups: &[String]) -> Facts {
    super::groups(&groups.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The same name, written with every character of its values as an escape, and in other case.
fn rewritten(dn: &str) -> String {
    let cn = Dn::parse(dn).unwrap().cn().unwrap().to_owned();
    let hex: String = cn.bytes().map(|byte| format!("\\{byte:02X}")).collect();
    let (_, under) = dn.rsplit_once(",OU").unwrap_or_else(|| dn.split_once(",DC").unwrap());
    let level = if dn.contains(",OU") { "ou" } else { "dc" };
    format!("cn = {hex} , {level}{}", under.to_lowercase())
}

proptest! {
    #[test]
    fn one_more_group_takes_no_role_unless_a_deny_matches(groups in prop::collection::vec(group(), 0..6), more in group()) {
        let rules = &*RULES;
        let before = evaluate(rules, "corp-ad", &facts(&groups));
        let mut all = groups;
        all.push(more);
        let after = evaluate(rules, "corp-ad", &facts(&all));
        if after.denied.is_none() {
            let taken: Vec<&String> = after.taken_away.iter().map(|taken| &taken.role).collect();
            for role in before.role_names() {
                prop_assert!(after.role_names().contains(&role) || taken.contains(&&role), "{}", role);
            }
        }
        prop_assert!(before.denied.is_none() || after.denied.is_some());
    }

    #[test]
    fn the_order_of_groups_does_not_matter(groups in prop::collection::vec(group(), 0..8), turn in 0usize..8) {
        let rules = &*RULES;
        let mut turned = groups.clone();
        turned.reverse();
        turned.rotate_left(turn.min(groups.len()));
        prop_assert_eq!(rules.explain("corp-ad", &facts(&groups), &[]), rules.explain("corp-ad", &facts(&turned), &[]));
    }

    #[test]
    fn how_a_directory_writes_a_name_does_not_matter(groups in prop::collection::vec(group(), 0..6)) {
        let rules = &*RULES;
        let other: Vec<String> = groups.iter().map(|dn| rewritten(dn)).collect();
        let (a, b) = (evaluate(rules, "corp-ad", &facts(&groups)), evaluate(rules, "corp-ad", &facts(&other)));
        prop_assert_eq!(a.role_names(), b.role_names());
        prop_assert_eq!(a.group_dns(), b.group_dns());
        prop_assert_eq!(a.denied.is_some(), b.denied.is_some());
    }

    #[test]
    fn captures_make_only_what_allow_roles_allows(cn in "(x-)?(countersign:)?\\PC{0,20}(:read)?") {
        let evaluation = evaluate(&CAPTURES, "okta", &facts(&[format!("cn={},dc=lab", escape_value(&cn))]));
        for role in evaluation.role_names() {
            prop_assert!(role.ends_with(":read") && !role.starts_with("countersign:") && !role.contains(char::is_whitespace));
        }
    }

    #[test]
    fn nothing_panics(
        groups in prop::collection::vec("\\PC{0,30}|(cn|ou)=\\PC{0,20},dc=lab", 0..4),
        claim in "\\PC{0,10}",
        regex in "[a-z()|?<>${}.*+\\\\]{0,12}",
        role in "[a-z${}:]{0,8}",
    ) {
        let mapping = Mapping {
            rules: vec![crate::config::Rule {
                id: "r".to_owned(),
                matches: crate::config::Match { cn_regex: Some(regex), ..Default::default() },
                under: Some("dc=lab".to_owned()),
                roles: vec![role],
                allow_roles: vec!["*".to_owned()],
                ..Default::default()
            }],
            require_any: vec![claim.clone()],
            ..Mapping::default()
        };
        let _ = Rules::compile(&mapping, &["okta".to_owned()]);
        let facts = Facts { claims: serde_json::json!({ "groups": claim }), ..facts(&groups) };
        let _ = RULES.explain("okta", &facts, &[]);
    }
}
