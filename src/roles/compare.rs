//! What another mapping would change for a person.

use std::collections::BTreeSet;

use serde::Serialize;

use super::evaluation::{Evaluation, EvaluationError, GrantedRole};
use super::explanation::reason;
use super::facts::Facts;
use super::{Rules, applies};

/// What would change for one person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    pub lost: Vec<Moved>,
    pub gained: Vec<Moved>,
    /// Why the sign-in would end, where it does not today.
    pub denied: Option<String>,
    /// Why there is no sign-in today, where there would be one.
    pub denied_today: Option<String>,
}

/// A role that would go or come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    pub role: String,
    /// What gives it, and what would take it away.
    pub because: Vec<String>,
}

impl Change {
    /// Whether the person would have less than today.
    pub fn loses(&self) -> bool {
        self.denied.is_some() || !self.lost.is_empty()
    }

    /// Whether anything would change at all.
    pub fn is_none(&self) -> bool {
        *self == Change::default()
    }
}

impl Rules {
    /// What would change for a person of `source` if `new` were in force in the place of these rules, before any client's ceiling.
    /// The error says why that cannot be told.
    pub fn compare(&self, new: &Rules, source: &str, facts: &Facts, assigned: &[String]) -> Result<Change, EvaluationError> {
        let today = self.evaluate(source, facts, assigned)?;
        let mut change = Change::default();
        let then = match new.evaluate(source, facts, assigned) {
            Ok(then) => then,
            // Facts that the new rules cannot judge end a sign-in as surely as a deny.
            Err(reason) => {
                change.denied = Some(reason.to_string());
                Evaluation::default()
            }
        };
        match (&today.denied, &then.denied) {
            (None, Some(denied)) => change.denied = Some(denied.to_string()),
            (Some(denied), None) => change.denied_today = Some(denied.to_string()),
            _ => {}
        }
        if today.denied.is_some() {
            change.denied = None;
        }
        change.lost = moved(&today, &then);
        for moved in &mut change.lost {
            let taken = then.taken_away.iter().filter(|taken| taken.role == moved.role);
            moved.because.extend(taken.map(|taken| format!("deny {} would take it away, {}", taken.deny, taken.matched)));
        }
        change.gained = moved(&then, &today);
        Ok(change)
    }

    /// The claims, by JSON Pointer, at which anything looks that concerns people of `source`.
    pub fn claims_looked_at(&self, source: &str) -> BTreeSet<&str> {
        let rules = self.rules.iter().filter(|rule| applies(&rule.source, source)).map(|rule| &rule.matcher);
        let denies = self.denies.iter().filter(|deny| applies(&deny.source, source)).map(|deny| &deny.matcher);
        let selectors = self.require_any.iter().chain(&self.require_all).map(|selector| &selector.matcher);
        rules.chain(denies).chain(selectors).filter_map(|matcher| matcher.pointer()).collect()
    }

    /// Whether a deny for people of `source` looks at this claim: then it matters whether a token lacks it or has it empty.
    pub fn denies_by_claim(&self, source: &str, pointer: &str) -> bool {
        self.denies.iter().any(|deny| applies(&deny.source, source) && deny.matcher.pointer() == Some(pointer))
    }
}

/// The roles of `from` that `to` has not.
fn moved(from: &Evaluation, to: &Evaluation) -> Vec<Moved> {
    let gone = from.roles.iter().filter(|granted| to.roles.iter().all(|other| other.role != granted.role));
    let because = |granted: &GrantedRole| granted.because.iter().map(|because| reason(because, "")).collect();
    gone.map(|granted| Moved { role: granted.role.clone(), because: because(granted) }).collect()
}
