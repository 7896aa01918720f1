//! RFC 8693: an id token of Okta or another provider becomes a token of ours. The id token is used once.

use super::attempt::{refusal_record, unavailable};
use super::sign_in;
use super::{Asked, Caller, Issued};
use crate::app::App;
use crate::identity::Authentication;
use crate::identity::oidc::{Purpose, UnverifiedIdToken};
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
    // What did not prove to be the client must not use up the tries of those who did: its address has tries of its own.
    let key = match caller.authenticated {
        true => caller.client.id.to_string(),
        false => format!("{} {}", caller.client.id, network(caller.address)),
    };
    app.throttles.exchanges.check(&key).map_err(|wait| {
        app.refusals.record(refusal_record(caller, "throttled", asked.now));
        OAuth2Error::too_many_tries(wait)
    })?;
    app.catch_up().await?;
    asked.rv = app.rv()?;
    let now = asked.now;
    let refused = |reason: &'static str, detail: &str| {
        app.throttles.exchanges.fail(&key);
        crate::metrics::sign_in_refused(reason);
        app.refusals.record(refusal_record(caller, reason, now).detail(detail.into()));
        OAuth2Error::invalid_request("the subject_token is not valid")
    };
    let token = UnverifiedIdToken::parse(subject_token.expose()).map_err(|refusal| refused(refusal.as_str(), ""))?;
    let Some((name, oidc)) = app.sources.for_issuer(token.issuer()) else {
        return Err(refused("wrong_issuer", "no source has the issuer of the token"));
    };
    oidc.check_header(&token).map_err(|refusal| refused(refusal.reason.as_str(), &refusal.detail))?;
    if !caller.client.admits_source(name.as_str()) {
        app.throttles.exchanges.fail(&key);
        app.refusals.record(refusal_record(caller, "unauthorized_client", asked.now).source(name.as_str()));
        return Err(OAuth2Error::new(ErrorCode::UnauthorizedClient, "the client may not exchange tokens of this issuer"));
    }
    let verified = oidc.verify_beside(&token, access_token.as_ref(), Purpose::Exchange).await;
    verified.count(name);
    match verified {
        Authentication::Authenticated(identity) => {
            let issued = sign_in::complete(app, caller, asked, *identity, GrantType::TokenExchange).await;
            if matches!(&issued, Err(error) if matches!(error.code, ErrorCode::InvalidGrant | ErrorCode::InvalidRequest)) {
                app.throttles.exchanges.fail(&key);
            }
            issued
        }
        Authentication::Refused(refusal) => Err(refused(refusal.reason.as_str(), &refusal.detail)),
        Authentication::Unavailable(outage) => Err(unavailable(outage)),
    }
}
