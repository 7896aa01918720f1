//! Grants: one grant, one file, one returned value. The checks that all share stand here, where no grant can forget them:
//! the client may use the grant, the scope is within the client's, the targets are allowed, the node is fresh.
//!
//! A grant that signs a person in ends in [`sign_in`]; every token is minted in [`issue`].

mod attempt;
pub mod cause;
mod client_credentials;
mod commit;
pub mod inspect;
mod issue;
mod offline;
mod password;
mod recheck;
mod refresh_token;
pub mod revoke;
mod sign_in;
mod token_exchange;
pub mod upstream_revocation;

use std::net::IpAddr;
use std::sync::Arc;

pub use sign_in::SignedIn;

use tracing::Instrument;

use crate::app::App;
use crate::audit::{Event, Record, RequestId};
use crate::clients::Client;
use crate::oauth2::request::Grant;
use crate::oauth2::{ErrorCode, OAuth2Error, Scope, TokenRequest, TokenResponse};

/// Who asks: an authenticated client, from an address.
#[derive(Clone, Debug)]
pub struct Caller {
    pub client: Arc<Client>,
    /// Whether the client proved who it is with a secret. A public client, or one that stands in for a dialect, can be anybody.
    pub authenticated: bool,
    pub address: IpAddr,
    pub request_id: RequestId,
}

/// What was asked, once the shared checks have passed.
#[derive(Debug)]
struct Asked {
    /// None: all that is allowed.
    scope: Option<Scope>,
    /// `aud` of the token to come.
    audience: Vec<String>,
    /// Whether the request itself named a target.
    retarget: bool,
    /// The number of the last revocation applied when the request began.
    rv: i64,
    now: i64,
}

/// What was issued, with what the foreign shapes want to know about it.
#[derive(Debug)]
pub struct Issued {
    pub response: TokenResponse,
    /// The person, or None for a client's own token.
    pub person: Option<SignedIn>,
    pub roles: Vec<String>,
}

/// Answers a token request.
///
/// Errors: those of RFC 6749 section 5.2; 503 when the node cannot follow the feed, or a source or the database is down.
pub async fn grant(app: &Arc<App>, caller: &Caller, mut request: TokenRequest) -> Result<Issued, OAuth2Error> {
    let rv = app.rv()?;
    let asked = permit(app, caller, &mut request, rv).inspect_err(|error| {
        let record = Record::refused(Event::GrantRefused, app.clock.now(), error.code.as_str());
        app.refusals.record(attempt::of_caller(record, caller).detail(error.description.as_ref().into()));
    })?;
    let grant_type = request.grant.grant_type();
    // A client's own token is what is asked for most. So the ways of people stay out of its future (a boxed one is a pointer, where
    // theirs are kilobytes that would be moved with each request), and so does their span, by which what they log carries the id of
    // the request.
    let span = || tracing::error_span!("request", id = %caller.request_id);
    let issued = match request.grant {
        Grant::ClientCredentials => client_credentials::grant(app, caller, asked),
        Grant::Password { username, password, source } => {
            Box::pin(password::grant(app, caller, asked, username, password, source)).instrument(span()).await
        }
        Grant::RefreshToken { refresh_token } => Box::pin(refresh_token::grant(app, caller, asked, refresh_token)).instrument(span()).await,
        Grant::TokenExchange { subject_token, subject_access_token } => {
            Box::pin(token_exchange::grant(app, caller, asked, subject_token, subject_access_token)).instrument(span()).await
        }
    }?;
    crate::metrics::token_issued(grant_type);
    Ok(issued)
}

/// The checks that no grant can forget.
fn permit(app: &App, caller: &Caller, request: &mut TokenRequest, rv: i64) -> Result<Asked, OAuth2Error> {
    let client = &caller.client;
    if !client.may(request.grant.grant_type()) {
        return Err(OAuth2Error::new(ErrorCode::UnauthorizedClient, "the client may not use this grant_type"));
    }
    if request.scope.as_ref().is_some_and(|scope| !scope.is_subset(&client.scopes)) {
        return Err(OAuth2Error::new(ErrorCode::InvalidScope, "the scope is unknown or beyond what the client may ask for"));
    }
    let retarget = !request.targets.is_empty();
    let audience = issue::audience(app, client, std::mem::take(&mut request.targets))?;
    Ok(Asked { scope: request.scope.take(), audience, retarget, rv, now: app.clock.now() })
}
