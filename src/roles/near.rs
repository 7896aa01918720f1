//! Near misses: what a person who asks "why not?" most likely looks for. Only for `explain`.

use std::collections::BTreeSet;

use super::dn::Dn;
use super::evaluation::{Matched, NearMiss};
use super::matcher::Matcher;
use super::person::{Member, Person};
use super::{Rules, applies};

/// More than these nobody reads.
const MOST: usize = 50;

/// Rules, denies and selectors that found nothing, and the groups and values that they nearly found.
pub(super) fn misses(rules: &Rules, source: &str, person: &Person<'_>) -> Vec<NearMiss> {
    let of_rules = rules.rules.iter().map(|rule| (format!("rule {}", rule.id), &rule.source, &rule.matcher));
    let of_denies = rules.denies.iter().map(|deny| (format!("deny {}", deny.id), &deny.source, &deny.matcher));
    let any = rules.require_any.iter().map(|selector| (format!("require_any {}", selector.text), &None, &selector.matcher));
    let all = rules.require_all.iter().map(|selector| (format!("require_all {}", selector.text), &None, &selector.matcher));
    let mut misses = BTreeSet::new();
    for (condition, of, matcher) in of_rules.chain(of_denies).chain(any).chain(all) {
        let hits = matcher.hits(person);
        let found: Vec<(Matched, String)> = if applies(of, source) {
            if hits.is_empty() { almost(matcher, person) } else { Vec::new() }
        } else {
            let other = of.as_deref().unwrap_or_default();
            let reason = format!("it is for the source {other}, and this is {source}");
            hits.into_iter().map(|hit| (hit.matched, reason.clone())).collect()
        };
        misses.extend(found.into_iter().map(|(found, reason)| NearMiss { condition: condition.clone(), found, reason }));
        if misses.len() >= MOST {
            break;
        }
    }
    misses.into_iter().take(MOST).collect()
}

fn almost(matcher: &Matcher, person: &Person<'_>) -> Vec<(Matched, String)> {
    match matcher {
        Matcher::Dn(wanted) => person.members().filter_map(|member| Some((group(member), almost_dn(wanted, &member.dn)?))).collect(),
        Matcher::Cn { folded, under, .. } => {
            let reason = |member: &Member<'_>| {
                let cn = member.cn.as_deref()?;
                if cn == folded {
                    return Some(outside(under));
                }
                (member.dn.is_under(under) && typo(cn, folded)).then(|| format!("the name differs a little from {folded}"))
            };
            person.members().filter_map(|member| Some((group(member), reason(member)?))).collect()
        }
        Matcher::CnRegex { under, .. } => {
            let elsewhere = person.members().filter(|member| matcher.name_hit(member).is_some());
            elsewhere.map(|member| (group(member), outside(under))).collect()
        }
        Matcher::ClaimEquals { pointer, value } => {
            let reason = |found: &str| {
                if found.to_lowercase() == value.to_lowercase() {
                    return Some(format!("claims are compared with case, and the rule says {value}"));
                }
                typo(found, value).then(|| format!("it differs a little from {value}"))
            };
            let found = |value: &str| Matched::Claim { pointer: pointer.clone(), value: value.to_owned() };
            person.claim(pointer).iter().filter_map(|value| Some((found(value), reason(value)?))).collect()
        }
        Matcher::ClaimGlob { .. } => Vec::new(),
    }
}

fn almost_dn(wanted: &Dn, found: &Dn) -> Option<String> {
    let same_name = wanted.cn().zip(found.cn()).is_some_and(|(a, b)| super::dn::fold(a) == super::dn::fold(b));
    if same_name {
        return Some(format!("the name is the same, but it stands elsewhere than {wanted}"));
    }
    typo(wanted.normalised(), found.normalised()).then(|| format!("it differs a little from {wanted}"))
}

fn group(member: &Member<'_>) -> Matched {
    Matched::Group(member.dn.to_string())
}

fn outside(under: &Dn) -> String {
    format!("it is not under {under}")
}

/// One or two letters apart, and not because both are short. The length is looked at first, since the distance costs a product.
fn typo(a: &str, b: &str) -> bool {
    let (a_length, b_length) = (a.chars().count(), b.chars().count());
    let allowed = (a_length.min(b_length) / 4).min(2);
    a_length.abs_diff(b_length) <= allowed && strsim::levenshtein(a, b) <= allowed
}
