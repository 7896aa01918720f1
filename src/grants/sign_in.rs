//! What all sign-ins of people share: the throttle in front, and behind it mapping, account, grant and tokens, with one write.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::issue::{self, Person, Subject};
use super::{Asked, Caller, Issued};
use crate::accounts::{self, LinkError};
use crate::app::App;
use crate::audit::{Event, Record};
use crate::identity::{Identity, Outage, Refusal};
use crate::metrics::SignIn;
use crate::oauth2::ids::time_ordered;
use crate::oauth2::request::{ACCESS_TOKEN_TYPE, GrantType};
use crate::oauth2::{FamilyId, OAuth2Error, Scope, TokenResponse};
use crate::roles::Evaluation;
use crate::storage::accounts::AccountRow;
use crate::storage::grants::{FamilyRow, GrantRow};
use crate::storage::{Connection, StorageError, audit, feed, grants, used};
use crate::tokens::CLOCK_MARGIN;
use crate::tokens::revocation::Kind;

/// One try with a password, counted before the source is asked, so that many at once cannot slip past the throttle.
#[derive(Debug)]
pub struct Attempt {
    login: String,
    address: String,
}

impl Attempt {
    /// Errors: 429 for too many failed tries with this login or from this address.
    pub fn begin(app: &App, caller: &Caller, login: &str) -> Result<Attempt, OAuth2Error> {
        let attempt = Attempt { login: login.trim().to_lowercase(), address: network(caller.address) };
        let throttles = &app.throttles;
        let throttled = |wait| {
            app.refusals.record(refusal_record(caller, "throttled", app.clock.now()).username(login));
            OAuth2Error::too_many_tries(wait)
        };
        throttles.addresses.take(&attempt.address).map_err(throttled)?;
        throttles.logins.take(&attempt.login).map_err(|wait| {
            throttles.addresses.forgive(&attempt.address);
            throttled(wait)
        })?;
        Ok(attempt)
    }

    /// Not counted after all; the login starts afresh.
    pub fn succeeded(self, app: &App) {
        app.throttles.addresses.forgive(&self.address);
        app.throttles.logins.clear(&self.login);
    }

    /// Counted. One text for every reason.
    pub fn refused(self, app: &App, caller: &Caller, login: &str, refusal: &Refusal, now: i64) -> OAuth2Error {
        crate::metrics::sign_in_refused(refusal.reason.as_str());
        app.refusals.record(refusal_record(caller, refusal.reason.as_str(), now).username(login).detail(refusal.detail.as_str().into()));
        OAuth2Error::invalid_grant()
    }

    /// Outages do not count.
    pub fn could_not_ask(self, app: &App, outage: Outage) -> OAuth2Error {
        app.throttles.addresses.forgive(&self.address);
        app.throttles.logins.forgive(&self.login);
        unavailable(outage)
    }
}

/// The address that is throttled: for IPv6 the /64, since a subscriber has all of it.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

pub fn unavailable(outage: Outage) -> OAuth2Error {
    OAuth2Error::unavailable("the identity source cannot be asked now; nothing was decided").because(outage)
}

/// An audit record of a refused sign-in.
pub fn refusal_record(caller: &Caller, reason: &str, now: i64) -> Record {
    of_caller(Record::refused(Event::SignInRefused, now, reason), caller)
}

/// Adds who asked, and from where.
pub fn of_caller(record: Record, caller: &Caller) -> Record {
    record.client(caller.client.id.as_str()).address(caller.address).request(caller.request_id.to_string())
}

/// What a grant remembers about the sign-in, for refresh, introspection of JWTs, and revocation by cause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GrantRecord {
    pub username: String,
    pub roles: Vec<String>,
    /// All groups of the person, as names.
    pub groups: Vec<String>,
    /// The rules that gave the roles.
    pub rules: Vec<String>,
    /// The groups that gave the roles.
    pub because_of: Vec<String>,
    pub subject: String,
    pub issuer: String,
    pub amr: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_token: Option<String>,
}

impl GrantRecord {
    pub fn of(identity: &Identity, evaluation: &Evaluation, roles: &[String], username: &str) -> GrantRecord {
        let upstream = identity.upstream.as_ref();
        GrantRecord {
            username: username.to_owned(),
            roles: roles.to_vec(),
            groups: identity.group_names(),
            rules: evaluation.rule_ids(),
            because_of: evaluation.group_dns(),
            subject: identity.subject.clone(),
            issuer: identity.issuer.clone(),
            amr: identity.amr.clone(),
            upstream_session: upstream.and_then(|u| u.session.clone()),
            upstream_token: upstream.map(|u| u.token_id.clone()),
        }
    }
}

/// The person, for shapes that tell more than a token answer does.
#[derive(Clone, Debug)]
pub struct SignedIn {
    pub account_number: i64,
    pub username: String,
    pub password_never_changed: bool,
}

