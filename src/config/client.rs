use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SigningAlgorithm;

/// `[[client]]`: one declared client; `countersign client add` takes the same as flags. Stored as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    /// The client_id: visible ASCII, not of the form of an account id.
    pub id: String,
    /// A file with one secret a line, each of at least 32 characters. Re-read when it changes.
    #[serde(skip_serializing)]
    pub secrets_file: Option<PathBuf>,
    /// A client that can keep no secret (RFC 6749 section 2.1). It authenticates with its id alone.
    pub public: bool,
    /// The only way this client may authenticate; without it Basic and post both do.
    pub auth_method: Option<AuthMethod>,
    /// Grant types as on the wire: `client_credentials`, `password`, `refresh_token`,
    /// `urn:ietf:params:oauth:grant-type:token-exchange`. With none the client may only introspect and revoke.
    pub grants: Vec<String>,
    /// What the client may ask for; asking for none means all of these.
    pub scopes: Vec<String>,
    /// Roles of the client's own tokens (client_credentials).
    pub roles: Vec<String>,
    /// A person's token has at most these roles (`*` matches any run of characters). Without it there is no ceiling.
    pub role_ceiling: Option<Vec<String>>,
    /// The sources whose people may sign in through this client. Without it all of them.
    pub sources: Option<Vec<String>>,
    /// What may be asked for as `resource` or `audience`; the first is the default, without any it is the issuer.
    pub audiences: Vec<String>,
    /// URIs this client answers for as a resource server: it may introspect tokens that name one of them in `aud`.
    pub resources: Vec<String>,
    /// Whose tokens it may introspect.
    pub introspect: Introspect,
    pub token_format: Option<TokenFormat>,
    /// The algorithm of this client's JWT access tokens.
    pub signing_algorithm: Option<SigningAlgorithm>,
    /// Which of `roles` and `groups` its JWT access tokens carry (RFC 9068 section 2.2.3.1).
    pub jwt_claims: Vec<String>,
    #[serde(deserialize_with = "super::duration::optional", serialize_with = "write_duration", skip_serializing_if = "Option::is_none")]
    pub access_lifetime: Option<Duration>,
}

fn write_duration<S: serde::Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(value.unwrap_or_default()))
}

/// `token_endpoint_auth_method` of RFC 7591 section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    ClientSecretBasic,
    ClientSecretPost,
    None,
}

/// Whose tokens a client sees when it introspects (RFC 7662 section 4 asks for a limit).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Introspect {
    /// Its own tokens and those that name it, or one of its `resources`, in `aud`.
    #[default]
    Audience,
    /// All tokens.
    Any,
}

/// The form of an access token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenFormat {
    #[default]
    Opaque,
    Jwt,
}
