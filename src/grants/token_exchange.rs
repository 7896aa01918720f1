//! RFC 8693: an id token of Okta or another provider becomes a token of ours. The id token is used once.
//!
//! Refusals are counted, against whoever is behind them. A client that did not prove to be itself counts by its address, whatever the
//! refusal. One that did passes on what the browsers of its users send: so a refusal counts by the person of the token, and only once
//! its signature is verified. What anybody can write down costs no more than a look at it, and keeps nobody out.

use super::attempt::{refusal_record, unavailable};
use super::sign_in;
use super::{Asked, Caller, Issued};
use crate::app::App;
use crate::identity::oidc::{Purpose, UnverifiedIdToken};
use crate::identity::{Authentication, RefusalReason};
use crate::limits::network;
use crate::oauth2::request::GrantType;
use crate::oauth2::{ErrorCode, OAuth2Error, Secret};

/// `access_token` is the provider's own, handed along for its userinfo endpoint.
pub async fn grant(
    app: &App,
    caller: &Caller,
    mut asked: Asked,
    subject_token: Secret,
    access_token: Option<Secret>,
) -> Result<Issued, OAuth2Error> {
    let parsed = UnverifiedIdToken::parse(subject_token.expose());
    let key = match caller.authenticated {
        // Of a token that is not verified this only asks about the tries of whom it names.
        true => match &parsed {
            Ok(token) => format!("{} {} {}", caller.client.id, token.issuer(), token.subject()),
            Err(_) => caller.client.id.to_string(),
        },
        false => format!("{} {}", caller.client.id, network(caller.address)),
    };
    let count = |verified: bool| {
        if verified || !caller.authenticated {
            app.throttles.exchanges.fail(&key);
        }
    };
    app.throttles.exchanges.check(&key).map_err(|wait| {
        app.refusals.record(refusal_record(caller, "throttled", asked.now));
        OAuth2Error::too_many_tries(wait)
    })?;
    app.catch_up().await?;
    asked.rv = app.rv()?;
    let now = asked.now;
    let refused = |reason: &'static str, detail: &str, verified: bool| {
        count(verified);
        crate::metrics::sign_in_refused(reason);
        app.refusals.record(refusal_record(caller, reason, now).detail(detail.into()));
        OAuth2Error::invalid_request("the subject_token is not valid")
    };
    let token = parsed.map_err(|refusal| refused(refusal.as_str(), "", false))?;
    let Some((name, oidc)) = app.sources.for_issuer(token.issuer()) else {
        return Err(refused("wrong_issuer", "no source has the issuer of the token", false));
    };
    oidc.check_header(&token).map_err(|refusal| refused(refusal.reason.as_str(), &refusal.detail, false))?;
    if !caller.client.admits_source(name.as_str()) {
        count(false);
        app.refusals.record(refusal_record(caller, "unauthorized_client", asked.now).source(name.as_str()));
        return Err(OAuth2Error::new(ErrorCode::UnauthorizedClient, "the client may not exchange tokens of this issuer"));
    }
    let verified = oidc.verify_beside(&token, access_token.as_ref(), Purpose::Exchange).await;
    verified.count(name);
    match verified {
        Authentication::Authenticated(identity) => {
            let issued = sign_in::complete(app, caller, asked, *identity, GrantType::TokenExchange).await;
            if matches!(&issued, Err(error) if matches!(error.code, ErrorCode::InvalidGrant | ErrorCode::InvalidRequest)) {
                count(true);
            }
            issued
        }
        Authentication::Refused(refusal) => {
            let verified = !matches!(refusal.reason, RefusalReason::Token(reason) if reason.is_unverified());
            Err(refused(refusal.reason.as_str(), &refusal.detail, verified))
        }
        Authentication::Unavailable(outage) => Err(unavailable(outage)),
    }
}
