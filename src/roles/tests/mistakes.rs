//! Every mistake in `[mapping]`, with the path of its key.

use super::*;

/// A rule that is right, with `change` in the place of what follows the id.
fn rule(change: &str) -> String {
    format!("[[rule]]\nid = \"r\"\n{change}")
}

fn paths(mapping: &str) -> Vec<String> {
    compile(mapping).unwrap_err().into_iter().map(|problem| problem.path).collect()
}

#[test]
fn mistakes_in_rules() {
    let dn = "match.dn = \"cn=a,dc=b\"";
    let cn = "match.cn = \"a\"\nunder = \"dc=b\"";
    let regex = "match.cn_regex = \"(?<t>.+)\"\nunder = \"dc=b\"";
    let claim = "match.claim = \"/groups\"";
    let admin = "roles = [\"admin\"]";
    for (change, path) in [
        (admin.to_owned(), "match"),
        (format!("{dn}\nmatch.cn = \"a\"\n{admin}"), "match"),
        (format!("match.dn = \"admins\"\n{admin}"), "match.dn"),
        (format!("{dn}\nunder = \"dc=b\"\n{admin}"), "under"),
        (format!("{dn}\nglob = \"*\"\n{admin}"), "glob"),
        (format!("{cn}\nequals = \"a\"\n{admin}"), "equals"),
        (format!("match.cn = \"a\"\n{admin}"), "under"),
        (format!("match.cn_regex = \"a\"\n{admin}"), "under"),
        (format!("match.cn = \" \"\nunder = \"dc=b\"\n{admin}"), "match.cn"),
        (format!("match.cn = \"a\"\nunder = \"b\"\n{admin}"), "under"),
        (format!("match.cn_regex = \"(\"\nunder = \"dc=b\"\n{admin}"), "match.cn_regex"),
        (format!("{claim}\n{admin}"), "match.claim"),
        (format!("{claim}\nglob = \"a\"\nequals = \"a\"\n{admin}"), "match.claim"),
        (format!("match.claim = \"groups\"\nequals = \"a\"\n{admin}"), "match.claim"),
        (format!("match.claim = \"/a~2\"\nequals = \"a\"\n{admin}"), "match.claim"),
        (format!("{claim}\nequals = \"a\"\nunder = \"dc=b\"\n{admin}"), "under"),
        (format!("{dn}\nroles = []"), "roles"),
        (format!("{dn}\nroles = [\"a\", \"b c\"]"), "roles[1]"),
        (format!("{dn}\nroles = [\"$a\"]"), "roles[0]"),
        (format!("{dn}\nroles = [\"${{a}}\"]\nallow_roles = [\"*\"]"), "roles[0]"),
        (format!("{regex}\nroles = [\"${{u}}\"]\nallow_roles = [\"*\"]"), "roles[0]"),
        (format!("{regex}\nroles = [\"${{t}}\"]"), "allow_roles"),
        (format!("{regex}\nroles = [\"${{t}}\"]\nallow_roles = [\"a b\"]"), "allow_roles[0]"),
        (format!("{dn}\n{admin}\nallow_roles = [\"*\"]"), "allow_roles"),
        (format!("{dn}\n{admin}\nsource = \"corp_ad\""), "source"),
        (format!("{dn}\nroles = [\"countersign:admin\"]"), "roles[0]"),
        (format!("{regex}\nroles = [\"countersign:${{t}}\"]\nallow_roles = [\"*\"]"), "roles[0]"),
        (format!("{regex}\n{admin}\nprivileged = true"), "privileged"),
        (format!("{claim}\nglob = \"*\"\n{admin}\nprivileged = true"), "privileged"),
    ] {
        assert_eq!(paths(&rule(&change)), [format!("mapping.rule[0].{path}")], "{change}");
    }
}

#[test]
fn mistakes_in_ids() {
    let body = "match.dn = \"cn=a,dc=b\"\nroles = [\"a\"]";
    assert_eq!(paths(&format!("[[rule]]\n{body}")), ["mapping.rule[0].id"]);
    assert_eq!(paths(&format!("{0}\n{0}", rule(body))), ["mapping.rule[1].id"]);
    assert_eq!(paths(&format!("{}\n[[deny]]\nid = \"r\"\nmatch.dn = \"cn=a\"", rule(body))), ["mapping.deny[0].id"]);
}

#[test]
fn mistakes_in_denies() {
    let deny = |rest: &str| format!("[[deny]]\nid = \"d\"\n{rest}");
    assert_eq!(paths(&deny("match.dn = \"cn=a\"\nroles = [\"a\"]")), ["mapping.deny[0].roles"]);
    assert_eq!(paths(&deny("match.dn = \"cn=a\"\neffect = \"roles\"")), ["mapping.deny[0].roles"]);
    assert_eq!(paths(&deny("match.dn = \"cn=a\"\neffect = \"roles\"\nroles = [\"\"]")), ["mapping.deny[0].roles[0]"]);
    assert_eq!(paths(&deny("match.cn = \"a\"")), ["mapping.deny[0].under"]);
    assert_eq!(paths(&deny("match.dn = \"cn=a\"\nsource = \"x\"")), ["mapping.deny[0].source"]);
}

#[test]
fn mistakes_in_the_rest() {
    assert_eq!(paths("require_any = [\"dn:a\", \"cn=a\"]"), ["mapping.require_any[0]", "mapping.require_any[1]"]);
    assert_eq!(paths("require_all = [\"claim:groups=a\", \"claim:/groups\"]"), ["mapping.require_all[0]", "mapping.require_all[1]"]);
    assert_eq!(paths("require_all = [\"cn:a\", \"cn:b\"]"), ["mapping.under"]);
    assert_eq!(paths("require_all = [\"cn:\"]\nunder = \"dc=a\""), ["mapping.require_all[0]"]);
    assert_eq!(paths("under = \"dc=a\""), ["mapping.under"]);
    assert_eq!(paths("max_roles = 0"), ["mapping.max_roles"]);
    assert_eq!(paths("defaults.corp = [\"a\"]"), ["mapping.defaults.corp"]);
    assert_eq!(paths("defaults.okta = [\"a\", \"countersign:admin\"]"), ["mapping.defaults.okta[1]"]);
    assert_eq!(paths("[[expect]]\nsource = \"x\""), ["mapping.expect[0].source"]);
    assert_eq!(paths("[[expect]]\nsource = \"okta\"\ndenied = true\nroles = [\"a\"]"), ["mapping.expect[0].roles"]);
}

#[test]
fn the_mend_is_told() {
    let reason = |mapping: &str| compile(mapping).unwrap_err()[0].reason.clone();
    assert_eq!(reason("defaults.corp-da = []"), "no [[source]] is called \"corp-da\"; did you mean corp-ad?");
    assert_eq!(reason("defaults.ldap = []"), "no [[source]] is called \"ldap\"; the sources are corp-ad, okta");
    let regex = rule("match.cn_regex = \"a(b\"\nunder = \"dc=b\"\nroles = [\"a\"]");
    assert!(reason(&regex).starts_with("unclosed group; "), "{}", reason(&regex));
    let capture = rule("match.cn_regex = \"(?<t>a)\"\nunder = \"dc=b\"\nroles = [\"${u}\"]\nallow_roles = [\"*\"]");
    assert_eq!(reason(&capture), "u is no capture of match.cn_regex (it has t); write (?<u>…) there");
}
