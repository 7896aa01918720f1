//! POST /federation/{source}/global-token-revocation: a provider ends everything of one of its people
//! (draft-parecki-oauth-global-token-revocation, Okta's Universal Logout). Only where the source has `global_token_revocation`.

use http::StatusCode;
use serde::Deserialize;

use crate::grants::upstream_revocation::{Upstream, UpstreamSubject};
use crate::identity::Source;
use crate::identity::oidc::is_name;
use crate::oauth2::{ErrorCode, OAuth2Error};
use crate::web::{Answer, Request, reply};

/// `sub_id` of the draft; Okta's first version called it `subject`.
#[derive(Deserialize)]
struct Body {
    sub_id: Option<SubjectIdentifier>,
    subject: Option<SubjectIdentifier>,
}

/// RFC 9493 section 3.
#[derive(Deserialize)]
struct SubjectIdentifier {
    format: String,
    iss: Option<String>,
    sub: Option<String>,
}

pub async fn global_token_revocation(source: String, request: Request) -> Answer {
    match answer(&source, &request).await {
        Ok(answer) => answer,
        Err(None) => reply::bearer_error(&request, None),
        Err(Some(error)) if error.code == ErrorCode::InvalidToken => reply::bearer_error(&request, Some(&error)),
        Err(Some(error)) => reply::finish(&request, Err(error)),
    }
}

/// The inner None: no bearer token at all.
async fn answer(source: &str, request: &Request) -> Result<Answer, Option<OAuth2Error>> {
    let named = request.app.sources.find(source);
    let Some((source, oidc)) = named.and_then(|named| match &named.source {
        Source::Oidc(oidc) if oidc.accepts_revocations() => Some((&named.name, oidc)),
        _ => None,
    }) else {
        return Err(Some(OAuth2Error { status: 404, ..OAuth2Error::invalid_request("there is nothing here") }));
    };
    let upstream = Upstream { source, oidc, address: request.peer.address, request_id: request.peer.request_id };
    let token = request.bearer()?.ok_or(None)?;
    let endpoint = format!("{}/federation/{source}/global-token-revocation", request.app.issuer.trim_end_matches('/'));
    let verified = upstream.authenticate(&request.app, &token, &endpoint).await?;
    let whose = subject(request)?;
    upstream.revoke(&request.app, verified, whose).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// Who is meant. An e-mail address names nobody here: it can change hands, and identity is issuer and subject.
fn subject(request: &Request) -> Result<UpstreamSubject, OAuth2Error> {
    if !request.has_type("application/json") {
        return Err(OAuth2Error::invalid_request("the body must be application/json"));
    }
    let malformed = || OAuth2Error::invalid_request("the body must be a JSON object with sub_id, a subject identifier");
    let body: Body = serde_json::from_slice(&request.body).map_err(|_| malformed())?;
    let identifier = match (body.sub_id, body.subject) {
        (Some(identifier), None) | (None, Some(identifier)) => identifier,
        _ => return Err(malformed()),
    };
    match (identifier.format.as_str(), identifier.iss, identifier.sub) {
        ("iss_sub", Some(issuer), Some(subject)) if is_name(&subject) => Ok(UpstreamSubject { issuer, subject }),
        ("iss_sub", ..) => Err(OAuth2Error::invalid_request("the subject identifier lacks iss or sub, or sub is no name")),
        _ => Err(OAuth2Error::invalid_request("the format of the subject identifier must be iss_sub: nobody is known by anything else")),
    }
}
