use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `[mapping]`: groups to roles. Checked and compiled by `roles`.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    /// A start refuses a mapping by which more of the people who signed in lately would lose a role. Default: 25%, once ten people
    /// did; below that a share says little. Where it is set it counts for any number, and 100% refuses nothing.
    pub max_loss: Option<Share>,
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
            max_loss: None,
            rules: Vec::new(),
            deny: Vec::new(),
            defaults: BTreeMap::new(),
            expect: Vec::new(),
        }
    }
}

/// A share of people: `10%`, `2.5%`. Held in hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    pub const fn percent(percent: u32) -> Share {
        Share(percent * 100)
    }

    /// Whether `part` of `whole` is more than this share.
    pub fn is_exceeded(self, part: usize, whole: usize) -> bool {
        part as u128 * 10_000 > whole as u128 * u128::from(self.0)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let mend = || "write a share from 0% to 100% such as 10% or 2.5%".to_owned();
        let (whole, hundredths) = text.strip_suffix('%').map(|number| number.split_once('.').unwrap_or((number, "0"))).ok_or_else(mend)?;
        let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole, 3) || !digits(hundredths, 2) {
            return Err(mend());
        }
        let number: u32 = format!("{whole}{hundredths:0<2}").parse().map_err(|_| mend())?;
        if number > 10_000 { Err(mend()) } else { Ok(Share(number)) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// `[[mapping.rule]]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
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
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
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
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// No sign-in.
    #[default]
    Login,
    /// Takes roles away, after all rules and defaults.
    Roles,
}

/// `[[mapping.expect]]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, shown) in [("10%", "10%"), ("2.5%", "2.5%"), ("0%", "0%"), ("100%", "100%"), ("0.05%", "0.05%")] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), shown);
        }
        for wrong in ["10", "%", "101%", "100.01%", "-1%", "1e1%", ".5%", "5.%", "1.234%", "ten%", " 10%"] {
            assert!(wrong.parse::<Share>().unwrap_err().contains("such as 10%"), "{wrong}");
        }
        let tenth = Share::percent(10);
        assert!(tenth.is_exceeded(11, 100) && !tenth.is_exceeded(10, 100) && !tenth.is_exceeded(0, 0));
        assert!(Share::percent(0).is_exceeded(1, 10_000) && !Share::percent(100).is_exceeded(5, 5));
    }
}
