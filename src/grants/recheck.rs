//! The age of what is known about a person, for resource servers that bound it (`identity_max_age`). What a token or this node knows is
//! taken if it is young enough, else what the grant's row says, which another node may have renewed, else the source is asked: once
//! for all who wait, and never by a client that has no such bound.
//!
//! Gone or denied: the grant ends, in one write. Not to be asked in principle: inactive. Not to be asked now: 503.

use std::sync::Arc;

use super::refresh_token::kill_switches;
use super::sign_in::{self, GrantRecord};
use crate::app::App;
use crate::audit::{Event, Record};
use crate::clients::Client;
use crate::identity::checks::{Answered, Checked, Look};
use crate::identity::{Authentication, Identity, Named, Outage};
use crate::oauth2::{GrantId, OAuth2Error, SourceName};
use crate::storage::grants::GrantRow;
use crate::storage::{Connection, StorageError, audit, feed, grants};
use crate::tokens::AccessClaims;
use crate::tokens::revocation::Kind;

/// Flights that began too early for us may be joined this often before we give up.
const TRIES: usize = 4;

/// Bounds the age of what `claims` say about a person by `max_age` seconds: adds when they were checked, and takes away the roles and
/// groups that they have lost, and the scopes that asked for such a role. Answers for how many seconds that holds; None for a grant that is over, or whose source cannot be asked at all.
///
/// Errors: 503 where the source or the database cannot be reached, or the person's groups cannot be judged.
pub async fn bound(app: &Arc<App>, claims: &mut AccessClaims, grant: &GrantId, max_age: i64) -> Result<Option<i64>, OAuth2Error> {
    let now = app.clock.now();
    let own = claims.identity_checked_at.unwrap_or(i64::MIN);
    let oldest = now.saturating_sub(max_age);
    let known = app.checks.known(grant).filter(|known| known.at >= own);
    let at = match known {
        Some(known) if known.at >= oldest => apply(app, claims, &known),
        _ if own >= oldest => own,
        _ => match young_enough(app, grant, oldest).await? {
            Some(checked) => apply(app, claims, &checked),
            None => return Ok(None),
        },
    };
    // Renewed before it is needed, so that whoever asks often seldom waits for the source.
    let ahead = now.saturating_sub(max_age - max_age / 4);
    if at < ahead {
        app.checks.look_ahead(grant, || look(app.clone(), grant.clone(), ahead));
    }
    Ok(Some(at.saturating_add(max_age).saturating_sub(now).max(0)))
}

/// Never more roles, groups and scopes than the token's own.
fn apply(app: &App, claims: &mut AccessClaims, checked: &Checked) -> i64 {
    let newer = claims.identity_checked_at.is_none_or(|own| own < checked.at);
    match &mut claims.roles {
        Some(roles) => roles.retain(|role| checked.roles.contains(role)),
        // Issued without a look since: what is remembered of the last one may hold a privileged role, which the grant's record does not.
        None if claims.groups_stale == Some(true) && !newer => {}
        None => claims.roles = Some(checked.roles.to_vec()),
    }
    if let Some(roles) = &claims.roles {
        sign_in::keep_earned(app, &mut claims.scope, roles);
    }
    if let Some(groups) = &mut claims.groups {
        groups.retain(|group| checked.groups.contains(group));
    }
    claims.username.get_or_insert_with(|| checked.username.to_string());
    if newer {
        // The source was asked since the token was issued, so that what is told now is not stale.
        claims.groups_stale = None;
        claims.identity_checked_at = Some(checked.at);
    }
    checked.at
}

async fn young_enough(app: &Arc<App>, grant: &GrantId, oldest: i64) -> Result<Option<Checked>, OAuth2Error> {
    for _ in 0..TRIES {
        match app.checks.look(grant, || look(app.clone(), grant.clone(), oldest)).await {
            Some(Look::Checked(checked)) if checked.at >= oldest => return Ok(Some(checked)),
            // Somebody who is content with less began it.
            Some(Look::Checked(_)) => {}
            Some(Look::Over) => return Ok(None),
            Some(Look::Unavailable(reason)) => return Err(unknown(reason.to_string())),
            None => return Err(unknown("the look at the source came to nothing")),
        }
    }
    Err(unknown("looks at the source were too old by the time they ended"))
}

