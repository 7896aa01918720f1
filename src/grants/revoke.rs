//! Revocation of one token (RFC 7009): durable before the answer, effective at once on this node.

use super::attempt::of_caller;
use super::{Caller, inspect};
use crate::app::App;
use crate::audit::{Event, Record};
use crate::oauth2::{ErrorCode, OAuth2Error};
use crate::storage::{Connection, StorageError, audit, feed, grants};
use crate::tokens::CLOCK_MARGIN;
use crate::tokens::revocation::Kind;

/// Revokes an access or refresh token. What is not ours or long expired is no error (section 2.2), and writes nothing.
///
/// Errors: `unauthorized_client` for another client's token, 429, 503.
pub async fn revoke(app: &App, caller: &Caller, token: &str) -> Result<(), OAuth2Error> {
    app.rv()?;
    let key = caller.client.id.as_str();
    let now = app.clock.now();
    let refused = |reason: &str| app.refusals.record(of_caller(Record::refused(Event::TokenRevoked, now, reason), caller));
    app.throttles.revocations.check(key).map_err(|wait| {
        refused("throttled");
        OAuth2Error::too_many_tries(wait)
    })?;
    let record = of_caller(Record::ok(Event::TokenRevoked, now), caller);
    if let Some(claims) = inspect::refresh_claims(app, token).await? {
        own(caller, claims.client_id.as_str()).inspect_err(|_| refused("unauthorized_client"))?;
        if claims.exp <= now {
            return Ok(());
        }
        app.throttles.revocations.fail(key);
        let family = claims.family.to_string();
        app.storage.write(move |tx| end(tx, &family, record, now)).await?;
    } else if let Some(claims) = inspect::unexpired(app, token).await? {
        own(caller, claims.client_id.as_str()).inspect_err(|_| refused("unauthorized_client"))?;
        if app.revocations.kills_token(&claims) {
            return Ok(());
        }
        app.throttles.revocations.fail(key);
        let record = match &claims.grant_id {
            Some(_) => record.account(&claims.sub),
            None => record,
        };
        let (jti, until) = (claims.jti, claims.exp + CLOCK_MARGIN);
        app.storage
            .write(move |tx| {
                feed::append(tx, Kind::Token.as_str(), &jti, until, now)?;
                audit::insert(tx, &record.detail(serde_json::json!({ "jti": jti })))
            })
            .await?;
    } else {
        return Ok(());
    }
    app.catch_up().await
}

/// A refresh token takes the access tokens of its grant with it (section 2.1).
fn end(tx: &mut Connection, family: &str, record: Record, now: i64) -> Result<(), StorageError> {
    let Some(row) = grants::family(tx, family)?.filter(|row| !row.dead) else { return Ok(()) };
    grants::kill_family(tx, family)?;
    let grant = grants::find(tx, &row.grant_id)?;
    let until = grant.as_ref().map_or(row.expires_at + CLOCK_MARGIN, |grant| grant.expires_at);
    feed::append(tx, Kind::Grant.as_str(), &row.grant_id, until, now)?;
    let record = match grant {
        Some(grant) => record.account(&grant.account_id),
        None => record,
    };
    audit::insert(tx, &record.detail(serde_json::json!({ "grant_id": row.grant_id })))
}

fn own(caller: &Caller, client_id: &str) -> Result<(), OAuth2Error> {
    if caller.client.id.as_str() == client_id {
        return Ok(());
    }
    Err(OAuth2Error::new(ErrorCode::UnauthorizedClient, "the token belongs to another client"))
}
