//! What all sign-ins of people share, once a source has said yes: mapping, scope, one write ([`super::commit`]), tokens.

use serde::{Deserialize, Serialize};

use super::attempt::{of_caller, refusal_record};
use super::commit::{Lifetimes, NewSignIn, Written};
use super::issue::{self, Person, Subject};
use super::{Asked, Caller, Issued};
use crate::app::App;
use crate::audit::{Event, Record};
use crate::identity::Identity;
use crate::metrics::SignIn;
use crate::oauth2::ids::time_ordered;
use crate::oauth2::request::{ACCESS_TOKEN_TYPE, GrantType};
use crate::oauth2::{ErrorCode, FamilyId, OAuth2Error, Scope, TokenResponse};
use crate::roles::{Evaluation, EvaluationError};

/// What a grant remembers about the sign-in, for refresh, introspection of JWTs, and revocation by cause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GrantRecord {
    pub username: String,
    /// What introspection tells where the token does not: the roles of the sign-in or the last refresh that the person still has.
    pub roles: Vec<String>,
    /// The roles of the sign-in or the last refresh, where a look at the source since then found fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Vec<String>>,
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
    /// The sign-in was a token exchange.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exchanged: bool,
}

impl GrantRecord {
    pub fn of(identity: &Identity, evaluation: &Evaluation, roles: &[String], username: &str) -> GrantRecord {
        let upstream = identity.upstream.as_ref();
        GrantRecord {
            username: username.to_owned(),
            roles: roles.to_vec(),
            granted: None,
            groups: identity.group_names(),
            rules: evaluation.rule_ids(),
            because_of: evaluation.group_dns(),
            subject: identity.subject.clone(),
            issuer: identity.issuer.clone(),
            amr: identity.amr.clone(),
            upstream_session: upstream.and_then(|u| u.session.clone()),
            upstream_token: upstream.map(|u| u.token_id.clone()),
            exchanged: false,
        }
    }

    /// What a look between two refreshes found, for a grant of which `before` was known: nothing is issued because of it. So roles only
    /// go, or come back, and what was issued rests on what it rested on.
    pub fn since(mut self, before: &GrantRecord) -> GrantRecord {
        let granted = before.granted.as_ref().unwrap_or(&before.roles);
        let still: Vec<String> = granted.iter().filter(|role| self.roles.contains(role)).cloned().collect();
        self.granted = (still.len() < granted.len()).then(|| granted.clone());
        self.roles = still;
        self.rules.clone_from(&before.rules);
        self.because_of.clone_from(&before.because_of);
        self.with_upstream_of(before)
    }

    /// How the person signed in, which a later look does not tell.
    pub fn with_upstream_of(mut self, before: &GrantRecord) -> GrantRecord {
        self.amr.clone_from(&before.amr);
        self.upstream_session.clone_from(&before.upstream_session);
        self.upstream_token.clone_from(&before.upstream_token);
        self.exchanged = before.exchanged;
        self
    }

