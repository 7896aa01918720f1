//! POST /oauth2/introspect, RFC 7662. Unknown, malformed, expired, revoked and not-for-this-caller look alike; a failure of ours
//! is 503 and never `active: false`.

use crate::grants::inspect;
use crate::oauth2::{ErrorCode, OAuth2Error};
use crate::web::{Answer, Request, reply};

const INACTIVE: &str = r#"{"active":false}"#;

pub async fn introspect(request: Request) -> Answer {
    let answer = answer(&request).await;
    reply::finish(&request, answer)
}

async fn answer(request: &Request) -> Result<Answer, OAuth2Error> {
    let form = request.form()?;
    // Section 2.1: the caller is authenticated first, whatever the token.
    let caller = request.caller(&form).await?;
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
    match introspection {
        Some(introspection) => reply::to_json(&introspection),
        None => Ok(reply::json(INACTIVE)),
    }
}
