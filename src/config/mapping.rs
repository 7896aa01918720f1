use std::collections::BTreeMap;

use serde::Deserialize;

/// `[mapping]`: groups to roles. Checked and compiled by `roles`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// Selectors (`dn:…`, `cn:…` with `under`, `claim:/pointer=value`), one of which a person must match to sign in at all.
    pub require_any: Vec<String>,
    /// Selectors that must all match.
    pub require_all: Vec<String>,
    /// The subtree that `cn:` selectors of `require_any` and `require_all` look under.
    pub under: Option<String>,
    /// More roles than this is an error, never a cut list.
    pub max_roles: usize,
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    pub deny: Vec<Deny>,
    /// Roles that every person of a source has.
    pub defaults: BTreeMap<String, Vec<String>>,
    /// Unit tests of the rules, run by `countersign check` and at start.
    pub expect: Vec<Expect>,
}

impl Default for Mapping {
    fn default() -> Self {
        Mapping {
            require_any: Vec::new(),
            require_all: Vec::new(),
            under: None,
            max_roles: 64,
            rules: Vec::new(),
            deny: Vec::new(),
            defaults: BTreeMap::new(),
            expect: Vec::new(),
        }
    }
}

/// `[[mapping.rule]]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    pub id: String,
    /// The source it applies to; without one it applies to all.
    pub source: Option<String>,
    #[serde(rename = "match")]
    pub matches: Match,
    /// The subtree in which a CN match counts.
    pub under: Option<String>,
    /// With `match.claim`: a value that matches this pattern (`*` and `?`).
    pub glob: Option<String>,
    /// With `match.claim`: exactly this value.
    pub equals: Option<String>,
    /// Roles it gives; `${name}` is a capture of the regex.
    pub roles: Vec<String>,
    /// Patterns that a role made of captures must match, else it is dropped and audited.
    pub allow_roles: Vec<String>,
    /// Allows roles that begin `countersign:`, for a literal match only.
    pub privileged: bool,
}

/// `match.…`: exactly one of these.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// A group's distinguished name, compared as parsed RDNs.
    pub dn: Option<String>,
    /// A group's common name; needs `under`.
    pub cn: Option<String>,
    /// A regular expression over the whole common name; needs `under`.
    pub cn_regex: Option<String>,
    /// A JSON Pointer into the claims; needs `glob` or `equals`.
    pub claim: Option<String>,
}

/// `[[mapping.deny]]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deny {
    pub id: String,
    pub source: Option<String>,
    #[serde(rename = "match")]
    pub matches: Match,
    pub under: Option<String>,
    pub glob: Option<String>,
    pub equals: Option<String>,
    pub effect: Effect,
    /// With `effect = "roles"`: patterns of the roles it takes away.
    pub roles: Vec<String>,
}

/// What a deny rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// No sign-in.
    #[default]
    Login,
    /// Takes roles away, after all rules and defaults.
    Roles,
}

/// `[[mapping.expect]]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    pub source: String,
    /// Group names (DNs) the person is in.
    pub groups: Vec<String>,
    /// Claims the person has.
    pub claims: Option<serde_json::Value>,
    /// Exactly the roles that must come out, in any order.
    pub roles: Vec<String>,
    /// Instead of roles: the sign-in must be denied.
    pub denied: bool,
}
