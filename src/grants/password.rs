//! RFC 6749 section 4.3, for clients that are allowed it by name: the person's password goes to the source that knows them.

use super::attempt::{self, Attempt};
use super::sign_in;
use super::{Asked, Caller, Issued};
use crate::app::App;
use crate::identity::Authentication;
use crate::oauth2::request::GrantType;
use crate::oauth2::{OAuth2Error, Secret};

pub async fn grant(
    app: &App,
    caller: &Caller,
    mut asked: Asked,
    username: String,
    password: Secret,
    source: Option<String>,
) -> Result<Issued, OAuth2Error> {
    let client = &caller.client;
    if source.as_ref().is_some_and(|name| app.sources.find(name).is_none() || !client.admits_source(name)) {
        app.refusals.record(attempt::refusal_record(caller, "unknown_source", asked.now).username(&username));
        return Err(OAuth2Error::invalid_request("there is no such source for this client"));
    }
    let attempt = Attempt::begin(app, caller, &username, &password).await?;
    // Up to here, so that what is revoked while the source is asked is noticed, and what was revoked before is not taken for it.
    app.catch_up().await?;
    asked.rv = app.rv()?;
    let tried = attempt.of(app, &username, &password);
    match app.sources.authenticate(&tried, source.as_deref(), |name| client.admits_source(name)).await {
        Authentication::Authenticated(identity) => {
            attempt.succeeded(app);
            sign_in::complete(app, caller, asked, *identity, GrantType::Password).await
        }
        Authentication::Refused(refusal) => Err(attempt.refused(app, caller, &username, &refusal, asked.now)),
        Authentication::Unavailable(outage) => Err(attempt.could_not_ask(app, outage)),
    }
}
