//! RFC 6749 section 6 with rotation and reuse detection (RFC 9700 section 4.14.2). The token names a family and a generation; one
//! guarded update moves the family on. The person is asked for again at the source each time, by a question that was put after the
//! request came; requests that come together share it.

use std::sync::Arc;

use super::attempt::{of_caller, unavailable};
use super::issue::{self, Person, Subject};
use super::sign_in::{self, GrantRecord, SignedIn};
use super::{Asked, Caller, Issued, inspect, offline, recheck};
use crate::app::App;
use crate::audit::{Event, Record};
use crate::identity::Authentication;
use crate::oauth2::{ErrorCode, FamilyId, OAuth2Error, Scope, Secret, TokenResponse};
use crate::storage::accounts::AccountRow;
use crate::storage::causes::{self, Cause};
use crate::storage::grants::{FamilyRow, GrantRow};
use crate::storage::{Connection, StorageError, accounts, audit, feed, grants};
use crate::tokens::CLOCK_MARGIN;
use crate::tokens::refresh::RefreshClaims;
use crate::tokens::revocation::Kind;

pub async fn grant(app: &Arc<App>, caller: &Caller, asked: Asked, presented: Secret) -> Result<Issued, OAuth2Error> {
    let claims = inspect::refresh_claims(app, presented.expose()).await?.filter(|claims| claims.client_id == caller.client.id);
    let Some(claims) = claims else { return Err(refuse(app, caller, "unknown_refresh_token", asked.now)) };
    let Some(held) = Held::load(app, &claims).await? else { return Err(refuse(app, caller, "unknown_refresh_token", asked.now)) };
    let grace = app.config.tokens.refresh_grace.as_secs() as i64;

    match held.judge(&claims, asked.now, grace) {
        Judgement::Usable => {}
        Judgement::Over(reason) => return Err(refuse(app, caller, reason, asked.now)),
        Judgement::Replayed => {
            let audit = refused_audit(caller, &held, Event::RefreshReplayed, "replayed", asked.now);
            let family = claims.family.to_string();
            app.storage.write(move |tx| end_family(tx, &family, &audit)).await?;
            app.catch_up().await?;
            crate::metrics::sign_in_refused("refresh_token_replayed");
            return Err(OAuth2Error::invalid_grant());
        }
    }
    // What was taken from the client since the sign-in is taken from its families too.
    if !caller.client.admits_source(&held.grant.source) {
        return Err(held.end(app, caller, "source_not_allowed", asked.now).await);
    }
    let mut family_scope: Scope = Scope::parse(&held.family.scope).unwrap_or_default();
    if asked.scope.as_ref().is_some_and(|scope| !scope.is_subset(&family_scope)) {
        app.refusals.record(refused_audit(caller, &held, Event::RefreshRefused, "invalid_scope", asked.now));
        return Err(OAuth2Error::new(ErrorCode::InvalidScope, "the scope is beyond what was granted at sign-in"));
    }

    family_scope.retain(|token| caller.client.scopes.contains(token));

    let standing = match held.standing(app, caller, asked.now).await? {
        Ok(standing) => standing,
        Err(reason) => return Err(held.end(app, caller, &reason, asked.now).await),
    };
    let Standing { record, stale_for, .. } = &standing;
    let roles = record.roles.clone();
    let scope = sign_in::scope_for(app, asked.scope, &family_scope, &roles);

    let tokens = &app.config.tokens;
    let person = Person {
        account: held.account.id.as_str().into(),
        grant: held.grant.id.as_str().into(),
        source: held.grant.source.as_str().into(),
        username: held.account.username.clone(),
        groups: record.groups.clone(),
        auth_time: held.grant.auth_time,
        amr: record.amr.clone(),
        identity_checked_at: standing.checked_at,
        stale_for: *stale_for,
        exchanged: record.exchanged,
    };
    let audience = if asked.retarget { asked.audience } else { held.audience(app, caller)? };
    // Before the rotation: a token that cannot be made must not cost the caller the refresh token.
    let minted = issue::access_token(app, &caller.client, Subject::Person(&person), &scope, &audience, roles.clone(), asked.rv, asked.now)?;

    let rotation = Rotation {
        claims: claims.clone(),
        grant: held.grant.clone(),
        causes: record.causes(&held.grant.source),
        rv: asked.rv,
        record: serde_json::to_string(record).map_err(|reason| StorageError::Invalid(reason.to_string()))?,
        idle_expires_at: asked.now + tokens.refresh_idle.as_secs() as i64,
        grant_expires_at: held.family.expires_at + issue::access_lifetime(app, &caller.client) + CLOCK_MARGIN,
        grace,
        repeated: refresh_audit(caller, &held, Event::RefreshRepeated, asked.now),
        replayed: refused_audit(caller, &held, Event::RefreshReplayed, "replayed", asked.now),
        stale: stale_for.is_some(),
        refreshed: match stale_for {
            None => refresh_audit(caller, &held, Event::Refreshed, asked.now),
            Some(_) => refresh_audit(caller, &held, Event::RefreshedOffline, asked.now)
                .detail(serde_json::json!({ "identity_checked_at": held.grant.identity_checked_at, "roles": roles })),
        },
        checked_at: standing.checked_at,
        now: asked.now,
    };
    let generation = match app.storage.write(move |tx| rotation.write(tx)).await? {
        Rotated::To(generation) => generation,
        Rotated::Outdated => return Err(OAuth2Error::unavailable("the identity source has just come back; nothing was decided")),
        Rotated::Refused(reason) => {
            app.catch_up().await?;
            crate::metrics::sign_in_refused(reason);
            return Err(OAuth2Error::invalid_grant());
        }
    };

    let refresh =
        issue::refresh_token(app, &caller.client, &FamilyId::from(held.family.id.as_str()), generation, held.family.expires_at, asked.now)?;
    let response = TokenResponse {
        access_token: minted.token,
        expires_in: minted.expires_in,
        scope,
        refresh_token: Some(refresh),
        issued_token_type: None,
    };
    let signed_in = SignedIn {
        account_number: held.account.number,
        username: held.account.username,
        password_never_changed: standing.password_never_changed,
    };
    Ok(Issued { response, person: Some(signed_in), roles })
}

