//! Groups to roles: rules, evaluation, explanation. Pure: no I/O, no clock.
//!
//! [`Rules::compile`] checks `[mapping]` once, with every mistake and its mend, and runs the `expect` cases. [`Rules::evaluate`]
//! then turns what a source answered ([`facts::Facts`]) into roles, in this order: normalise → deny of the sign-in →
//! `require_any`, `require_all` → every rule, and the roles of the source's own record → `allow_roles` for roles made of captures →
//! defaults → deny of roles → the client's ceiling → `max_roles`. [`Rules::explain`] does the same and adds what nearly matched.

pub mod compare;
pub mod dn;
pub mod explanation;
pub mod facts;

mod compile;
mod evaluate;
mod evaluation;
mod expect;
mod matcher;
mod near;
mod pattern;
mod person;
mod template;

pub use evaluation::{AdmittedBy, Denial, Dropped, Evaluation, EvaluationError, GrantedRole, Matched, NearMiss, Reason, TakenAway};
pub use explanation::Explanation;
pub use pattern::{is_privileged, is_role};

use std::collections::BTreeMap;

use matcher::Matcher;
use pattern::Pattern;
use template::Template;

/// The compiled `[mapping]`.
#[derive(Clone, Debug)]
pub struct Rules {
    sources: Vec<String>,
    require_any: Vec<Selector>,
    require_all: Vec<Selector>,
    rules: Vec<Rule>,
    denies: Vec<Deny>,
    defaults: BTreeMap<String, Vec<String>>,
    max_roles: usize,
}

/// One `dn:…`, `cn:…` or `claim:…` of `require_any` and `require_all`.
#[derive(Clone, Debug)]
struct Selector {
    text: String,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
struct Rule {
    id: String,
    source: Option<String>,
    matcher: Matcher,
    roles: Vec<Template>,
    allow: Vec<Pattern>,
    privileged: bool,
}

#[derive(Clone, Debug)]
struct Deny {
    id: String,
    source: Option<String>,
    matcher: Matcher,
    /// None ends the sign-in.
    roles: Option<Vec<Pattern>>,
}

impl Rules {
    /// What each literally named group of a source gives: its common name or claim value, and the roles, sorted. Roles that
    /// administer Countersign are left out, since the answer is meant for publication.
    pub fn literal_roles(&self, source: &str) -> BTreeMap<String, Vec<String>> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for rule in self.rules.iter().filter(|rule| applies(&rule.source, source)) {
            let Some(name) = rule.matcher.literal_name() else { continue };
            let roles = rule.roles.iter().filter_map(Template::literal).filter(|role| !is_privileged(role)).map(str::to_owned);
            groups.entry(name.to_owned()).or_default().extend(roles);
        }
        groups.retain(|_, roles| {
            roles.sort();
            roles.dedup();
            !roles.is_empty()
        });
        groups
    }

    /// The JSON Pointers of all claims that anything about `source` looks at: rules, denies and selectors.
    pub fn claims_of<'a>(&'a self, source: &'a str) -> impl Iterator<Item = &'a str> {
        let rules = self.rules.iter().filter(move |rule| applies(&rule.source, source)).map(|rule| &rule.matcher);
        let denies = self.denies.iter().filter(move |deny| applies(&deny.source, source)).map(|deny| &deny.matcher);
        let selectors = self.require_any.iter().chain(&self.require_all).map(|selector| &selector.matcher);
        rules.chain(denies).chain(selectors).filter_map(Matcher::pointer)
    }
}

fn applies(of: &Option<String>, source: &str) -> bool {
    of.as_ref().is_none_or(|name| name == source)
}

/// The one text for a group in records and revocations: a distinguished name normalised, anything else as it is.
pub fn group_key(group: &str) -> String {
    dn::Dn::parse(group).map_or_else(|_| group.to_owned(), |name| name.normalised().to_owned())
}

#[cfg(test)]
mod tests;
