//! POST /oauth2/introspect, RFC 7662. Unknown, malformed, expired, revoked and not-for-this-caller look alike; a failure of ours
//! is 503 and never `active: false`. Who asks for it by Accept gets the answer signed (RFC 9701).

use http::{HeaderValue, header};
use serde::Serialize;

use crate::clients::Client;
use crate::config::SigningAlgorithm;
use crate::grants::inspect;
use crate::oauth2::{ErrorCode, OAuth2Error};
use crate::web::{Answer, Request, accept, reply};

/// RFC 9701 section 4: what a caller accepts that wants the answer signed.
const SIGNED: &str = "application/token-introspection+jwt";
/// RFC 9701 section 5: the header's `typ`.
const TYP: &str = "token-introspection+jwt";
const INACTIVE: &str = r#"{"active":false}"#;

pub async fn introspect(request: Request) -> Answer {
    let answer = answer(&request).await;
    reply::finish(&request, answer)
}

async fn answer(request: &Request) -> Result<Answer, OAuth2Error> {
    let form = request.form()?;
    // Section 2.1: the caller is authenticated first, whatever the token.
    let caller = request.caller_at(&form, "introspect").await?;
    if caller.client.settings.public {
        request.refuse_public(&caller);
        return Err(OAuth2Error::new(ErrorCode::InvalidClient, "introspection needs a client that can keep a secret"));
    }
    let token = form.require("token")?;
    let live = inspect::live(&request.app, token).await?.filter(|claims| inspect::may_see(&caller.client, claims));
    let introspection = match live {
        Some(claims) => inspect::introspection(&request.app, &caller.client, claims).await?,
        None => None,
    };
    crate::metrics::introspected(introspection.is_some());
    if request.headers.contains_key(header::ACCEPT) && accept::prefers(&request.headers, SIGNED) {
        return signed(request, &caller.client, introspection);
    }
    match introspection {
        Some(introspection) => reply::to_json(&introspection),
        None => Ok(reply::json(INACTIVE)),
    }
}

/// The answer as a JWT, RFC 9701 section 5. Its `typ` is not that of an access token, so that it is never taken for one.
#[derive(Serialize)]
struct Signed<'a> {
    iss: &'a str,
    /// Who asked.
    aud: &'a str,
    iat: i64,
    token_introspection: serde_json::Value,
}

fn signed(request: &Request, caller: &Client, introspection: Option<inspect::Introspection>) -> Result<Answer, OAuth2Error> {
    let (app, now) = (&request.app, request.app.clock.now());
    let failed = |reason| OAuth2Error::new(ErrorCode::ServerError, "the answer could not be written").because(reason);
    let token_introspection = match introspection {
        Some(introspection) => serde_json::to_value(introspection).map_err(failed)?,
        None => serde_json::json!({ "active": false }),
    };
    let claims = Signed { iss: &app.issuer, aud: caller.id.as_str(), iat: now, token_introspection };
    let algorithm = caller.settings.introspection_signed_response_alg.unwrap_or(SigningAlgorithm::Rs256);
    let ring = app.keys.ring();
    let jwt = ring.signing_key(algorithm, now)?.sign(TYP, &serde_json::to_vec(&claims).map_err(failed)?)?;
    let mut answer = reply::json(jwt.expose().to_owned());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SIGNED));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(answer)
}
