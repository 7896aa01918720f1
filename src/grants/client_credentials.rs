//! RFC 6749 section 4.4: a client gets a token of its own. Nothing is written.

use super::issue::{self, Subject};
use super::{Asked, Caller, Issued};
use crate::app::App;
use crate::oauth2::{OAuth2Error, TokenResponse};

pub fn grant(app: &App, caller: &Caller, asked: Asked) -> Result<Issued, OAuth2Error> {
    let client = &caller.client;
    let roles = client.settings.roles.clone();
    let scope = asked.scope.unwrap_or_else(|| client.scopes.clone());
    let minted = issue::access_token(app, client, Subject::Client, &scope, &asked.audience, roles.clone(), asked.rv, asked.now)?;
    let response =
        TokenResponse { access_token: minted.token, expires_in: minted.expires_in, scope, refresh_token: None, issued_token_type: None };
    Ok(Issued { response, person: None, roles })
}
