//! The one error that leaves the house: a code and a description for the caller, a cause for the log.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Error codes and where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// RFC 6749 section 5.2
    InvalidRequest,
    /// RFC 6749 section 5.2
    InvalidClient,
    /// RFC 6749 section 5.2
    InvalidGrant,
    /// RFC 6749 section 5.2
    UnauthorizedClient,
    /// RFC 6749 section 5.2
    UnsupportedGrantType,
    /// RFC 6749 section 5.2
    InvalidScope,
    /// RFC 8707 section 2, RFC 8693 section 2.2.2
    InvalidTarget,
    /// RFC 6750 section 3.1
    InvalidToken,
    /// RFC 6750 section 3.1
    InsufficientScope,
    /// RFC 7009 section 2.2.1
    UnsupportedTokenType,
    /// RFC 6749 section 4.1.2.1, by analogy at the token endpoint: 500
    ServerError,
    /// RFC 6749 section 4.1.2.1, by analogy at the token endpoint: 503, or 429 for too many tries
    TemporarilyUnavailable,
}

impl ErrorCode {
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidRequest => "invalid_request",
            ErrorCode::InvalidClient => "invalid_client",
            ErrorCode::InvalidGrant => "invalid_grant",
            ErrorCode::UnauthorizedClient => "unauthorized_client",
            ErrorCode::UnsupportedGrantType => "unsupported_grant_type",
            ErrorCode::InvalidScope => "invalid_scope",
            ErrorCode::InvalidTarget => "invalid_target",
            ErrorCode::InvalidToken => "invalid_token",
            ErrorCode::InsufficientScope => "insufficient_scope",
            ErrorCode::UnsupportedTokenType => "unsupported_token_type",
            ErrorCode::ServerError => "server_error",
            ErrorCode::TemporarilyUnavailable => "temporarily_unavailable",
        }
    }
}

/// What went wrong. `code`, `description` and `status` are sent; `cause` is logged and never sent.
#[derive(Debug)]
pub struct OAuth2Error {
    pub code: ErrorCode,
    /// The HTTP status.
    pub status: u16,
    /// ASCII without quotes, backslashes or line breaks (RFC 6749 section 5.2); [`OAuth2Error::new`] sees to it.
    pub description: Cow<'static, str>,
    /// What `Retry-After` says, for 429 and 503.
    pub retry_after: Option<Duration>,
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl OAuth2Error {
    pub fn new(code: ErrorCode, description: impl Into<Cow<'static, str>>) -> OAuth2Error {
        let status = match code {
            ErrorCode::InvalidClient | ErrorCode::InvalidToken => 401,
            ErrorCode::InsufficientScope => 403,
            ErrorCode::ServerError => 500,
            ErrorCode::TemporarilyUnavailable => 503,
            _ => 400,
        };
        OAuth2Error { code, status, description: printable(description.into()), retry_after: None, cause: None }
    }

    pub fn invalid_request(description: impl Into<Cow<'static, str>>) -> OAuth2Error {
        OAuth2Error::new(ErrorCode::InvalidRequest, description)
    }

    /// One text for every reason, so that the answer tells nothing about accounts. The reason goes to the audit.
    pub fn invalid_grant() -> OAuth2Error {
        OAuth2Error::new(ErrorCode::InvalidGrant, "the credentials or the grant are not valid")
    }

    pub fn invalid_client() -> OAuth2Error {
        OAuth2Error::new(ErrorCode::InvalidClient, "client authentication failed")
    }

    /// 503 with `Retry-After`: we could not ask; nothing was decided.
    pub fn unavailable(description: impl Into<Cow<'static, str>>) -> OAuth2Error {
        let mut error = OAuth2Error::new(ErrorCode::TemporarilyUnavailable, description);
        error.retry_after = Some(Duration::from_secs(2));
        error
    }

    /// 429 with `Retry-After`.
    pub fn too_many_tries(wait: Duration) -> OAuth2Error {
        let mut error = OAuth2Error::new(ErrorCode::TemporarilyUnavailable, "too many tries, wait a while");
        error.status = 429;
        error.retry_after = Some(wait);
        error
    }

    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OAuth2Error {
        self.cause = Some(cause.into());
        self
    }
}

impl fmt::Display for OAuth2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.description)
    }
}

impl std::error::Error for OAuth2Error {}

fn printable(text: Cow<'static, str>) -> Cow<'static, str> {
    let allowed = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
    if text.chars().all(allowed) { text } else { text.chars().map(|c| if allowed(c) { c } else { '?' }).collect::<String>().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_hold_only_what_the_rfc_allows() {
        let error = OAuth2Error::invalid_request("a \"b\" \\ é\n");
        assert_eq!(error.description, "a ?b? ? ??");
    }
}
