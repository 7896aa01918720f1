//! From values and errors to HTTP. Every answer of an endpoint is made here.

use std::convert::Infallible;

use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use warp::Rejection;
use warp::reply::Response;

use super::body::BodyError;
use super::request::Request;
use crate::oauth2::{ErrorCode, OAuth2Error};

/// What every route answers.
pub type Answer = Response;

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'static str,
    error_description: &'a str,
}

/// 200 with a token: JSON that is not to be stored, and says so to caches of HTTP/1.0 too (RFC 6749 section 5.1).
pub fn token(body: impl Into<warp::hyper::body::Bytes>) -> Response {
    let mut response = json(body);
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// 200 with JSON that is not to be stored.
pub fn json(body: impl Into<warp::hyper::body::Bytes>) -> Response {
    let mut response = Response::new(body.into().into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The same for anything that serialises.
pub fn to_json(value: &impl Serialize) -> Result<Response, OAuth2Error> {
    let mut body = Vec::with_capacity(512);
    serde_json::to_writer(&mut body, value)
        .map_err(|reason| OAuth2Error::new(ErrorCode::ServerError, "the answer could not be written").because(reason))?;
    Ok(json(body))
}

/// Whether the caller has the answer of this ETag already (RFC 9110 section 13.1.2).
pub fn is_current(headers: &http::HeaderMap, etag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|list| list.split(',')).map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == etag || tag == "*")
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = json("");
    *response.status_mut() = status;
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

/// The answer, or the error as HTTP; `WWW-Authenticate: Basic` when Basic was tried (RFC 6749 section 5.2).
pub fn finish(request: &Request, answer: Result<Response, OAuth2Error>) -> Response {
    answer.unwrap_or_else(|failure| {
        log(request, &failure);
        crate::metrics::refused(failure.code);
        let mut response = error(&failure);
        if failure.code == ErrorCode::InvalidClient && request.tried_basic() {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"countersign\", charset=\"UTF-8\""));
        }
        response
    })
}

/// An error as JSON with its status and `Retry-After`.
pub fn error(failure: &OAuth2Error) -> Response {
    let body = ErrorBody { error: failure.code.as_str(), error_description: &failure.description };
    let mut response = json(serde_json::to_vec(&body).unwrap_or_default());
    *response.status_mut() = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(wait) = failure.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    response
}

/// The answer of a resource to a bearer token that is missing, bad or short of scope (RFC 6750 section 3).
pub fn bearer_error(request: &Request, failure: Option<&OAuth2Error>) -> Response {
    let (mut response, challenge) = match failure {
        None => (empty(StatusCode::UNAUTHORIZED), "Bearer".to_owned()),
        Some(failure) => {
            log(request, failure);
            crate::metrics::refused(failure.code);
            (error(failure), format!("Bearer error=\"{}\"", failure.code.as_str()))
        }
    };
    if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        && let Ok(challenge) = HeaderValue::from_str(&challenge)
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The cause goes to the log and never to the caller. What callers do wrong is logged only when asked for.
pub fn log(request: &Request, failure: &OAuth2Error) {
    let (id, client) = (request.peer.request_id, request.peer.address);
    let cause = failure.cause.as_ref().map(ToString::to_string).unwrap_or_default();
    match failure.status {
        500.. => tracing::error!(request = %id, %client, error = failure.code.as_str(), cause, "{}", failure.description),
        _ => tracing::debug!(request = %id, %client, error = failure.code.as_str(), cause, "{}", failure.description),
    }
}

/// What no route took, as JSON.
pub async fn rejected(rejection: Rejection) -> Result<Response, Infallible> {
    let (status, description) = match rejection.find::<BodyError>() {
        Some(BodyError::TooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
        Some(BodyError::TooSlow) => (StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
        Some(BodyError::Broken) => (StatusCode::BAD_REQUEST, "the body broke off"),
        None if rejection.find::<warp::reject::MethodNotAllowed>().is_some() => {
            (StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here")
        }
        None if rejection.is_not_found() => (StatusCode::NOT_FOUND, "there is nothing here"),
        None => (StatusCode::BAD_REQUEST, "the request is malformed"),
    };
    let mut response = error(&OAuth2Error::invalid_request(description));
    *response.status_mut() = status;
    Ok(response)
}
