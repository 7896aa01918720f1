//! Answers in the shapes of the RFCs.

use serde::Serialize;

use super::{Scope, Secret};

/// RFC 6749 section 5.1, with `issued_token_type` of RFC 8693 section 2.2.1.
#[derive(Debug)]
pub struct TokenResponse {
    pub access_token: Secret,
    /// Seconds.
    pub expires_in: i64,
    pub scope: Scope,
    pub refresh_token: Option<Secret>,
    pub issued_token_type: Option<&'static str>,
}

#[derive(Serialize)]
struct Wire<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: i64,
    scope: &'a Scope,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
}

impl TokenResponse {
    /// The JSON body.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut body = Vec::with_capacity(self.access_token.expose().len() + 256);
        let wire = Wire {
            access_token: self.access_token.expose(),
            token_type: "Bearer",
            expires_in: self.expires_in,
            scope: &self.scope,
            refresh_token: self.refresh_token.as_ref().map(Secret::expose),
            issued_token_type: self.issued_token_type,
        };
        serde_json::to_writer(&mut body, &wire).map(|()| body)
    }
}
