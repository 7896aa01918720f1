//! The groups claim: there, absent, or not all there. Absent is not empty, and incomplete is not short: what may not be all groups
//! is resolved elsewhere or refused, never taken as it is.

use serde_json::Value;

use super::claims::{Refused, refuse};
use super::settings::Settings;
use crate::identity::TokenRefusal;

/// Groups that Okta puts into a token at most. As many may be all of them, or the first of more.
const OKTA_GROUP_LIMIT: usize = 100;

/// What the claims say about groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    All,
    Absent,
    /// And why.
    Incomplete(&'static str),
}

/// Errors: a claim that holds no names of groups.
pub fn look(settings: &Settings, claims: &Value) -> Result<Groups, Refused> {
    let refuse = |detail: &str| refuse(TokenRefusal::GroupsUnavailable, detail);
    // OpenID Connect Core 1.0 section 5.6.2: the provider says that the claim is to be fetched elsewhere.
    let claim = settings.groups.claim();
    if claims.get("_claim_names").is_some_and(|elsewhere| elsewhere.get(&claim).is_some()) {
        return Ok(Groups::Incomplete("the groups are too many for the token, which only says where they are"));
    }
    match settings.groups.of(claims) {
        None | Some(Value::Null) => Ok(Groups::Absent),
        Some(Value::String(_)) => Ok(Groups::All),
        Some(Value::Array(names)) if !names.iter().all(Value::is_string) => refuse("a group is not a string"),
        Some(Value::Array(names)) if names.len() == OKTA_GROUP_LIMIT => {
            Ok(Groups::Incomplete("exactly 100 groups, which may not be all; api_token_file lets Okta be asked"))
        }
        Some(Value::Array(_)) => Ok(Groups::All),
        Some(_) => refuse("the groups claim is neither strings nor a string"),
    }
}

/// Whether the claims do as they are, where nobody can be asked for more.
pub fn settle(settings: &Settings, claims: &Value) -> Result<(), Refused> {
    match look(settings, claims)? {
        Groups::All => Ok(()),
        Groups::Absent if settings.groups_required => {
            refuse(TokenRefusal::GroupsUnavailable, "has no groups claim, and the source has groups_required")
        }
        Groups::Absent => Ok(()),
        Groups::Incomplete(why) => refuse(TokenRefusal::GroupsUnavailable, why),
    }
}

/// The names in the groups claim, once [`look`] has seen that they are strings.
pub fn names(settings: &Settings, claims: &Value) -> Vec<String> {
    match settings.groups.of(claims) {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(name)) => vec![name.clone()],
        _ => Vec::new(),
    }
}
