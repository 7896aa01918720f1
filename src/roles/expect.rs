//! `[[mapping.expect]]`: the unit tests of a mapping.

use std::collections::BTreeSet;

use super::evaluation::Evaluation;
use super::facts::{Facts, Group};
use super::{Rules, explanation};
use crate::config::{self, Problem};

/// The cases that do not come out as they say, each with what was expected, what came and why.
pub(super) fn failures(rules: &Rules, cases: &[config::Expect]) -> Vec<Problem> {
    let failure = |(i, case): (usize, &config::Expect)| Some(Problem::new(format!("mapping.expect[{i}]"), failure(rules, case)?));
    cases.iter().enumerate().filter_map(failure).collect()
}

fn failure(rules: &Rules, case: &config::Expect) -> Option<String> {
    let groups = case.groups.iter().map(|dn| Group { dn: dn.clone(), via: Vec::new() }).collect();
    let facts = Facts { groups, claims: case.claims.clone().unwrap_or_default() };
    let expected: BTreeSet<&str> = case.roles.iter().map(String::as_str).collect();
    let wanted = if case.denied { "a denied sign-in".to_owned() } else { list(&expected) };
    let evaluation = match rules.explain(&case.source, &facts, &[]) {
        Ok(evaluation) => evaluation,
        Err(error) => return Some(format!("expected {wanted}, got an error: {error}")),
    };
    match (&evaluation.denied, case.denied) {
        (Some(_), true) => None,
        (Some(denied), false) => Some(format!("expected {wanted}, got a denied sign-in: {denied}{}", near(&evaluation))),
        (None, denied) => {
            let got: BTreeSet<&str> = evaluation.roles.iter().map(|granted| granted.role.as_str()).collect();
            if !denied && got == expected {
                return None;
            }
            let why = if denied { near(&evaluation) } else { differences(&evaluation, &expected, &got) };
            Some(format!("expected {wanted}, got {}{why}", list(&got)))
        }
    }
}

fn list(roles: &BTreeSet<&str>) -> String {
    if roles.is_empty() {
        return "no roles".to_owned();
    }
    format!("the roles {}", roles.iter().copied().collect::<Vec<_>>().join(", "))
}

fn differences(evaluation: &Evaluation, expected: &BTreeSet<&str>, got: &BTreeSet<&str>) -> String {
    let mut text = String::new();
    for granted in evaluation.roles.iter().filter(|granted| !expected.contains(granted.role.as_str())) {
        let reasons: Vec<String> = granted.because.iter().map(|reason| explanation::reason(reason, "")).collect();
        text.push_str(&format!("; {} comes from {}", granted.role, reasons.join(" and ")));
    }
    let mut missing: BTreeSet<&str> = expected.difference(got).copied().collect();
    for taken in evaluation.taken_away.iter().filter(|taken| missing.contains(taken.role.as_str())) {
        text.push_str(&format!("; {} was taken away by deny {}, which matches {}", taken.role, taken.deny, taken.matched));
    }
    for dropped in evaluation.dropped.iter().filter(|dropped| missing.contains(dropped.role.as_str())) {
        text.push_str(&format!("; {} of rule {} was dropped: {}", dropped.role, dropped.rule, dropped.reason));
    }
    missing.retain(|role| !text.contains(&format!("; {role} ")));
    if !missing.is_empty() {
        let missing = missing.into_iter().collect::<Vec<_>>().join(", ");
        text.push_str(&format!("; nothing gives {missing}{}", near(evaluation)));
    }
    text
}

fn near(evaluation: &Evaluation) -> String {
    evaluation.near_misses.iter().map(|miss| format!("; {} nearly matches {}: {}", miss.condition, miss.found, miss.reason)).collect()
}
