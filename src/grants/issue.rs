//! The single mint: every access and refresh token is made here.

use crate::app::App;
use crate::clients::Client;
use crate::oauth2::ids::time_ordered;
use crate::oauth2::{AccountId, ErrorCode, FamilyId, GrantId, OAuth2Error, Scope, Secret, SourceName};
use crate::tokens::AccessClaims;
use crate::tokens::access::{self, Form};
use crate::tokens::claims::Actor;
use crate::tokens::refresh::{self, RefreshClaims};

/// Whose token it is.
pub enum Subject<'a> {
    /// The client's own.
    Client,
    Person(&'a Person),
}

/// A person, as far as a token tells of them.
#[derive(Clone, Debug)]
pub struct Person {
    pub account: AccountId,
    pub grant: GrantId,
    pub source: SourceName,
    pub username: String,
    pub groups: Vec<String>,
    pub auth_time: i64,
    pub amr: Vec<String>,
    pub identity_checked_at: i64,
    /// Set where the source could not be asked and the groups are the last good ones: the token then lives at most this many seconds.
    pub stale_for: Option<i64>,
    /// The sign-in was an exchange: the client acts for the person (RFC 8693 section 4.1).
    pub exchanged: bool,
}

/// A new access token.
pub struct Minted {
    pub token: Secret,
    /// Seconds.
    pub expires_in: i64,
}

/// Life of the client's access tokens, in seconds.
pub fn access_lifetime(app: &App, client: &Client) -> i64 {
    client.settings.access_lifetime.unwrap_or(app.config.tokens.access_lifetime).as_secs() as i64
}

/// `aud` (RFC 9068 section 3): the targets asked for if the client may have them, else its default, else the issuer.
///
/// Errors: `invalid_target` (RFC 8707 section 2).
pub fn audience(app: &App, client: &Client, targets: Vec<String>) -> Result<Vec<String>, OAuth2Error> {
    let allowed = &client.settings.audiences;
    if let Some(target) = targets.iter().find(|target| !allowed.contains(target)) {
        let shown = if target.len() <= 100 { target.as_str() } else { "it" };
        return Err(OAuth2Error::new(ErrorCode::InvalidTarget, format!("the client may not ask for a token for {shown}")));
    }
    Ok(match (targets.is_empty(), allowed.first()) {
        (false, _) => targets,
        (true, Some(default)) => vec![default.clone()],
        (true, None) => vec![app.issuer.to_string()],
    })
}

/// Mints an access token in the form that the client wants.
///
/// Errors: `invalid_request` for a token that would be too large, naming what to trim; 500 when no key can be used.
#[expect(clippy::too_many_arguments, reason = "these are the claims; a struct of the same fields would only rename them")]
pub fn access_token(
    app: &App,
    client: &Client,
    subject: Subject<'_>,
    scope: &Scope,
    audience: &[String],
    roles: Vec<String>,
    rv: i64,
    now: i64,
) -> Result<Minted, OAuth2Error> {
    let settings = &client.settings;
    let format = settings.token_format.unwrap_or(app.config.tokens.format);
    let form = Form { format, algorithm: settings.signing_algorithm.unwrap_or(app.config.tokens.signing_algorithm) };
    let opaque = format == crate::config::TokenFormat::Opaque;
    let shows = |claim: &str| opaque || settings.jwt_claims.iter().any(|name| name == claim);
    let at_most = match &subject {
        Subject::Person(person) => person.stale_for,
        Subject::Client => None,
    };
    let expires_in = at_most.unwrap_or(i64::MAX).min(access_lifetime(app, client));
    let mut claims = AccessClaims {
        iss: (!opaque).then(|| app.issuer.to_string()),
        sub: client.id.to_string(),
        client_id: client.id.clone(),
        aud: audience.to_vec(),
        scope: scope.clone(),
        jti: time_ordered(now),
        iat: now,
        exp: now + expires_in,
        rv,
        roles: shows("roles").then_some(roles),
        groups: None,
        grant_id: None,
        source: None,
        username: None,
        auth_time: None,
        amr: Vec::new(),
        identity_checked_at: None,
        groups_stale: None,
        act: None,
        cnf: None,
    };
    if let Subject::Person(person) = subject {
        claims.sub = person.account.to_string();
        claims.grant_id = Some(person.grant.clone());
        claims.source = Some(person.source.clone());
        claims.username = opaque.then(|| person.username.clone());
        // Without a look at the source there are none: some of them may be what privileged rules rest on.
        claims.groups = (!opaque && shows("groups") && person.stale_for.is_none()).then(|| person.groups.clone());
        claims.auth_time = Some(person.auth_time);
        claims.amr = person.amr.clone();
        claims.identity_checked_at = Some(person.identity_checked_at);
        claims.groups_stale = person.stale_for.map(|_| true);
        claims.act = person.exchanged.then(|| Actor { sub: client.id.clone() });
    }
    let token = access::mint(&app.keys.ring(), form, &claims, now)?;
    Ok(Minted { token, expires_in })
}

/// Mints the refresh token of one generation of a family.
pub fn refresh_token(
    app: &App,
    client: &Client,
    family: &FamilyId,
    generation: i64,
    expires_at: i64,
    now: i64,
) -> Result<Secret, OAuth2Error> {
    let claims = RefreshClaims { family: family.clone(), generation, client_id: client.id.clone(), exp: expires_at };
    Ok(refresh::mint(&app.keys.ring(), &claims, now)?)
}