fn unknown(reason: impl Into<String>) -> OAuth2Error {
    OAuth2Error::unavailable("the identity source cannot be asked now, and what is known about the person is too old")
        .because(reason.into())
}

/// One look for one grant. It ends even if nobody waits any more.
async fn look(app: Arc<App>, grant: GrantId, oldest: i64) -> Look {
    match checked(&app, &grant, oldest).await {
        Ok(Some(checked)) => {
            app.checks.remember(&grant, &checked);
            Look::Checked(checked)
        }
        Ok(None) => {
            app.checks.forget(&grant);
            Look::Over
        }
        Err(reason) => {
            tracing::debug!(grant = grant.as_str(), reason, "the age of an identity could not be bounded");
            Look::Unavailable(reason.into())
        }
    }
}

/// The row if it is young enough, else what the source says, written down. None if the grant is over. Errors: reasons for the log.
async fn checked(app: &Arc<App>, grant: &GrantId, oldest: i64) -> Result<Option<Checked>, String> {
    let id = grant.to_string();
    let Some(row) = app.storage.read(move |c| living(c, &id)).await.map_err(|error| error.to_string())? else { return Ok(None) };
    if row.identity_checked_at >= oldest {
        return told(app, &row).map(Some);
    }
    let Some(client) = app.clients.find(&row.client_id) else { return Ok(None) };
    let Some(named) = app.sources.find(&row.source).filter(|named| named.can_recheck()) else { return Ok(None) };
    let before = record_of(&row)?;
    let answered = ask(app, &named.name, &before.subject, oldest).await.map_err(|outage| outage.to_string())?;
    let verdict = match &*answered.answer {
        Authentication::Authenticated(identity) => judge(app, &client, identity, &before)?,
        Authentication::Refused(refusal) => Verdict::Over(refusal.reason.as_str()),
        Authentication::Unavailable(outage) => {
            crate::metrics::rechecked(&row.source, "unavailable");
            return Err(outage.to_string());
        }
    };
    crate::metrics::rechecked(&row.source, if matches!(verdict, Verdict::Still(_)) { "ok" } else { "over" });
    let over = matches!(verdict, Verdict::Over(_));
    let write = Write { id: row.id, verdict, before, at: answered.at, now: app.clock.now() };
    let row = app.storage.write(move |tx| write.run(tx)).await.map_err(|error| error.to_string())?;
    if over {
        app.catch_up().await.map_err(|error| error.to_string())?;
    }
    row.map(|row| told(app, &row)).transpose()
}

/// Asks the source about a person, no earlier than `oldest`; together with all others who want to know. A question that is under way is
/// joined, and asked anew if it turns out to have been put before `oldest`.
///
/// Errors: there was no answer that is young enough.
pub(super) async fn ask(app: &Arc<App>, source: &SourceName, subject: &str, oldest: i64) -> Result<Answered, Outage> {
    for _ in 0..TRIES {
        let question = || {
            let (app, source, subject) = (app.clone(), source.clone(), subject.to_owned());
            async move { put(&app, &source, &subject).await }
        };
        match app.checks.ask(source, subject, question).await {
            Some(answered) if answered.at >= oldest => return Ok(answered),
            Some(_) => {}
            None => return Err(Outage::new(source, "the question came to nothing")),
        }
    }
    Err(Outage::new(source, "its answers were too old by the time they came"))
}

