//! What an evaluation answers: the roles with their reasons, and everything that was refused on the way.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::dn::DnError;
use super::group_key;

/// The roles of a person, each with its reasons, or the denial of the sign-in. Everything in it is sorted: the same facts give
/// the same evaluation, in whatever order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evaluation {
    pub roles: Vec<GrantedRole>,
    /// With one there are no roles, and no sign-in.
    pub denied: Option<Denial>,
    /// What of `require_any` and `require_all` matched: without these groups there would be no sign-in.
    pub admitted_by: Vec<AdmittedBy>,
    /// Roles made of captures that must not be.
    pub dropped: Vec<Dropped>,
    /// Roles that a deny took away.
    pub taken_away: Vec<TakenAway>,
    /// Roles that the client does not let through.
    pub over_ceiling: Vec<String>,
    /// What nearly matched; only [`super::Rules::explain`] looks.
    pub near_misses: Vec<NearMiss>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrantedRole {
    pub role: String,
    pub because: Vec<Reason>,
}

/// Why a person has a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Reason {
    /// A rule, the group or claim value that it matched, and the groups on the way there, nearest to the person first.
    Rule { id: String, matched: Matched, via: Vec<String> },
    /// Every person of the source has it.
    Default { source: String },
    /// The source's own record of the person holds it.
    Assigned,
}

/// A group, as the directory wrote its name, or a value of a claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matched {
    Group(String),
    Claim { pointer: String, value: String },
}

/// Why nobody signs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Denial {
    Deny {
        id: String,
        matched: Matched,
        via: Vec<String>,
    },
    /// None of these matched.
    RequireAny {
        selectors: Vec<String>,
    },
    /// These did not match.
    RequireAll {
        selectors: Vec<String>,
    },
}

/// A group or claim that let the person in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AdmittedBy {
    pub selector: String,
    pub matched: Matched,
    pub via: Vec<String>,
}

/// A role that a rule made of captures and that was not given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Dropped {
    pub role: String,
    pub rule: String,
    pub matched: Matched,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TakenAway {
    pub role: String,
    /// The id of the deny.
    pub deny: String,
    pub matched: Matched,
}

/// A rule, deny or selector that would have matched, but for the reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NearMiss {
    /// `rule team`, `deny leavers` or `require_any`.
    pub condition: String,
    pub found: Matched,
    pub reason: String,
}

/// Facts that cannot be judged. Nothing is decided: not a refusal of the person, but an answer that cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    #[error("no [[source]] is called {0}")]
    UnknownSource(String),
    #[error("the source answered a group name that is none, {dn:?}: {reason}")]
    GroupName { dn: String, reason: DnError },
    #[error("the claim {pointer} holds {found}; a rule looks there and needs a text or a list of texts")]
    Claim { pointer: String, found: &'static str },
    /// Absent is not empty: the provider may have left out exactly what the deny looks for.
    #[error(
        "the deny {deny} looks at the claim {pointer}, and the token has none; have the provider send it (often by a scope), and set \
         groups_required = true at the source if it is its groups_claim"
    )]
    ClaimMissing { deny: String, pointer: String },
    #[error("{count} roles are more than mapping.max_roles = {max}; raise it, narrow the rules or give the client a role_ceiling")]
    TooManyRoles { count: usize, max: usize },
}

impl Evaluation {
    /// The names alone, sorted.
    pub fn role_names(&self) -> Vec<String> {
        self.roles.iter().map(|granted| granted.role.clone()).collect()
    }

    /// The ids of the rules that made the roles: a grant records them, so that it can be revoked by rule.
    pub fn rule_ids(&self) -> Vec<String> {
        let ids: BTreeSet<&String> =
            self.reasons().filter_map(|reason| if let Reason::Rule { id, .. } = reason { Some(id) } else { None }).collect();
        ids.into_iter().cloned().collect()
    }

    /// The groups that made the roles or let the person in, those on the way there too, each as [`group_key`] writes it: a grant records
    /// them, so that it can be revoked by group. Values of claims are among them.
    pub fn group_dns(&self) -> Vec<String> {
        let gave =
            self.reasons().filter_map(|reason| if let Reason::Rule { matched, via, .. } = reason { Some((matched, via)) } else { None });
        let let_in = self.admitted_by.iter().map(|by| (&by.matched, &by.via));
        let all = gave.chain(let_in).flat_map(|(matched, via)| via.iter().map(String::as_str).chain([matched.text()]));
        let all: BTreeSet<String> = all.map(group_key).collect();
        all.into_iter().collect()
    }

    fn reasons(&self) -> impl Iterator<Item = &Reason> {
        self.roles.iter().flat_map(|granted| &granted.because)
    }
}

impl Matched {
    /// The name of the group or the value of the claim.
    pub fn text(&self) -> &str {
        match self {
            Matched::Group(dn) => dn,
            Matched::Claim { value, .. } => value,
        }
    }
}

impl fmt::Display for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Matched::Group(dn) => write!(f, "group {dn}"),
            Matched::Claim { pointer, value } => write!(f, "claim {pointer} = {value}"),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denial::Deny { id, matched, .. } => write!(f, "deny {id} matches {matched}"),
            Denial::RequireAny { selectors } => write!(f, "none of require_any matches: {}", selectors.join(", ")),
            Denial::RequireAll { selectors } => write!(f, "require_all asks for more: {}", selectors.join(", ")),
        }
    }
}