/// Roles of an identity through a client, or the refusal of the mapping.
///
/// Errors: `invalid_grant` where a deny or require rule says so; 500 where the groups cannot be mapped.
pub fn map(app: &App, caller: &Caller, identity: &Identity, now: i64) -> Result<(Evaluation, Vec<String>), OAuth2Error> {
    let ceiling = caller.client.settings.role_ceiling.as_deref();
    let judged = app.rules.evaluate_under(identity.source.as_str(), &identity.facts, &identity.assigned_roles, ceiling);
    let evaluation = judged.map_err(|reason| {
        let text = reason.to_string();
        app.refusals.record(
            refusal_record(caller, "mapping_failed", now).username(&identity.username).source(identity.source.as_str()).detail(text.into()),
        );
        OAuth2Error::new(crate::oauth2::ErrorCode::ServerError, "the groups of this person cannot be mapped to roles; see the audit")
            .because(reason)
    })?;
    if let Some(denial) = &evaluation.denied {
        let record = refusal_record(caller, "denied_by_mapping", now).username(&identity.username).source(identity.source.as_str());
        app.refusals.record(record.detail(serde_json::to_value(denial).unwrap_or_default()));
        crate::metrics::sign_in_refused("denied_by_mapping");
        return Err(OAuth2Error::invalid_grant());
    }
    let roles = evaluation.role_names();
    Ok((evaluation, roles))
}

/// The client's scopes that a person with `roles` gets.
pub fn scope_for(app: &App, asked: Option<Scope>, allowed: &Scope, roles: &[String]) -> Scope {
    let mut scope = asked.unwrap_or_else(|| allowed.clone());
    scope.retain(|token| {
        let needs = app.config.scopes.get(token).and_then(|settings| settings.requires_role.as_ref());
        needs.is_none_or(|role| roles.contains(role))
    });
    scope
}

/// What came of the one write.
enum Written {
    Signed(Box<AccountRow>),
    NoAccount(LinkError),
    /// The id token was used before.
    Replayed,
    /// A revocation that this request had not seen kills what it was about to issue.
    Overtaken,
}

/// Turns an identity into tokens.
pub async fn complete(app: &App, caller: &Caller, mut asked: Asked, identity: Identity, grant: GrantType) -> Result<Issued, OAuth2Error> {
    let (evaluation, roles) = map(app, caller, &identity, asked.now)?;
    let scope = scope_for(app, asked.scope.take(), &caller.client.scopes, &roles);
    let can_refresh =
        caller.client.may(GrantType::RefreshToken) && app.sources.find(identity.source.as_str()).is_some_and(|named| named.can_recheck());
    let lifetimes = Lifetimes::of(app, caller);
    for last_try in [false, true] {
        let sign_in = NewSignIn::new(app, caller, &asked, &identity, &evaluation, &roles, &scope, can_refresh, lifetimes);
        let (grant_id, family_id) = (sign_in.grant_id.clone(), sign_in.family_id.clone());
        let refuse = |reason: &str| {
            app.refusals.record(refusal_record(caller, reason, asked.now).username(&identity.username).source(identity.source.as_str()));
            OAuth2Error::invalid_grant()
        };
        match app.storage.write(move |tx| sign_in.write(tx)).await? {
            Written::Signed(account) => {
                crate::metrics::signed_in(identity.source.as_str(), SignIn::Ok);
                let person = Person {
                    account: account.id.as_str().into(),
                    grant: grant_id.as_str().into(),
                    source: identity.source.clone(),
                    username: account.username.clone(),
                    groups: identity.group_names(),
                    auth_time: identity.auth_time,
                    amr: identity.amr.clone(),
                    identity_checked_at: asked.now,
                };
                let client = &caller.client;
                let minted = issue::access_token(
                    app,
                    client,
                    Subject::Person(&person),
                    &scope,
                    &asked.audience,
                    roles.clone(),
                    asked.rv,
                    asked.now,
                )?;
                let refresh_token = match family_id {
                    Some(id) => {
                        let family = FamilyId::from(id);
                        Some(issue::refresh_token(app, client, &family, 1, asked.now + lifetimes.refresh, asked.now)?)
                    }
                    None => None,
                };
                let response = TokenResponse {
                    access_token: minted.token,
                    expires_in: minted.expires_in,
                    scope,
                    refresh_token,
                    issued_token_type: (grant == GrantType::TokenExchange).then_some(ACCESS_TOKEN_TYPE),
                };
                let person = SignedIn {
                    account_number: account.number,
                    username: account.username,
                    password_never_changed: identity.password_never_changed,
                };
                return Ok(Issued { response, person: Some(person), roles });
            }
            Written::NoAccount(reason) => return Err(refuse("no_account").because(reason)),
            Written::Replayed => return Err(refuse("replayed")),
            Written::Overtaken if last_try => return Err(refuse("revoked_meanwhile")),
            Written::Overtaken => {
                app.catch_up().await?;
                asked.rv = app.rv()?;
            }
        }
    }
    Err(OAuth2Error::invalid_grant())
}

/// Seconds that things of this client live.
#[derive(Clone, Copy)]
struct Lifetimes {
    access: i64,
    refresh: i64,
    idle: i64,
}

