//! What an access token means: open, not expired, not revoked, and its client still there. Used by introspection, token-info and
//! revocation.

use std::sync::Arc;

use serde::Serialize;

use super::recheck;
use super::sign_in::GrantRecord;
use crate::app::App;
use crate::clients::Client;
use crate::config::Introspect;
use crate::oauth2::OAuth2Error;
use crate::roles::is_privileged;
use crate::storage::grants;
use crate::tokens::AccessClaims;
use crate::tokens::access::{self, Opened};
use crate::tokens::refresh::{self, RefreshClaims};

/// Seconds for which an introspection answer may be cached by one who follows the feed.
const CACHE_FOR: i64 = 60;

/// The claims of a live token; None for anything else.
///
/// Errors: 503 when the node cannot know: it could not follow the feed, or not look for a key.
pub async fn live(app: &App, token: &str) -> Result<Option<AccessClaims>, OAuth2Error> {
    app.rv()?;
    let Some(claims) = unexpired(app, token).await? else { return Ok(None) };
    if app.revocations.kills_token(&claims) {
        return Ok(None);
    }
    let client_lives = app.clients.find(claims.client_id.as_str()).is_some_and(|client| !client.disabled);
    Ok(client_lives.then_some(claims))
}

/// The claims of a token of ours that has not expired, revoked or not.
pub async fn unexpired(app: &App, token: &str) -> Result<Option<AccessClaims>, OAuth2Error> {
    for last_try in [false, true] {
        let opened = access::open(&app.keys.ring(), &app.issuer, token);
        match opened {
            Opened::Claims(claims) => return Ok(Some(*claims).filter(|claims| app.clock.now() < claims.exp)),
            Opened::UnknownKey if !last_try => Box::pin(app.look_for_new_keys()).await?,
            Opened::UnknownKey | Opened::Foreign => break,
        }
    }
    Ok(None)
}

/// Whether `caller` may see a token: its own, one that names it in `aud`, or all.
pub fn may_see(caller: &Client, claims: &AccessClaims) -> bool {
    caller.settings.introspect == Introspect::Any
        || claims.client_id == caller.id
        || claims.aud.iter().any(|audience| caller.answers_for(audience))
}

/// The answer of RFC 7662 section 2.2 for a live token, with our members behind those of the RFC.
#[derive(Debug, Serialize)]
pub struct Introspection {
    active: bool,
    token_type: &'static str,
    iss: Arc<str>,
    /// Seconds for which a caller who follows the revocation feed may keep this answer.
    cache_for: i64,
    #[serde(flatten)]
    claims: AccessClaims,
}

/// Describes a live token to `caller`; None if the grant that would say more is gone, or if the person turns out to be when the
/// caller bounds the age of that.
pub async fn introspection(app: &Arc<App>, caller: &Client, mut claims: AccessClaims) -> Result<Option<Introspection>, OAuth2Error> {
    let mut longest = CACHE_FOR;
    if let Some(max_age) = caller.settings.identity_max_age
        && let Some(grant) = claims.grant_id.clone()
    {
        let max_age = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
        let bounded = Box::pin(recheck::bound(app, &mut claims, &grant, max_age)).await?;
        let Some(left) = bounded else { return Ok(None) };
        longest = longest.min(left);
    }
    let Some(mut claims) = complete(app, claims).await? else { return Ok(None) };
    claims.iss = None;
    let cache_for = (claims.exp - app.clock.now()).clamp(0, longest);
    Ok(Some(Introspection { active: true, token_type: "Bearer", iss: app.issuer.clone(), cache_for, claims }))
}

/// Adds what a JWT does not carry: the roles and the name that its grant recorded. None if the grant is gone.
pub async fn complete(app: &App, mut claims: AccessClaims) -> Result<Option<AccessClaims>, OAuth2Error> {
    match claims.grant_id.clone() {
        None => {
            let roles = || app.clients.find(claims.client_id.as_str()).map(|client| client.settings.roles.clone());
            claims.roles = claims.roles.take().or_else(roles);
        }
        Some(id) if claims.roles.is_none() || claims.username.is_none() => {
            let Some(row) = Box::pin(app.storage.read(move |c| grants::find(c, id.as_str()))).await? else { return Ok(None) };
            let record: GrantRecord = serde_json::from_str(&row.record).unwrap_or_default();
            let stale = claims.groups_stale == Some(true);
            claims.roles.get_or_insert_with(|| record.roles.into_iter().filter(|role| !(stale && is_privileged(role))).collect());
            claims.username.get_or_insert(record.username);
        }
        Some(_) => {}
    }
    Ok(Some(claims))
}

/// Opens a refresh token; a key that this node does not know is looked for once. None for anything that is not ours.
pub async fn refresh_claims(app: &App, token: &str) -> Result<Option<RefreshClaims>, OAuth2Error> {
    for last_try in [false, true] {
        let opened = refresh::open(&app.keys.ring(), token);
        match opened {
            refresh::Opened::Claims(claims) => return Ok(Some(claims)),
            refresh::Opened::UnknownKey if !last_try => Box::pin(app.look_for_new_keys()).await?,
            refresh::Opened::UnknownKey | refresh::Opened::Foreign => break,
        }
    }
    Ok(None)
}
