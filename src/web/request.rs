//! A request as the endpoints see it: who sent it, its Authorization header, its body.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, header};
use warp::Filter;
use warp::reject::Rejection;

use super::body::body;
use super::peer::{Peer, peer};
use crate::app::App;
use crate::audit::{Event, Record};
use crate::clients::assertion::AssertionRefusal;
use crate::clients::{Client, Credentials};
use crate::grants::Caller;
use crate::oauth2::{ErrorCode, Form, OAuth2Error, Secret};

/// One request.
pub struct Request {
    pub app: Arc<App>,
    pub peer: Peer,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Prints who asked, never the header or the body: they hold passwords and tokens.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Collects a [`Request`], its body under the limits of `[limits]`.
pub fn request(app: Arc<App>) -> impl Filter<Extract = (Request,), Error = Rejection> + Clone {
    let limits = &app.config.limits;
    let body = body(limits.body_bytes, limits.request_timeout);
    peer().and(body).map(move |peer, headers, body| Request { app: app.clone(), peer, headers, body })
}

impl Request {
    /// The form of the body.
    ///
    /// Errors: `invalid_request` for another content type or broken parameters.
    pub fn form(&self) -> Result<Form, OAuth2Error> {
        if !self.has_type("application/x-www-form-urlencoded") {
            return Err(OAuth2Error::invalid_request("the body must be application/x-www-form-urlencoded"));
        }
        Form::parse(&self.body)
    }

    /// Whether the body is of the media type `wanted`, whatever its parameters.
    pub fn has_type(&self, wanted: &str) -> bool {
        let sent = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        sent.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
    }

    /// The Authorization header.
    ///
    /// Errors: `invalid_request` for more than one.
    pub fn authorization(&self) -> Result<Option<&[u8]>, OAuth2Error> {
        let mut values = self.headers.get_all(header::AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (first, None) => Ok(first.map(|value| value.as_bytes())),
            _ => Err(OAuth2Error::invalid_request("there are two Authorization headers")),
        }
    }

    /// The token of an `Authorization: Bearer` header (RFC 6750 section 2.1), None without one.
    pub fn bearer(&self) -> Result<Option<Secret>, OAuth2Error> {
        let Some(header) = self.authorization()? else { return Ok(None) };
        let token = header.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        Ok(token.and_then(|(_, token)| std::str::from_utf8(token.trim_ascii()).ok()).map(Secret::new))
    }

    /// Authenticates the client of the request, which called the token endpoint.
    pub async fn caller(&self, form: &Form) -> Result<Caller, OAuth2Error> {
        self.caller_at(form, "token").await
    }

    /// Authenticates the client of the request, which called the endpoint /oauth2/`endpoint`.
    pub async fn caller_at(&self, form: &Form, endpoint: &str) -> Result<Caller, OAuth2Error> {
        let credentials = Credentials::read(self.authorization()?, form)?;
        let proven = match credentials.assertion() {
            None => self.app.authenticate(&credentials).await,
            // Boxed, as it is rare and large.
            Some(assertion) => Box::pin(self.app.authenticate_by_key(assertion, endpoint)).await,
        };
        let client = proven.inspect_err(|error| self.client_refused(&credentials, error))?;
        Ok(Caller { authenticated: !client.settings.public, ..self.caller_for(client) })
    }

    /// Leaves a record of a client that did not prove who it is.
    pub fn client_refused(&self, credentials: &Credentials, error: &OAuth2Error) {
        if error.code == ErrorCode::InvalidClient {
            let claimed: String = credentials.client_id.chars().take(200).collect();
            let why = error.cause.as_ref().and_then(|cause| cause.downcast_ref::<AssertionRefusal>());
            let reason = why.map_or(error.code.as_str(), |refusal| refusal.as_str());
            let record = Record::refused(Event::ClientRefused, self.app.clock.now(), reason);
            let record = record.client(claimed).address(self.peer.address).request(self.peer.request_id.to_string());
            self.app.refusals.record(record);
        }
    }

    /// Leaves a record of a public client that asked for what needs a secret.
    pub fn refuse_public(&self, caller: &Caller) {
        let record = Record::refused(Event::ClientRefused, self.app.clock.now(), "public_client").client(caller.client.id.as_str());
        self.app.refusals.record(record.address(caller.address).request(caller.request_id.to_string()));
    }

    /// A caller for whom `client` stands in, without having proved anything.
    pub fn caller_for(&self, client: Arc<Client>) -> Caller {
        Caller { client, authenticated: false, address: self.peer.address, request_id: self.peer.request_id }
    }

    /// Whether HTTP Basic was tried.
    pub fn tried_basic(&self) -> bool {
        Credentials::tried_basic(self.headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()))
    }
}