fn refuse(app: &App, caller: &Caller, reason: &'static str, now: i64) -> OAuth2Error {
    crate::metrics::sign_in_refused(reason);
    app.refusals.record(of_caller(Record::refused(Event::RefreshRefused, now, reason), caller));
    OAuth2Error::invalid_grant()
}

/// Ends a family for good, in the transaction of the audit record. Its access tokens die with the grant, on this node once it has
/// caught up with the feed.
fn end_family(tx: &mut Connection, family: &str, audit: &Record) -> Result<(), StorageError> {
    if let Some(row) = grants::family(tx, family)? {
        grants::kill_family(tx, family)?;
        let until = grants::find(tx, &row.grant_id)?.map_or(row.expires_at + CLOCK_MARGIN, |grant| grant.expires_at);
        feed::append(tx, Kind::Grant.as_str(), &row.grant_id, until, audit.at)?;
    }
    crate::storage::audit::insert(tx, audit)
}

/// What the database holds for a refresh token.
struct Held {
    family: FamilyRow,
    grant: GrantRow,
    account: AccountRow,
    /// The highest revocation that matches, if any.
    revoked_by: Option<i64>,
}

/// How the person stands now, or stood when their source could last be asked.
struct Standing {
    record: GrantRecord,
    /// When the source was last asked, in seconds.
    checked_at: i64,
    /// Set where the source was not asked: the longest life of an access token, in seconds.
    stale_for: Option<i64>,
    password_never_changed: bool,
}

