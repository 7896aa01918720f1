//! POST /oauth2/token, RFC 6749 section 3.2.

use crate::grants;
use crate::oauth2::{ErrorCode, OAuth2Error, TokenRequest};
use crate::web::{Answer, Request, reply};

pub async fn token(request: Request) -> Answer {
    let answer = answer(&request).await;
    reply::finish(&request, answer)
}

async fn answer(request: &Request) -> Result<Answer, OAuth2Error> {
    let form = request.form()?;
    let caller = request.caller(&form).await?;
    let issued = grants::grant(&request.app, &caller, TokenRequest::parse(&form)?).await?;
    let body = issued
        .response
        .to_json()
        .map_err(|reason| OAuth2Error::new(ErrorCode::ServerError, "the answer could not be written").because(reason))?;
    Ok(reply::token(body))
}
