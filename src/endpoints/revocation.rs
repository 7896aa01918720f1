//! POST /oauth2/revoke, RFC 7009. Public clients may revoke their own tokens too (section 2.1).

use http::StatusCode;

use crate::grants::revoke;
use crate::oauth2::OAuth2Error;
use crate::web::{Answer, Request, reply};

pub async fn revoke(request: Request) -> Answer {
    let answer = answer(&request).await;
    reply::finish(&request, answer)
}

async fn answer(request: &Request) -> Result<Answer, OAuth2Error> {
    let form = request.form()?;
    let caller = request.caller_at(&form, "revoke").await?;
    revoke::revoke(&request.app, &caller, form.require("token")?).await?;
    Ok(reply::empty(StatusCode::OK))
}