enum Judgement {
    Usable,
    Over(&'static str),
    /// An older or future generation: somebody has a copy.
    Replayed,
}

impl Held {
    async fn load(app: &App, claims: &RefreshClaims) -> Result<Option<Held>, OAuth2Error> {
        let id = claims.family.to_string();
        let held = app.storage.read(move |c| {
            let Some(family) = grants::family(c, &id)? else { return Ok(None) };
            let Some(grant) = grants::find(c, &family.grant_id)? else { return Ok(None) };
            let Some(account) = accounts::find(c, &grant.account_id)? else { return Ok(None) };
            let revoked_by = feed::latest_matching(c, &kill_switches(&grant))?;
            Ok(Some(Held { family, grant, account, revoked_by }))
        });
        Ok(held.await?)
    }

    fn judge(&self, claims: &RefreshClaims, now: i64, grace: i64) -> Judgement {
        let family = &self.family;
        if family.dead || self.revoked_by.is_some_and(|n| n > self.grant.rv) {
            return Judgement::Over("revoked");
        }
        if self.account.disabled {
            return Judgement::Over("account_disabled");
        }
        if now >= family.expires_at || now >= family.idle_expires_at {
            return Judgement::Over("refresh_token_expired");
        }
        let in_grace = claims.generation == family.generation - 1 && now <= family.rotated_at + grace;
        if claims.generation == family.generation || in_grace { Judgement::Usable } else { Judgement::Replayed }
    }

    /// The audience of the sign-in, as far as the client may still have it, else its default.
    fn audience(&self, app: &App, caller: &Caller) -> Result<Vec<String>, OAuth2Error> {
        let mut stored: Vec<String> = serde_json::from_str(&self.family.audience).unwrap_or_default();
        stored.retain(|audience| caller.client.settings.audiences.contains(audience));
        issue::audience(app, &caller.client, stored)
    }

    /// Asks the source again. The inner error is the reason why the person may no longer.
    ///
    /// Errors: 429 for too many looks of one family, 503 where the source cannot be asked.
    async fn standing(&self, app: &Arc<App>, caller: &Caller, now: i64) -> Result<Result<Standing, String>, OAuth2Error> {
        let before: GrantRecord = serde_json::from_str(&self.grant.record).unwrap_or_default();
        let Some(named) = app.sources.find(&self.grant.source) else { return Ok(Err("source_removed".to_owned())) };
        app.throttles.refreshes.take(&self.family.id).map_err(|wait| {
            crate::metrics::sign_in_refused("throttled");
            app.refusals.record(refused_audit(caller, self, Event::RefreshRefused, "throttled", now));
            OAuth2Error::too_many_tries(wait)
        })?;
        let (checked_at, answer) = match recheck::ask(app, &named.name, &before.subject, now).await {
            Ok(answered) => (answered.at, answered.answer),
            Err(outage) => (now, Arc::new(Authentication::Unavailable(outage))),
        };
        let identity = match &*answer {
            Authentication::Authenticated(identity) => identity,
            Authentication::Refused(refusal) => return Ok(Err(refusal.reason.as_str().to_owned())),
            Authentication::Unavailable(outage) => {
                // Outages do not count.
                app.throttles.refreshes.forgive(&self.family.id);
                let stale = offline::stale(app, caller, &self.grant, &self.family, now).ok_or_else(|| unavailable(outage.clone()))?;
                let (stale_for, checked_at) = (Some(stale.lifetime), self.grant.identity_checked_at);
                return Ok(Ok(Standing { record: stale.record, checked_at, stale_for, password_never_changed: false }));
            }
        };
        match sign_in::map(app, caller, identity, now) {
            Ok((evaluation, roles)) => {
                let record = GrantRecord::of(identity, &evaluation, &roles, &self.account.username).with_upstream_of(&before);
                Ok(Ok(Standing { record, checked_at, stale_for: None, password_never_changed: identity.password_never_changed }))
            }
            Err(error) if error.code == ErrorCode::InvalidGrant => Ok(Err("denied_by_mapping".to_owned())),
            Err(error) => Err(error),
        }
    }

