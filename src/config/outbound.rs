use serde::Deserialize;

/// `[outbound]`: what is asked for because a client said so, such as its `jwks_uri`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outbound {
    /// Hosts, by name or address as their URLs write them, that such a URL may lead to though their addresses are not public;
    /// on loopback by plain http too. For internal networks and tests: whoever registers a client can make this server ask them.
    pub allow: Vec<String>,
}