async fn put(app: &App, source: &SourceName, subject: &str) -> Answered {
    let turn = app.checks.turn(source).await;
    // Before the source looks: what changes there meanwhile may be missing in its answer.
    let at = app.clock.now();
    let answer = match (&turn, app.sources.find(source.as_str())) {
        (Ok(_), Some(named)) => Named::recheck(named, subject).await,
        (Ok(_), None) => Authentication::Unavailable(Outage::new(source, "the source is gone")),
        (Err(busy), _) => Authentication::Unavailable(Outage::new(source, busy.reason.clone())),
    };
    Answered { at, answer: Arc::new(answer) }
}

enum Verdict {
    Still(Box<GrantRecord>),
    Over(&'static str),
}

/// What the person has today by the rules of today, under the ceiling of the grant's client, and no role that was not issued.
fn judge(app: &App, client: &Client, identity: &Identity, before: &GrantRecord) -> Result<Verdict, String> {
    let ceiling = client.settings.role_ceiling.as_deref();
    let judged = app.rules.evaluate_under(identity.source.as_str(), &identity.facts, &identity.assigned_roles, ceiling);
    let evaluation = judged.map_err(|reason| reason.to_string())?;
    if evaluation.denied.is_some() {
        return Ok(Verdict::Over("denied_by_mapping"));
    }
    let now = GrantRecord::of(identity, &evaluation, &evaluation.role_names(), &before.username);
    Ok(Verdict::Still(Box::new(now.since(before))))
}

/// The grant, unless a revocation has ended it.
fn living(c: &mut Connection, id: &str) -> Result<Option<GrantRow>, StorageError> {
    let Some(row) = grants::find(c, id)? else { return Ok(None) };
    let revoked = feed::latest_matching(c, &kill_switches(&row))?.is_some_and(|n| n > row.rv);
    Ok((!revoked).then_some(row))
}

fn record_of(row: &GrantRow) -> Result<GrantRecord, String> {
    serde_json::from_str(&row.record).map_err(|reason| format!("the record of the grant {} cannot be read: {reason}", row.id))
}

fn told(app: &App, row: &GrantRow) -> Result<Checked, String> {
    let record = record_of(row)?;
    // Groups are long: they are kept for tokens that tell some.
    let tells = |client: Arc<Client>| client.settings.jwt_claims.iter().any(|claim| claim == "groups");
    let groups = if app.clients.find(&row.client_id).is_some_and(tells) { record.groups } else { Vec::new() };
    Ok(Checked { at: row.identity_checked_at, roles: record.roles.into(), groups: groups.into(), username: record.username.into() })
}

/// The one write after a look.
struct Write {
    id: String,
    verdict: Verdict,
    before: GrantRecord,
    at: i64,
    now: i64,
}

impl Write {
    /// The row as it stands afterwards, or None if the grant is over: what was revoked meanwhile stays so.
    fn run(self, tx: &mut Connection) -> Result<Option<GrantRow>, StorageError> {
        let Some(row) = living(tx, &self.id)? else { return Ok(None) };
        let record = |record: Record| record.client(&row.client_id).account(&row.account_id).source(&row.source);
        let after = match self.verdict {
            Verdict::Over(reason) => {
                grants::kill_families_of(tx, &row.id)?;
                feed::append(tx, Kind::Grant.as_str(), &row.id, row.expires_at, self.now)?;
                let detail = serde_json::json!({ "grant_id": row.id });
                audit::insert(tx, &record(Record::refused(Event::RecheckRefused, self.now, reason)).detail(detail))?;
                return Ok(None);
            }
            Verdict::Still(after) => after,
        };
        let text = serde_json::to_string(&after).map_err(|reason| StorageError::Invalid(reason.to_string()))?;
        if grants::update_rechecked(tx, &row.id, &text, self.at)? && after.roles != self.before.roles {
            let detail = serde_json::json!({ "grant_id": row.id, "roles": after.roles, "before": self.before.roles });
            audit::insert(tx, &record(Record::ok(Event::RolesRechecked, self.now)).detail(detail))?;
        }
        // Read again: a newer look stands, and its roles count.
        grants::find(tx, &row.id)
    }
}
