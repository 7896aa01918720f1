use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Attributes;

/// `type = "okta"` or `type = "oidc"`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OidcSource {
    /// `type = "okta"`; no key of its own.
    #[serde(skip)]
    pub okta: bool,
    /// Matched exactly against `iss`.
    pub issuer: String,
    pub client_id: String,
    /// Accepted `aud` values; default: the client_id.
    pub audiences: Vec<String>,
    /// Okta's, for signInConfig and its management API; default: the issuer's origin.
    pub base_url: Option<String>,
    /// JSON Pointer to the groups.
    pub groups_claim: String,
    /// An id token without the groups claim is refused.
    pub groups_required: bool,
    /// A file with an API token of Okta (SSWS), for the Groups and Users API: incomplete groups are resolved there, and people
    /// asked for again. Read whenever it is used. `type = "okta"` only.
    pub api_token_file: Option<PathBuf>,
    /// Accept Global Token Revocation (Okta's Universal Logout) at /federation/NAME/global-token-revocation.
    pub global_token_revocation: bool,
    /// `iss` of those requests; default: `base_url` for Okta, whose organisation signs them, else the issuer.
    pub global_token_revocation_issuer: Option<String>,
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub clock_skew: Duration,
    /// Oldest id token (by `iat`) that an exchange accepts.
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub max_age: Duration,
    /// Accepted `alg` values; symmetric ones and `none` are never accepted.
    pub algorithms: Vec<String>,
    /// `acr` values, one of which the token must have. Without it any.
    pub acr_values: Vec<String>,
    /// `amr` values, one of which the token must have. Without it any.
    pub amr_values: Vec<String>,
    /// Longest time since `auth_time`. Without it any.
    #[serde(deserialize_with = "crate::config::duration::optional")]
    pub max_auth_age: Option<Duration>,
    pub attributes: Attributes,
    pub ca_file: Option<PathBuf>,
    /// E-mail domains of its people.
    pub domains: Vec<String>,
}

impl Default for OidcSource {
    fn default() -> Self {
        OidcSource {
            okta: false,
            issuer: String::new(),
            client_id: String::new(),
            audiences: Vec::new(),
            base_url: None,
            groups_claim: "/groups".to_owned(),
            groups_required: false,
            api_token_file: None,
            global_token_revocation: false,
            global_token_revocation_issuer: None,
            clock_skew: Duration::from_secs(60),
            max_age: Duration::from_secs(600),
            algorithms: vec!["RS256".to_owned()],
            acr_values: Vec::new(),
            amr_values: Vec::new(),
            max_auth_age: None,
            attributes: Attributes::default(),
            ca_file: None,
            domains: Vec::new(),
        }
    }
}
