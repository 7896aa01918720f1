//! `[[mapping.expect]]`

use super::*;

fn reason(case: &str) -> String {
    let (before, _) = EXAMPLE.split_once("[[expect]]").unwrap();
    let problems = compile(&format!("{before}\n[[expect]]\nsource = \"corp-ad\"\n{case}")).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].path, "mapping.expect[0]");
    problems[0].reason.clone()
}

#[test]
fn cases_that_hold() {
    let cases = r#"
        [[expect]]
        source = "okta"
        claims = { groups = ["eng-a"] }
        roles = ["engineer"]
        [[expect]]
        source = "corp-ad"
        groups = ["cn=Leavers,ou=HR,dc=corp,dc=test"]
        denied = true
    "#;
    compile(&format!("{EXAMPLE}{cases}")).unwrap();
}

#[test]
fn a_failing_case_says_what_came_and_why() {
    assert_eq!(
        reason("groups = [\"CN=App Admins,OU=Roles,DC=corp,DC=test\"]\nroles = [\"user\"]"),
        "expected the roles user, got the roles admin, user; admin comes from rule admins, group CN=App Admins,OU=Roles,DC=corp,DC=test"
    );
    assert_eq!(
        reason("groups = [\"cn=app-red-read,ou=x,dc=corp,dc=test\"]\nroles = [\"red:read\", \"user\"]"),
        "expected the roles red:read, user, got the roles user; nothing gives red:read; rule team nearly matches group \
         cn=app-red-read,ou=x,dc=corp,dc=test: it is not under OU=Roles,DC=corp,DC=test"
    );
    assert_eq!(
        reason("groups = [\"cn=app-blue-write,ou=roles,dc=corp,dc=test\"]\nroles = [\"blue:write\", \"user\"]"),
        "expected the roles blue:write, user, got the roles user; blue:write of rule team was dropped: matches none of allow_roles"
    );
    let junior = "groups = [\"cn=juniors,dc=corp,dc=test\", \"cn=App Admins,OU=Roles,DC=corp,DC=test\"]\nroles = [\"admin\", \"user\"]";
    assert!(reason(junior).ends_with("; admin was taken away by deny juniors, which matches group cn=juniors,dc=corp,dc=test"));
}

#[test]
fn denials_and_errors_fail_too() {
    assert_eq!(reason("denied = true"), "expected a denied sign-in, got the roles user");
    assert_eq!(
        reason("groups = [\"cn=Leavers,ou=HR,dc=corp,dc=test\"]\nroles = [\"user\"]"),
        "expected the roles user, got a denied sign-in: deny leavers matches group cn=Leavers,ou=HR,dc=corp,dc=test"
    );
    assert!(reason("groups = [\"Leavers\"]\ndenied = true").starts_with("expected a denied sign-in, got an error: the source answered"));
}

#[test]
fn the_documented_mapping_holds() {
    let page = include_str!("../../../docs/federate.md");
    let (_, section) = page.split_once("## Map groups to roles").unwrap();
    let example = section.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let mut whole: toml::Table = toml::from_str(example).unwrap();
    let mapping: Mapping = whole.remove("mapping").unwrap().try_into().unwrap();
    Rules::compile(&mapping, &["corp-ad".to_owned(), "okta".to_owned()]).unwrap();
}
