//! What a rule, a deny or a selector looks for.

use regex::{Captures, Regex};

use super::dn::{Dn, fold};
use super::evaluation::Matched;
use super::pattern::Pattern;
use super::person::{Member, Person};

#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Dn(Dn),
    Cn { name: String, folded: String, under: Dn },
    CnRegex { regex: Regex, under: Dn },
    ClaimEquals { pointer: String, value: String },
    ClaimGlob { pointer: String, glob: Pattern },
}

/// A group or claim value that a matcher found.
#[derive(Debug)]
pub(super) struct Hit<'a> {
    pub(super) matched: Matched,
    pub(super) via: &'a [String],
    pub(super) captures: Option<Captures<'a>>,
}

impl Matcher {
    pub(super) fn cn(name: &str, under: Dn) -> Matcher {
        Matcher::Cn { name: name.to_owned(), folded: fold(name), under }
    }

    pub(super) fn pointer(&self) -> Option<&str> {
        match self {
            Matcher::ClaimEquals { pointer, .. } | Matcher::ClaimGlob { pointer, .. } => Some(pointer),
            _ => None,
        }
    }

    /// Whether it names one group, without pattern or expression.
    pub(super) fn is_literal(&self) -> bool {
        !matches!(self, Matcher::CnRegex { .. } | Matcher::ClaimGlob { .. })
    }

    /// The common name or claim value of a literal match.
    pub(super) fn literal_name(&self) -> Option<&str> {
        match self {
            Matcher::Dn(dn) => dn.cn(),
            Matcher::Cn { name, .. } => Some(name),
            Matcher::ClaimEquals { value, .. } => Some(value),
            Matcher::CnRegex { .. } | Matcher::ClaimGlob { .. } => None,
        }
    }

    /// Everything about the person that it matches.
    pub(super) fn hits<'a>(&self, person: &'a Person<'_>) -> Vec<Hit<'a>> {
        match self {
            Matcher::Dn(dn) => person.member(dn).map(Hit::group).into_iter().collect(),
            Matcher::Cn { under, .. } | Matcher::CnRegex { under, .. } => {
                person.members().filter(|member| member.dn.is_under(under)).filter_map(|member| self.name_hit(member)).collect()
            }
            Matcher::ClaimEquals { pointer, value } => claim_hits(person, pointer, |claim| claim == value),
            Matcher::ClaimGlob { pointer, glob } => claim_hits(person, pointer, |claim| glob.matches(claim)),
        }
    }

    pub(super) fn finds(&self, person: &Person<'_>) -> bool {
        !self.hits(person).is_empty()
    }

    /// Whether the common name matches, wherever the group stands.
    pub(super) fn name_hit<'a>(&self, member: &'a Member<'_>) -> Option<Hit<'a>> {
        let cn = member.cn.as_deref()?;
        match self {
            Matcher::Cn { folded, .. } => (cn == folded).then(|| Hit::group(member)),
            Matcher::CnRegex { regex, .. } => regex.captures(cn).map(|captures| Hit { captures: Some(captures), ..Hit::group(member) }),
            _ => None,
        }
    }
}

impl<'a> Hit<'a> {
    fn group(member: &'a Member<'_>) -> Hit<'a> {
        Hit { matched: Matched::Group(member.dn.to_string()), via: member.via, captures: None }
    }
}

fn claim_hits<'a>(person: &'a Person<'_>, pointer: &str, matches: impl Fn(&str) -> bool) -> Vec<Hit<'a>> {
    let values = person.claim(pointer).iter().filter(|value| matches(value));
    values
        .map(|value| Hit { matched: Matched::Claim { pointer: pointer.to_owned(), value: (*value).to_owned() }, via: &[], captures: None })
        .collect()
}
