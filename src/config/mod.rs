//! The configuration: one section, one file, every key documented where it is declared.
//!
//! [`load`] reads the file, overlays the environment (`COUNTERSIGN_SERVER__LISTEN`) and the `*_file` secrets, and answers a
//! [`Config`] or every mistake it found, each with file, line and mend. Rooms that find a mistake later report it as a
//! [`Problem`] with the path of the key; [`Locations`] turns the path into file and line.

mod accounts;
mod audit;
mod client;
mod database;
mod dialect;
mod duration;
mod environment;
mod keys;
mod limits;
mod load;
mod location;
mod log;
mod mapping;
mod metrics;
#[cfg(test)]
mod mistakes;
mod outbound;
mod paths;
mod read;
mod scope;
mod server;
#[cfg(test)]
mod shipped;
mod source;
mod tokens;
mod validate;
mod validate_client;

pub use accounts::Accounts;
pub use audit::{Audit, Syslog};
pub use client::{AuthMethod, Client, Introspect, TokenFormat};
pub use database::{Database, sqlite_path};
pub use dialect::{Croit, Dialects};
pub use keys::Keys;
pub use limits::{Limits, Rate};
pub use load::{File, load, parse, read_client};
pub use location::{ConfigError, Locations, Problem};
pub use log::{Log, LogFormat};
pub use mapping::{Deny, Effect, Expect, Mapping, Match, Rule};
pub use metrics::Metrics;
pub use outbound::Outbound;
pub use scope::ScopeSettings;
pub use server::Server;
pub use source::{
    Attributes, LdapBind, LdapPool, LdapPreset, LdapSource, LdapTls, LocalSource, OidcSource, Referrals, SearchScope, Source, SourceKind,
};
pub use tokens::{SigningAlgorithm, Tokens};
pub use validate_client::{LONGEST_ACCESS_LIFETIME, check as check_client};

use std::collections::BTreeMap;

/// Everything that can be configured. [`Config::default`] is the embedded default: SQLite under `./data`, local accounts, http on
/// loopback.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub server: Server,
    pub database: Database,
    pub keys: Keys,
    pub tokens: Tokens,
    /// Where people come from, in order. With none declared there is one, `local`.
    pub sources: Vec<Source>,
    pub mapping: Mapping,
    /// `[scope.NAME]`; a scope needs no section.
    pub scopes: BTreeMap<String, ScopeSettings>,
    /// Declared clients; they belong to the file.
    pub clients: Vec<Client>,
    pub dialects: Dialects,
    pub accounts: Accounts,
    pub limits: Limits,
    pub outbound: Outbound,
    pub metrics: Metrics,
    pub log: Log,
    pub audit: Audit,
    /// True where no key was set anywhere: the embedded default, which greets with an administrator and a client.
    pub embedded: bool,
    pub locations: Locations,
}

impl Config {
    /// The names of the sources, in order; with none declared there is one, `local`.
    pub fn source_names(&self) -> Vec<String> {
        match self.sources.is_empty() {
            true => vec!["local".to_owned()],
            false => self.sources.iter().map(|source| source.name.clone()).collect(),
        }
    }
}
