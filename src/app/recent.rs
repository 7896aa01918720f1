//! What another mapping would change for people who signed in lately, judged by what their grants recorded. Nobody is asked.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Config, ConfigError, Mapping, SourceKind};
use crate::identity::{Facts, Group};
use crate::roles::Rules;
use crate::roles::compare::Change;
use crate::storage::{Connection, StorageError, accounts, grants};

/// The most people that are looked at.
pub const MOST_PEOPLE: usize = 10_000;
/// The most grants that are read for it: few people may have very many.
const MOST_GRANTS: usize = 200_000;
const PAGE: i64 = 2000;

/// What the sign-ins of a source left behind for a mapping to judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// A local account: nothing, but its own roles are at hand.
    Nothing,
    /// Distinguished names.
    Groups,
    /// The values of one claim, by JSON Pointer.
    Claim(String),
}

/// A mapping and the sources it is for.
#[derive(Clone, Debug)]
pub struct Standing {
    pub rules: Rules,
    mapping: Mapping,
    sources: BTreeMap<String, Left>,
}

impl Standing {
    /// Whether `new` could take anything from people of `source`: not if it is the same in all that concerns them. A source that is
    /// not in use has nobody to take from.
    pub fn may_take(&self, new: &Standing, source: &str) -> bool {
        self.sources.contains_key(source) && self.what_decides(source) != new.what_decides(source)
    }

    /// Everything of the mapping that decides roles of a source, to compare.
    fn what_decides(&self, source: &str) -> Value {
        let of_source = |of: &Option<String>| of.as_ref().is_none_or(|name| name == source);
        let m = &self.mapping;
        let rules: Vec<_> = m.rules.iter().filter(|rule| of_source(&rule.source)).collect();
        let denies: Vec<_> = m.deny.iter().filter(|deny| of_source(&deny.source)).collect();
        json!({
            "left": self.sources.get(source), "rules": rules, "denies": denies, "defaults": m.defaults.get(source),
            "require": [&m.require_any, &m.require_all], "under": m.under, "max_roles": m.max_roles,
        })
    }

    /// Errors: mistakes of the mapping, with file and line.
    pub fn of(config: &Config) -> Result<Standing, ConfigError> {
        let rules = Rules::compile(&config.mapping, &config.source_names()).map_err(|problems| config.locations.explain(problems))?;
        Ok(Standing { rules, mapping: config.mapping.clone(), sources: sources(config) })
    }
}

/// What each configured source leaves behind.
fn sources(config: &Config) -> BTreeMap<String, Left> {
    let implicit = [crate::config::Source::local()];
    let declared = if config.sources.is_empty() { &implicit[..] } else { &config.sources };
    let left = |kind: &SourceKind| match kind {
        SourceKind::Local(_) => Left::Nothing,
        SourceKind::Ldap(_) => Left::Groups,
        SourceKind::Oidc(settings) => Left::Claim(settings.groups_claim.clone()),
    };
    declared.iter().map(|source| (source.name.clone(), left(&source.kind))).collect()
}

/// A mapping as it is kept in the database: what decides roles, and nothing else, so that equal texts mean equal mappings.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    mapping: Mapping,
    sources: BTreeMap<String, Left>,
}

impl Kept {
    pub fn of(config: &Config) -> Kept {
        let mapping = Mapping { expect: Vec::new(), max_loss: None, ..config.mapping.clone() };
        Kept { mapping, sources: sources(config) }
    }

    /// The error says why it is not understood: another version of this program wrote it.
    pub fn standing(self) -> Result<Standing, String> {
        let names: Vec<String> = self.sources.keys().cloned().collect();
        let rules = Rules::compile(&self.mapping, &names)
            .map_err(|problems| problems.first().map_or_else(String::new, |problem| format!("{}: {}", problem.path, problem.reason)))?;
        Ok(Standing { rules, mapping: self.mapping, sources: self.sources })
    }
}

/// A person who signed in lately at a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub username: String,
    pub source: String,
    groups: Vec<String>,
    /// The roles of a local account itself.
    assigned: Vec<String>,
}

/// People who signed in lately, each with what the newest of their grants at a source recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    pub people: Vec<Person>,
    /// There are more than were looked at.
    pub cut: bool,
}

/// The part of a grant's record that a mapping judges.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Recorded {
    username: String,
    groups: Vec<String>,
}

