//! GET /oauth2/revocations: the feed of revocations for confidential clients with `revocations = true`, so that they may keep answers
//! of introspection for `cache_for` seconds and still honour a revocation within a second.
//!
//! Without `since` a snapshot of all that still matters, with it what came after: pages of JSON with an ETag, or server-sent events
//! ([`super::event_stream`]). POST does the same for clients whose proof stands in the form, such as a signed assertion.

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};
use serde::Serialize;

use super::event_stream;
use crate::oauth2::{ErrorCode, Form, OAuth2Error};
use crate::tokens::feed_view::{Cursor, Page, Shown};
use crate::web::peer::HangUp;
use crate::web::{Answer, Request, accept, reply};

/// What JSON and events hold.
#[derive(Serialize)]
pub(super) struct News<'a> {
    feed: &'a str,
    cursor: String,
    entries: &'a [Arc<Shown>],
    /// Whether more is there already: ask again with the cursor.
    more: bool,
}

impl<'a> News<'a> {
    pub(super) fn new(page: &'a Page) -> News<'a> {
        News { feed: &page.feed, cursor: page.cursor().to_string(), entries: &page.entries, more: page.more }
    }

    pub(super) fn cursor(&self) -> &str {
        &self.cursor
    }
}

pub async fn revocations(request: Request, method: Method, query: String, hang_up: Option<HangUp>) -> Answer {
    let answer = answer(&request, &method, &query, hang_up).await;
    reply::finish(&request, answer)
}

async fn answer(request: &Request, method: &Method, query: &str, hang_up: Option<HangUp>) -> Result<Answer, OAuth2Error> {
    let form = if method == Method::POST { request.form()? } else { Form::parse(query.as_bytes())? };
    if method != Method::POST && ["client_secret", "client_assertion"].iter().any(|name| form.get(name).is_some()) {
        return Err(OAuth2Error::invalid_request("credentials do not belong into a URL; send Basic, or a form by POST"));
    }
    let caller = request.caller_at(&form, "revocations").await?;
    if caller.client.settings.public {
        request.refuse_public(&caller);
        return Err(OAuth2Error::new(ErrorCode::InvalidClient, "the revocations are for clients that can keep a secret"));
    }
    if !caller.client.settings.revocations {
        let mut error = OAuth2Error::new(ErrorCode::UnauthorizedClient, "the client may not follow the revocations");
        error.status = 403;
        return Err(error);
    }
    let app = &request.app;
    // A node that is cut off does not know what was revoked.
    app.rv()?;
    let streamed = accept::prefers(&request.headers, event_stream::MEDIA_TYPE);
    let since = since(request, &form, streamed)?;
    if streamed {
        return event_stream::open(app, &caller, since, hang_up).await;
    }
    let asked = since.as_ref().map_or(0, |cursor| cursor.n);
    let page = app.revoked_after(since).await?.ok_or_else(gone)?;
    let news = News::new(&page);
    // The same question has the same answer until the head moves, but for what has expired meanwhile.
    let etag = format!("\"{asked}-{}\"", news.cursor());
    let mut answer = match method == Method::GET && reply::is_current(&request.headers, &etag) {
        true => reply::empty(StatusCode::NOT_MODIFIED),
        false => reply::to_json(&news)?,
    };
    let headers = answer.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("Authorization, Accept"));
    Ok(answer)
}

/// Where the caller stands: of a stream that was lost, what its last event said.
fn since(request: &Request, form: &Form, streamed: bool) -> Result<Option<Cursor>, OAuth2Error> {
    let last = request.headers.get("last-event-id").filter(|_| streamed).and_then(|value| value.to_str().ok());
    let Some(text) = last.filter(|last| !last.is_empty()).or_else(|| form.get("since")) else { return Ok(None) };
    text.parse().map(Some).map_err(|()| OAuth2Error::invalid_request("since is no cursor of this endpoint"))
}

/// The cursor is of another feed, or of numbers that this one has not given: after a restored backup.
pub(super) fn gone() -> OAuth2Error {
    let mut error = OAuth2Error::invalid_request("the cursor cannot be continued; begin again without since");
    error.status = 410;
    error
}