    /// Tokens that were issued because of the rules and groups of `before` are alive: a revocation by one of those must find them.
    pub fn with_causes_of(mut self, before: &GrantRecord) -> GrantRecord {
        for (now, then) in [(&mut self.rules, &before.rules), (&mut self.because_of, &before.because_of)] {
            now.extend(then.iter().cloned());
            now.sort();
            now.dedup();
        }
        self
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
/// Errors: `invalid_grant` where a deny or require rule says so, `invalid_request` for a token without a claim that a deny looks at, 500
/// where the groups cannot be mapped.
pub fn map(app: &App, caller: &Caller, identity: &Identity, now: i64) -> Result<(Evaluation, Vec<String>), OAuth2Error> {
    let ceiling = caller.client.settings.role_ceiling.as_deref();
    let judged = app.rules.evaluate_under(identity.source.as_str(), &identity.facts, &identity.assigned_roles, ceiling);
    let evaluation = judged.map_err(|reason| {
        // A token that leaves out what a deny looks at: the person's own doing, or the provider's. Anything else is ours to mend.
        let (word, error) = match reason {
            EvaluationError::ClaimMissing { .. } => {
                ("groups_unavailable", OAuth2Error::invalid_request("the subject_token lacks a claim that the mapping looks at"))
            }
            _ => (
                "mapping_failed",
                OAuth2Error::new(ErrorCode::ServerError, "the groups of this person cannot be mapped to roles; see the audit"),
            ),
        };
        crate::metrics::sign_in_refused(word);
        crate::metrics::signed_in(identity.source.as_str(), SignIn::Refused);
        let record = refusal_record(caller, word, now).username(&identity.username).source(identity.source.as_str());
        app.refusals.record(record.detail(reason.to_string().into()));
        error.because(reason)
    })?;
    if let Some(denial) = &evaluation.denied {
        let record = refusal_record(caller, "denied_by_mapping", now).username(&identity.username).source(identity.source.as_str());
        app.refusals.record(record.detail(serde_json::to_value(denial).unwrap_or_default()));
        crate::metrics::sign_in_refused("denied_by_mapping");
        crate::metrics::signed_in(identity.source.as_str(), SignIn::Refused);
        return Err(OAuth2Error::invalid_grant());
    }
    let roles = evaluation.role_names();
    Ok((evaluation, roles))
}

/// The client's scopes that a person with `roles` gets.
pub fn scope_for(app: &App, asked: Option<Scope>, allowed: &Scope, roles: &[String]) -> Scope {
    let mut scope = asked.unwrap_or_else(|| allowed.clone());
    keep_earned(app, &mut scope, roles);
    scope
}

/// Takes away the scopes whose role (`requires_role`) is not among `roles`.
pub fn keep_earned(app: &App, scope: &mut Scope, roles: &[String]) {
    scope.retain(|token| {
        let needs = app.config.scopes.get(token).and_then(|settings| settings.requires_role.as_ref());
        needs.is_none_or(|role| roles.contains(role))
    });
}

/// Turns an identity into tokens. `asked.rv` must be older than the identity: a revocation in between is then seen.
pub async fn complete(app: &App, caller: &Caller, mut asked: Asked, identity: Identity, grant: GrantType) -> Result<Issued, OAuth2Error> {
    let source = identity.source.clone();
    let refuse = |reason: &'static str| {
        crate::metrics::signed_in(source.as_str(), SignIn::Refused);
        crate::metrics::sign_in_refused(reason);
        app.refusals.record(refusal_record(caller, reason, asked.now).username(&identity.username).source(source.as_str()));
        OAuth2Error::invalid_grant()
    };
    let (evaluation, roles) = map(app, caller, &identity, asked.now)?;
    let client = &caller.client;
    let scope = scope_for(app, asked.scope.take(), &client.scopes, &roles);
    let mint = |person: &Person| {
        let subject = Subject::Person(person);
        issue::access_token(app, client, subject, &scope, &asked.audience, roles.clone(), asked.rv, asked.now)
    };
    let mut person = Person {
        // Stand-ins of at least the length to come, so that a token that would be too large is refused before anything is written.
        account: "0".repeat(32).into(),
        grant: time_ordered(asked.now).into(),
        source: source.clone(),
        username: format!("{}@{source}-00000000", identity.username),
        groups: identity.group_names(),
        auth_time: identity.auth_time,
        amr: identity.amr.clone(),
        identity_checked_at: identity.checked_at,
        stale_for: None,
        exchanged: grant == GrantType::TokenExchange,
    };
    mint(&person)?;

    let can_refresh = client.may(GrantType::RefreshToken) && app.sources.find(source.as_str()).is_some_and(|named| named.can_recheck());
    let lifetimes = Lifetimes::of(app, caller);
    let sign_in = NewSignIn {
        first_source: app.sources.first_name().to_owned(),
        client_id: client.id.to_string(),
        client_number: client.number,
        record: GrantRecord { exchanged: person.exchanged, ..GrantRecord::of(&identity, &evaluation, &roles, &identity.username) },
        scope: scope.to_string(),
        audience: serde_json::Value::from(asked.audience.clone()).to_string(),
        grant_id: person.grant.to_string(),
        family_id: can_refresh.then(|| time_ordered(asked.now)),
        lifetimes,
        audit: of_caller(Record::ok(Event::SignIn, asked.now), caller).source(source.as_str()).detail(mapping_detail(&evaluation)),
        rv: asked.rv,
        now: asked.now,
        identity: identity.clone(),
    };
    let family = sign_in.family_id.clone().map(FamilyId::from);
    let account = match app.storage.write(move |tx| sign_in.write(tx)).await? {
        Written::Signed(account) => account,
        Written::NoAccount(reason) => return Err(refuse("no_account").because(reason)),
        Written::Replayed => return Err(refuse("replayed")),
        Written::Overtaken => return Err(refuse("revoked_meanwhile")),
    };
    crate::metrics::signed_in(source.as_str(), SignIn::Ok);
    person.account = account.id.as_str().into();
    person.username.clone_from(&account.username);
    let minted = mint(&person)?;
    let refresh_token = match &family {
        Some(family) => Some(issue::refresh_token(app, client, family, 1, asked.now + lifetimes.refresh, asked.now)?),
        None => None,
    };
    let response = TokenResponse {
        access_token: minted.token,
        expires_in: minted.expires_in,
        scope,
        refresh_token,
        issued_token_type: (grant == GrantType::TokenExchange).then_some(ACCESS_TOKEN_TYPE),
    };
    let person =
        SignedIn { account_number: account.number, username: account.username, password_never_changed: identity.password_never_changed };
    Ok(Issued { response, person: Some(person), roles })
}

/// What the mapping did, for the audit: which rules gave the roles, and what was dropped, taken away or cut by the ceiling.
pub fn mapping_detail(evaluation: &Evaluation) -> serde_json::Value {
    let mut detail = serde_json::json!({ "roles": evaluation.role_names(), "rules": evaluation.rule_ids() });
    let cuts = [
        ("dropped", serde_json::to_value(&evaluation.dropped)),
        ("taken_away", serde_json::to_value(&evaluation.taken_away)),
        ("over_ceiling", serde_json::to_value(&evaluation.over_ceiling)),
    ];
    if let Some(members) = detail.as_object_mut() {
        for (name, value) in cuts {
            if let Ok(value) = value
                && value.as_array().is_some_and(|list| !list.is_empty())
            {
                members.insert(name.to_owned(), value);
            }
        }
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(roles: &[&str], rules: &[&str]) -> GrantRecord {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        GrantRecord { roles: texts(roles), rules: texts(rules), ..GrantRecord::default() }
    }

    #[test]
    fn between_refreshes_roles_go_and_come_back_and_never_grow() {
        let signed_in = GrantRecord { amr: vec!["pwd".to_owned()], ..record(&["builder", "user"], &["builders"]) };
        let fewer = record(&["promoted", "user"], &["promotion"]).since(&signed_in);
        assert_eq!(fewer.roles, ["user"]);
        assert_eq!((&fewer.rules, &fewer.amr), (&signed_in.rules, &signed_in.amr), "what was issued rests on what it rested on");
        let back = record(&["builder", "user"], &["builders"]).since(&fewer);
        assert_eq!(back, signed_in);
    }
}
