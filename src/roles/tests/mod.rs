//! A mapping is written as in the file, so that the tests read like the documentation.

mod comparison;
mod expectations;
mod mistakes;
mod order;
mod privileged;
mod properties;

use super::facts::{Facts, Group};
use super::{Evaluation, Rules};
use crate::config::{Mapping, Problem};

fn compile(mapping: &str) -> Result<Rules, Vec<Problem>> {
    let mapping: Mapping = toml::from_str(mapping).unwrap();
    Rules::compile(&mapping, &["corp-ad".to_owned(), "okta".to_owned()])
}

fn rules(mapping: &str) -> Rules {
    compile(mapping).unwrap()
}

fn groups(dns: &[&str]) -> Facts {
    let groups = dns.iter().map(|dn| Group { dn: (*dn).to_owned(), via: Vec::new() }).collect();
    Facts { groups, claims: serde_json::Value::Null }
}

fn claims(claims: serde_json::Value) -> Facts {
    Facts { groups: Vec::new(), claims }
}

fn evaluate(rules: &Rules, source: &str, facts: &Facts) -> Evaluation {
    rules.evaluate(source, facts, &[]).unwrap()
}

/// The example of the documentation.
const EXAMPLE: &str = r#"
[[rule]]
id = "admins"
source = "corp-ad"
match.dn = "CN=App Admins,OU=Roles,DC=corp,DC=test"
roles = ["admin"]

[[rule]]
id = "team"
source = "corp-ad"
match.cn_regex = "^app-(?<team>[a-z0-9]{1,20})-(?<level>read|write)$"
under = "OU=Roles,DC=corp,DC=test"
roles = ["${team}:${level}"]
allow_roles = ["*:read", "red:write"]

[[rule]]
id = "okta-engineering"
source = "okta"
match.claim = "/groups"
glob = "eng-*"
roles = ["engineer"]

[[deny]]
id = "leavers"
match.cn = "Leavers"
under = "OU=HR,DC=corp,DC=test"
effect = "login"

[[deny]]
id = "juniors"
match.dn = "cn=juniors,dc=corp,dc=test"
effect = "roles"
roles = ["admin", "*:write"]

[defaults]
corp-ad = ["user"]
okta = []

[[expect]]
source = "corp-ad"
groups = ["CN=app-red-read,OU=Roles,DC=corp,DC=test"]
roles = ["red:read", "user"]
"#;