    /// Gone, disabled or denied at the source: the family and everything issued with it ends.
    async fn end(&self, app: &App, caller: &Caller, reason: &str, now: i64) -> OAuth2Error {
        let audit = refused_audit(caller, self, Event::RefreshRefused, reason, now);
        let family = self.family.id.clone();
        if let Err(error) = app.storage.write(move |tx| end_family(tx, &family, &audit)).await {
            return error.into();
        }
        app.catch_up().await.err().unwrap_or_else(OAuth2Error::invalid_grant)
    }
}

/// What a revocation could match to kill this grant.
pub(super) fn kill_switches(grant: &GrantRow) -> [(&str, &str); 5] {
    [
        (Kind::All.as_str(), ""),
        (Kind::Grant.as_str(), &grant.id),
        (Kind::Subject.as_str(), &grant.account_id),
        (Kind::Client.as_str(), &grant.client_id),
        (Kind::Source.as_str(), &grant.source),
    ]
}

fn refresh_audit(caller: &Caller, held: &Held, event: Event, now: i64) -> Record {
    of_caller(Record::ok(event, now), caller).account(&held.grant.account_id).source(&held.grant.source)
}

/// A record of a refresh that was refused.
fn refused_audit(caller: &Caller, held: &Held, event: Event, reason: &str, now: i64) -> Record {
    of_caller(Record::refused(event, now, reason), caller).account(&held.grant.account_id).source(&held.grant.source)
}

/// The guarded update and what goes with it.
struct Rotation {
    claims: RefreshClaims,
    grant: GrantRow,
    record: String,
    /// What the grant rests on from now on.
    causes: Vec<Cause>,
    /// The number of the last revocation applied when the request began.
    rv: i64,
    idle_expires_at: i64,
    grant_expires_at: i64,
    grace: i64,
    /// Without a look at the source: what is known about the person grows no younger.
    stale: bool,
    /// When the source was asked.
    checked_at: i64,
    refreshed: Record,
    repeated: Record,
    replayed: Record,
    now: i64,
}

enum Rotated {
    /// The generation of the refresh token to hand out.
    To(i64),
    /// The source was asked by somebody else meanwhile: what was recorded is no longer the last that is known.
    Outdated,
    Refused(&'static str),
}

impl Rotation {
    fn write(self, tx: &mut Connection) -> Result<Rotated, StorageError> {
        let family = self.claims.family.as_str();
        // Of a group, say, that the person has joined since: what rested on it before is ended, and this would be next.
        let Some(rests_on) = causes::admit(tx, self.causes, self.rv)? else { return Ok(Rotated::Refused("revoked_meanwhile")) };
        if feed::latest_matching(tx, &kill_switches(&self.grant))?.is_some_and(|n| n > self.grant.rv) {
            return Ok(Rotated::Refused("revoked"));
        }
        if self.stale {
            if !grants::update_stale(tx, &self.grant.id, &self.record, &rests_on, self.grant.identity_checked_at, self.now)? {
                return Ok(Rotated::Outdated);
            }
        } else {
            let (id, ends) = (&self.grant.id, self.grant_expires_at);
            grants::update_checked(tx, id, &self.record, &rests_on, self.grant.rv, self.checked_at, ends)?;
        }
        if grants::advance(tx, family, self.claims.generation, self.now, self.idle_expires_at)? {
            audit::insert(tx, &self.refreshed)?;
            return Ok(Rotated::To(self.claims.generation + 1));
        }
        // Somebody was faster. Within the grace all callers of the race end with the same working token; the window is not
        // restarted.
        let row = grants::family(tx, family)?;
        let alive = row.filter(|row| !row.dead);
        match alive {
            Some(row) if self.claims.generation == row.generation - 1 && self.now <= row.rotated_at + self.grace => {
                audit::insert(tx, &self.repeated)?;
                Ok(Rotated::To(row.generation))
            }
            Some(_) => {
                end_family(tx, family, &self.replayed)?;
                Ok(Rotated::Refused("refresh_token_replayed"))
            }
            None => Ok(Rotated::Refused("revoked")),
        }
    }
}