/// Who signed in, or was asked for again at the source, since `since` (seconds), of one source and by one name if these are given.
pub fn people(c: &mut Connection, since: i64, source: Option<&str>, user: Option<&str>) -> Result<Recent, StorageError> {
    let (mut recent, mut seen, mut accounts_of, mut read) = (Recent::default(), HashSet::new(), Vec::new(), 0);
    let mut before = None;
    'pages: loop {
        let page = grants::recorded(c, since, before.as_deref(), PAGE)?;
        let Some(last) = page.last() else { break };
        before = Some(last.id.clone());
        read += page.len();
        for grant in page {
            if source.is_some_and(|name| name != grant.source) || !seen.insert((grant.account_id.clone(), grant.source.clone())) {
                continue;
            }
            let recorded: Recorded = serde_json::from_str(&grant.record).unwrap_or_default();
            let called = |user: &str| recorded.username == user || recorded.username == format!("{user}@{}", grant.source);
            if !user.is_none_or(called) {
                continue;
            }
            if recent.people.len() == MOST_PEOPLE {
                recent.cut = true;
                break 'pages;
            }
            accounts_of.push(grant.account_id);
            let person = Person { username: recorded.username, source: grant.source, groups: recorded.groups, assigned: Vec::new() };
            recent.people.push(person);
        }
        if read >= MOST_GRANTS {
            recent.cut = true;
            break;
        }
    }
    let mut roles: HashMap<String, Vec<String>> = accounts::roles_of(c, &accounts_of)?;
    for (person, account) in recent.people.iter_mut().zip(&accounts_of) {
        person.assigned = roles.get_mut(account).map(std::mem::take).unwrap_or_default();
    }
    recent.people.sort_by(|a, b| (&a.source, &a.username).cmp(&(&b.source, &b.username)));
    Ok(recent)
}

/// What would change for each of them; the error says why that cannot be told.
pub fn weigh<'a>(today: &Standing, new: &Standing, people: &'a [Person]) -> Vec<(&'a Person, Result<Change, String>)> {
    people.iter().map(|person| (person, judge(today, new, person))).collect()
}

fn judge(today: &Standing, new: &Standing, person: &Person) -> Result<Change, String> {
    let source = person.source.as_str();
    let Some(left) = today.sources.get(source) else { return Err(format!("the source {source} is not in use today")) };
    if new.sources.get(source).is_some_and(|then| std::mem::discriminant(then) != std::mem::discriminant(left)) {
        return Err(format!("{source} would be a source of another kind"));
    }
    let (facts, assigned) = match left {
        Left::Nothing => (Facts::default(), &person.assigned[..]),
        Left::Groups => {
            let groups = person.groups.iter().map(|dn| Group { dn: dn.clone(), via: Vec::new() }).collect();
            (Facts { groups, claims: Value::Null }, &[][..])
        }
        Left::Claim(pointer) => {
            let looked_at = today.rules.claims_looked_at(source).into_iter().chain(new.rules.claims_looked_at(source));
            if let Some(other) = looked_at.into_iter().find(|other| other != pointer) {
                return Err(format!("the mapping looks at the claim {other} of {source}, which no sign-in records"));
            }
            let denies = |rules: &Rules| rules.denies_by_claim(source, pointer);
            if person.groups.is_empty() && denies(&new.rules) && !denies(&today.rules) {
                return Err(format!(
                    "a new deny looks at the claim {pointer}, and whether the token had none or an empty one is not recorded"
                ));
            }
            (Facts { groups: Vec::new(), claims: at(pointer, json!(person.groups)) }, &[][..])
        }
    };
    today.rules.compare(&new.rules, source, &facts, assigned).map_err(|reason| reason.to_string())
}

/// An object that holds `value` at a JSON Pointer.
fn at(pointer: &str, value: Value) -> Value {
    pointer.split('/').skip(1).collect::<Vec<_>>().into_iter().rev().fold(value, |inner, step| {
        let name = step.replace("~1", "/").replace("~0", "~");
        Value::Object(serde_json::Map::from_iter([(name, inner)]))
    })
}

/// A comparison in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// People of whom it can be told what would change.
    pub judged: usize,
    pub lose: usize,
    /// Of those who lose: who could not sign in any more.
    pub denied: usize,
    pub gain: usize,
    pub cannot_be_told: usize,
}

impl Sums {
    pub fn of(weighed: &[(&Person, Result<Change, String>)]) -> Sums {
        let mut sums = Sums::default();
        for (_, change) in weighed {
            match change {
                Ok(change) => {
                    sums.judged += 1;
                    sums.lose += usize::from(change.loses());
                    sums.denied += usize::from(change.denied.is_some());
                    sums.gain += usize::from(!change.gained.is_empty());
                }
                Err(_) => sums.cannot_be_told += 1,
            }
        }
        sums
    }

    /// The share of those who lose, in percent with one digit, rounded.
    pub fn percent(&self) -> f64 {
        if self.judged == 0 { 0.0 } else { (self.lose as f64 * 1000.0 / self.judged as f64).round() / 10.0 }
    }
}

#[cfg(test)]
#[path = "recent/tests.rs"]
mod tests;
