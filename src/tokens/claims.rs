//! What an access token says, opaque or JWT. The fields are flat, since serde's `flatten` would buffer every token.

use serde::{Deserialize, Serialize};

use crate::oauth2::{ClientId, GrantId, Scope, SourceName};

/// The claims of an access token; RFC 9068 section 2.2 names, and ours behind them. Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Only in a JWT; a sealed token binds the issuer as associated data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The account id of a person, or the client_id.
    pub sub: String,
    pub client_id: ClientId,
    #[serde(with = "one_or_many")]
    pub aud: Vec<String>,
    pub scope: Scope,
    pub jti: String,
    pub iat: i64,
    pub exp: i64,
    /// The number of the last revocation that its node had applied when the request began.
    pub rv: i64,
    /// None in a JWT whose client did not ask for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// The sign-in that a person's token rests on; None for a client's own token, as all below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<GrantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceName>,
    /// None in a JWT: introspection answers it from the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// When the source last confirmed the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_checked_at: Option<i64>,
    /// True where the source could not be asked when the token was issued, and the groups are those of `identity_checked_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_stale: Option<bool>,
    /// Who acts for the person: the client that exchanged a token for this one (RFC 8693 section 4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
    /// Reserved for sender constraint (RFC 7800).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<serde_json::Value>,
}

/// The member `act` of RFC 8693 section 4.1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub sub: ClientId,
}

/// `aud` is a string when there is one, as RFC 7519 section 4.1.3 allows.
mod one_or_many {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }

    pub fn serialize<S: Serializer>(values: &[String], serializer: S) -> Result<S::Ok, S::Error> {
        match values {
            [one] => serializer.serialize_str(one),
            many => many.serialize(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
        Ok(match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        })
    }
}
