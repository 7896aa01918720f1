//! What a token request asks for, before anything is decided.

use super::{ErrorCode, Form, OAuth2Error, Scope, Secret};

/// The grant types we know, by their wire names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantType {
    /// RFC 6749 section 4.4
    ClientCredentials,
    /// RFC 6749 section 4.3
    Password,
    /// RFC 6749 section 6
    RefreshToken,
    /// RFC 8693
    TokenExchange,
}

impl GrantType {
    pub const ALL: [GrantType; 4] = [GrantType::ClientCredentials, GrantType::Password, GrantType::RefreshToken, GrantType::TokenExchange];

    pub fn as_str(self) -> &'static str {
        match self {
            GrantType::ClientCredentials => "client_credentials",
            GrantType::Password => "password",
            GrantType::RefreshToken => "refresh_token",
            GrantType::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }

    pub fn parse(name: &str) -> Option<GrantType> {
        GrantType::ALL.into_iter().find(|g| g.as_str() == name)
    }
}

/// RFC 8693 section 3
pub const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
/// RFC 8693 section 3
pub const ID_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:id_token";

/// A token request, parsed: the grant, and what all grants share.
#[derive(Debug)]
pub struct TokenRequest {
    pub grant: Grant,
    /// None where no scope was asked.
    pub scope: Option<Scope>,
    /// `resource` (RFC 8707) and `audience` (RFC 8693), in the order sent.
    pub targets: Vec<String>,
}

/// What each grant brings with it.
#[derive(Debug)]
pub enum Grant {
    ClientCredentials,
    Password {
        username: String,
        password: Secret,
        source: Option<String>,
    },
    RefreshToken {
        refresh_token: Secret,
    },
    /// `subject_access_token` is ours: the access token that the provider issued beside the id token.
    TokenExchange {
        subject_token: Secret,
        subject_access_token: Option<Secret>,
    },
}

impl Grant {
    pub fn grant_type(&self) -> GrantType {
        match self {
            Grant::ClientCredentials => GrantType::ClientCredentials,
            Grant::Password { .. } => GrantType::Password,
            Grant::RefreshToken { .. } => GrantType::RefreshToken,
            Grant::TokenExchange { .. } => GrantType::TokenExchange,
        }
    }
}

impl TokenRequest {
    /// Reads the form of RFC 6749 section 4.
    ///
    /// Errors: `invalid_request`, `unsupported_grant_type`, `invalid_scope`.
    pub fn parse(form: &Form) -> Result<TokenRequest, OAuth2Error> {
        let grant_type = GrantType::parse(form.require("grant_type")?)
            .ok_or_else(|| OAuth2Error::new(ErrorCode::UnsupportedGrantType, "this grant_type is not supported"))?;
        let grant = match grant_type {
            GrantType::ClientCredentials => Grant::ClientCredentials,
            GrantType::Password => Grant::Password {
                username: form.require("username")?.to_owned(),
                password: Secret::new(form.require("password")?),
                source: form.get("source").map(str::to_owned),
            },
            GrantType::RefreshToken => Grant::RefreshToken { refresh_token: Secret::new(form.require("refresh_token")?) },
            GrantType::TokenExchange => {
                if form.require("subject_token_type")? != ID_TOKEN_TYPE {
                    return Err(OAuth2Error::invalid_request(format!("subject_token_type must be {ID_TOKEN_TYPE}")));
                }
                if form.get("requested_token_type").is_some_and(|t| t != ACCESS_TOKEN_TYPE) {
                    return Err(OAuth2Error::invalid_request(format!("requested_token_type must be {ACCESS_TOKEN_TYPE}")));
                }
                if form.get("actor_token").is_some() || form.get("actor_token_type").is_some() {
                    return Err(OAuth2Error::invalid_request("actor_token is not supported"));
                }
                Grant::TokenExchange {
                    subject_token: Secret::new(form.require("subject_token")?),
                    subject_access_token: form.get("subject_access_token").map(Secret::new),
                }
            }
        };
        let scope = match form.get("scope") {
            None => None,
            Some(text) => Some(
                Scope::parse(text)
                    .ok_or_else(|| OAuth2Error::new(ErrorCode::InvalidScope, "scope holds a character that is not allowed"))?,
            ),
        };
        if grant_type != GrantType::TokenExchange && form.all("audience").count() > 1 {
            return Err(OAuth2Error::invalid_request("the parameter audience is repeated"));
        }
        let targets = form.all("resource").chain(form.all("audience")).map(str::to_owned).collect();
        Ok(TokenRequest { grant, scope, targets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<TokenRequest, ErrorCode> {
        TokenRequest::parse(&Form::parse(body.as_bytes()).unwrap()).map_err(|e| e.code)
    }

    #[test]
    fn each_mistake_has_its_code() {
        assert_eq!(parse("").unwrap_err(), ErrorCode::InvalidRequest);
        assert_eq!(parse("grant_type=implicit").unwrap_err(), ErrorCode::UnsupportedGrantType);
        assert_eq!(parse("grant_type=password&username=a").unwrap_err(), ErrorCode::InvalidRequest);
        assert_eq!(parse("grant_type=client_credentials&scope=%22").unwrap_err(), ErrorCode::InvalidScope);
        assert!(parse("grant_type=client_credentials&unknown=1").is_ok());
        assert!(parse("grant_type=client_credentials&resource=a&resource=b").is_ok());
        assert_eq!(parse("grant_type=client_credentials&audience=a&audience=b").unwrap_err(), ErrorCode::InvalidRequest);
    }
}
