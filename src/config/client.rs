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
    /// For `private_key_jwt`: the public keys whose assertions it is known by, as a JWK set (RFC 7517 section 5). A table, or a
    /// text with the JSON.
    #[serde(deserialize_with = "key_set")]
    pub jwks: Option<serde_json::Value>,
    /// For `private_key_jwt`: where the keys are, https. Fetched when an assertion needs it, and again for a new kid.
    pub jwks_uri: Option<String>,
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
    /// The algorithm of its signed introspection answers (RFC 9701); without it RS256.
    pub introspection_signed_response_alg: Option<SigningAlgorithm>,
    /// Whether it may follow the revocation feed, GET /oauth2/revocations.
    pub revocations: bool,
    pub token_format: Option<TokenFormat>,
    /// The algorithm of this client's JWT access tokens.
    pub signing_algorithm: Option<SigningAlgorithm>,
    /// Which of `roles` and `groups` its JWT access tokens carry (RFC 9068 section 2.2.3.1).
    pub jwt_claims: Vec<String>,
    #[serde(deserialize_with = "super::duration::optional", serialize_with = "write_duration")]
    pub access_lifetime: Option<Duration>,
    /// As a resource server: an introspection answer about a person rests on a look at their source that is at most this old; past it
    /// the source is asked again first. Without it any age will do.
    #[serde(deserialize_with = "super::duration::optional", serialize_with = "write_duration")]
    pub identity_max_age: Option<Duration>,
    /// What a refresh through this client grants while the person's source cannot be reached. Without it nothing: the answer is 503.
    pub offline_policy: Option<OfflinePolicy>,
}

/// `offline_policy` of a client: while every server of a person's source is known to be unreachable, a refresh grants the roles of the
/// last good groups, never a privileged one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfflinePolicy {
    /// How long after the last successful look at the source. Nothing that is granted offline outlives it.
    #[serde(with = "super::duration")]
    pub grace: Duration,
    /// Longest life of an access token that is granted offline; default 5m.
    #[serde(with = "super::duration", default = "OfflinePolicy::usual_access_lifetime")]
    pub access_lifetime: Duration,
}

impl OfflinePolicy {
    /// `access_lifetime` where none is named.
    pub fn usual_access_lifetime() -> Duration {
        Duration::from_secs(300)
    }
}

impl Client {
    /// Reads what is stored. Members that this version does not know, those of a newer one, are passed over.
    pub fn from_stored(text: &str) -> Result<Client, serde_json::Error> {
        let mut members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
        // Every key is written, so that what is not among these is not ours.
        if let serde_json::Value::Object(known) = serde_json::to_value(Client::default())? {
            members.retain(|name, _| known.contains_key(name));
        }
        serde_json::from_value(members.into())
    }
}

/// A JWK set, or a text that holds one.
fn key_set<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    match Option::deserialize(deserializer)? {
        Some(serde_json::Value::String(text)) => serde_json::from_str(&text).map(Some).map_err(|reason| {
            serde::de::Error::custom(format!("is not JSON ({reason}); write a JWK set such as {{\"keys\": [\u{2026}]}} or a table"))
        }),
        other => Ok(other),
    }
}

fn write_duration<S: serde::Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(duration) => serializer.collect_str(&humantime::format_duration(*duration)),
        None => serializer.serialize_none(),
    }
}

/// `token_endpoint_auth_method` of RFC 7591 section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    ClientSecretBasic,
    ClientSecretPost,
    /// A signed assertion, RFC 7523 section 2.2.
    PrivateKeyJwt,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_reads_back_and_members_of_a_newer_version_are_passed_over() {
        let lifetime = Some(Duration::from_secs(300));
        let offline = Some(OfflinePolicy { grace: Duration::from_secs(4 * 3600), access_lifetime: Duration::from_secs(90) });
        let client = Client {
            id: "a".to_owned(),
            roles: vec!["r".to_owned()],
            access_lifetime: lifetime,
            identity_max_age: lifetime,
            offline_policy: offline.clone(),
            ..Client::default()
        };
        let mut stored = serde_json::to_value(&client).unwrap();
        stored["of_tomorrow"] = true.into();
        let read = Client::from_stored(&stored.to_string()).unwrap();
        assert_eq!((read.id.as_str(), read.roles.len(), read.access_lifetime), ("a", 1, lifetime));
        assert_eq!((read.identity_max_age, read.offline_policy), (lifetime, offline));
        stored["auth_method"] = "of_tomorrow".into();
        assert!(Client::from_stored(&stored.to_string()).is_err(), "a value that it does not know may be a limit");
        assert!(Client::from_stored("{}").is_ok_and(|client| client.access_lifetime.is_none()));
    }
}
