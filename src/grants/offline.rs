//! A refresh while the source of the person is known to be unreachable (`offline_policy` of the client): the roles that the last good
//! groups have under the rules of today, never a privileged one, for a short time, and at most until `grace` after the last look.

use super::Caller;
use super::sign_in::GrantRecord;
use crate::app::App;
use crate::identity::{Facts, Group};
use crate::storage::grants::{FamilyRow, GrantRow};

/// What may be granted without a look at the source.
pub struct Stale {
    /// The record of the grant with the roles of today's rules.
    pub record: GrantRecord,
    /// Longest life of an access token, in seconds.
    pub lifetime: i64,
}

/// None where the client has no policy, the source may still be reached, the grace is over, or the last good groups would no longer
/// be let in: only the source may end a grant.
pub fn stale(app: &App, caller: &Caller, grant: &GrantRow, family: &FamilyRow, now: i64) -> Option<Stale> {
    let policy = caller.client.settings.offline_policy.as_ref()?;
    if !app.sources.find(&grant.source)?.is_cut_off() {
        return None;
    }
    let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let end = grant.identity_checked_at.saturating_add(seconds(policy.grace)).min(family.expires_at);
    let lifetime = end.saturating_sub(now).min(seconds(policy.access_lifetime));
    if lifetime <= 0 {
        return None;
    }
    let before: GrantRecord = serde_json::from_str(&grant.record).ok()?;
    let groups = before.groups.iter().map(|dn| Group { dn: dn.clone(), via: Vec::new() }).collect();
    let facts = Facts { groups, claims: serde_json::Value::Null };
    let judged = app.rules.evaluate_stale(&grant.source, &facts, caller.client.settings.role_ceiling.as_deref());
    let evaluation = judged.inspect_err(|reason| tracing::warn!(%reason, grant = grant.id, "recorded groups cannot be judged")).ok()?;
    if evaluation.denied.is_some() {
        return None;
    }
    let roles = evaluation.role_names();
    let record = GrantRecord { roles, rules: evaluation.rule_ids(), because_of: evaluation.group_dns(), granted: None, ..before.clone() };
    Some(Stale { record: record.with_causes_of(&before), lifetime })
}
