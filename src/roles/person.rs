//! What is known about one person, normalised for the rules.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::dn::{Dn, fold};
use super::evaluation::EvaluationError;
use super::facts::Facts;
use super::matcher::Matcher;

#[derive(Debug)]
pub(super) struct Person<'a> {
    /// By normalised name, so that neither the order nor the way a directory wrote a name matters.
    groups: BTreeMap<String, Member<'a>>,
    /// By JSON Pointer: the values of each claim that a rule looks at.
    claims: HashMap<&'a str, Vec<&'a str>>,
}

/// A membership in a group.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) dn: Dn,
    /// The common name as equality sees it.
    pub(super) cn: Option<String>,
    pub(super) via: &'a [String],
}

impl<'a> Person<'a> {
    /// Fails on a group name that does not parse and on a claim that is no text where one of `matchers` looks: such facts cannot
    /// be judged, and leaving them out could give a role that a deny would have taken.
    pub(super) fn new(facts: &'a Facts, matchers: impl Iterator<Item = &'a Matcher>) -> Result<Person<'a>, EvaluationError> {
        let mut groups: BTreeMap<String, Member<'a>> = BTreeMap::new();
        for group in &facts.groups {
            let dn = Dn::parse(&group.dn).map_err(|reason| EvaluationError::GroupName { dn: group.dn.clone(), reason })?;
            let member = Member { cn: dn.cn().map(fold), dn, via: &group.via };
            let key = member.dn.normalised().to_owned();
            // Reached in several ways, the shortest is told.
            let order = |member: &Member<'a>| (member.via.len(), member.via, member.dn.to_string());
            if groups.get(&key).is_none_or(|known| order(&member) < order(known)) {
                groups.insert(key, member);
            }
        }
        let mut claims = HashMap::new();
        for pointer in matchers.filter_map(Matcher::pointer) {
            if !claims.contains_key(pointer) {
                claims.insert(pointer, texts(facts.claims.pointer(pointer), pointer)?);
            }
        }
        Ok(Person { groups, claims })
    }

    pub(super) fn member(&self, dn: &Dn) -> Option<&Member<'a>> {
        self.groups.get(dn.normalised())
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member<'a>> {
        self.groups.values()
    }

    pub(super) fn claim(&self, pointer: &str) -> &[&'a str] {
        self.claims.get(pointer).map_or(&[], Vec::as_slice)
    }
}

/// A claim is a text or a list of texts; one that is absent has no value.
fn texts<'a>(claim: Option<&'a Value>, pointer: &str) -> Result<Vec<&'a str>, EvaluationError> {
    let refuse = |found: &Value| EvaluationError::Claim { pointer: pointer.to_owned(), found: kind(found) };
    match claim {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.as_str()]),
        Some(Value::Array(values)) => values.iter().map(|value| value.as_str().ok_or_else(|| refuse(value))).collect(),
        Some(other) => Err(refuse(other)),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list inside the list",
        Value::Object(_) => "an object",
    }
}
