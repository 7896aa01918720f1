use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// `[limits]`: throttles. Outages never count.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Failed sign-ins for one login name, on each node; a network that signed in with it before has as many of its own. Over all nodes,
    /// also what strangers may try at one account where no directory sets a bound (`lockout_threshold`).
    pub login_failures: Rate,
    /// Failed sign-ins from one client address.
    pub address_failures: Rate,
    /// Refused token exchanges, on each node: of one person through a client that proved itself, else of one client from one address.
    pub exchange_failures: Rate,
    /// Revocation requests of one client.
    pub revocations: Rate,
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// How long a TLS handshake, the head of a request and its body may each take to arrive. The answer is not bounded by it.
    #[serde(deserialize_with = "super::duration::deserialize")]
    pub request_timeout: Duration,
    /// Connections served at a time; further ones wait.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            login_failures: Rate { count: 10, per: Duration::from_secs(300) },
            address_failures: Rate { count: 60, per: Duration::from_secs(300) },
            exchange_failures: Rate { count: 60, per: Duration::from_secs(300) },
            revocations: Rate { count: 600, per: Duration::from_secs(60) },
            body_bytes: 64 * 1024,
            request_timeout: Duration::from_secs(10),
            connections: 20_000,
        }
    }
}

/// So many events in so long: `10/5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let (count, per) = text.split_once('/').ok_or("write a rate such as 10/5m")?;
        let count =
            count.trim().parse().ok().filter(|n| *n > 0).ok_or("the count before the slash is a whole number above 0, as in 10/5m")?;
        Ok(Rate { count, per: super::duration::parse(per.trim())? })
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