impl Lifetimes {
    fn of(app: &App, caller: &Caller) -> Lifetimes {
        let tokens = &app.config.tokens;
        Lifetimes {
            access: issue::access_lifetime(app, &caller.client),
            refresh: tokens.refresh_lifetime.as_secs() as i64,
            idle: tokens.refresh_idle.as_secs() as i64,
        }
    }
}

/// Everything that the one write needs, owned, since it runs on another thread.
struct NewSignIn {
    identity: Identity,
    first_source: String,
    client_id: String,
    record: GrantRecord,
    scope: String,
    audience: String,
    grant_id: String,
    family_id: Option<String>,
    lifetimes: Lifetimes,
    audit: Record,
    rv: i64,
    now: i64,
}

impl NewSignIn {
    #[expect(clippy::too_many_arguments, reason = "it gathers what one transaction writes")]
    fn new(
        app: &App,
        caller: &Caller,
        asked: &Asked,
        identity: &Identity,
        evaluation: &Evaluation,
        roles: &[String],
        scope: &Scope,
        can_refresh: bool,
        lifetimes: Lifetimes,
    ) -> NewSignIn {
        let now = asked.now;
        let grant_id = time_ordered(now);
        let detail =
            serde_json::json!({ "grant_id": grant_id, "roles": roles, "rules": evaluation.rule_ids(), "dropped": evaluation.dropped });
        let audit = of_caller(Record::ok(Event::SignIn, now), caller).source(identity.source.as_str()).detail(detail);
        NewSignIn {
            identity: identity.clone(),
            first_source: app.sources.first_name().to_owned(),
            client_id: caller.client.id.to_string(),
            record: GrantRecord::of(identity, evaluation, roles, &identity.username),
            scope: scope.to_string(),
            audience: serde_json::Value::from(asked.audience.clone()).to_string(),
            grant_id,
            family_id: can_refresh.then(|| time_ordered(now)),
            lifetimes,
            audit,
            rv: asked.rv,
            now,
        }
    }

    fn write(mut self, tx: &mut Connection) -> Result<Written, StorageError> {
        let (now, identity) = (self.now, &self.identity);
        if self.overtaken(tx)? {
            return Ok(Written::Overtaken);
        }
        if let Some(upstream) = &identity.upstream {
            let key = format!("{}\n{}", upstream.issuer, upstream.token_id);
            if !used::claim(tx, "id_token", &key, upstream.remember_until)? {
                return Ok(Written::Replayed);
            }
        }
        let account = match accounts::link(tx, identity, &self.first_source, now) {
            Ok(account) => account,
            Err(LinkError::Storage(error)) => return Err(error),
            Err(no_account) => return Ok(Written::NoAccount(no_account)),
        };
        self.record.username.clone_from(&account.username);
        let ends = now + if self.family_id.is_some() { self.lifetimes.refresh } else { self.lifetimes.access };
        grants::insert(
            tx,
            &GrantRow {
                id: self.grant_id.clone(),
                account_id: account.id.clone(),
                client_id: self.client_id.clone(),
                source: identity.source.to_string(),
                scope: self.scope.clone(),
                record: serde_json::to_string(&self.record).map_err(|reason| StorageError::Invalid(reason.to_string()))?,
                rv: self.rv,
                auth_time: identity.auth_time,
                identity_checked_at: now,
                created_at: now,
                expires_at: ends + self.lifetimes.access + CLOCK_MARGIN,
            },
        )?;
        if let Some(id) = &self.family_id {
            grants::insert_family(
                tx,
                &FamilyRow {
                    id: id.clone(),
                    grant_id: self.grant_id.clone(),
                    client_id: self.client_id.clone(),
                    scope: self.scope.clone(),
                    audience: self.audience.clone(),
                    generation: 1,
                    rotated_at: now,
                    dead: false,
                    created_at: now,
                    expires_at: now + self.lifetimes.refresh,
                    idle_expires_at: now + self.lifetimes.idle,
                },
            )?;
        }
        audit::insert(tx, &self.audit.account(&account.id).username(&account.username))?;
        Ok(Written::Signed(Box::new(account)))
    }

    /// Whether a revocation that this request had not seen would kill what it is about to issue. (One that commits after this
    /// look has a higher number than `rv` and kills it by that.)
    fn overtaken(&self, tx: &mut Connection) -> Result<bool, StorageError> {
        let identity = &self.identity;
        let account = crate::storage::accounts::find_by_link(tx, identity.source.as_str(), &identity.issuer, &identity.subject)?;
        let local = account.map(|a| a.id).unwrap_or_else(|| identity.subject.clone());
        let mut properties = vec![
            (Kind::All.as_str(), ""),
            (Kind::Client.as_str(), self.client_id.as_str()),
            (Kind::Source.as_str(), identity.source.as_str()),
        ];
        properties.push((Kind::Subject.as_str(), local.as_str()));
        Ok(feed::latest_matching(tx, &properties)?.is_some_and(|n| n > self.rv))
    }
}
