use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::oauth2::Secret;

/// `[database]`: SQLite for one node, PostgreSQL for many.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:PATH` (relative to the configuration file) or `postgres://…`. A secret, since it may hold a password.
    pub url: Secret,
    /// A file with the url, instead of the url itself: for one with a password.
    pub url_file: Option<PathBuf>,
    /// Connections to hold open.
    pub pool_size: u32,
    /// How long a request waits for a connection to the database before it is answered 503.
    #[serde(deserialize_with = "super::duration::deserialize")]
    pub acquire_timeout: Duration,
}

impl Database {
    /// The path of a SQLite database, out of `sqlite:PATH` or `sqlite://PATH`; None for another database.
    pub fn sqlite_path(&self) -> Option<&str> {
        sqlite_path(self.url.expose())
    }
}

/// [`Database::sqlite_path`] of a URL alone.
pub fn sqlite_path(url: &str) -> Option<&str> {
    let path = url.strip_prefix("sqlite:")?;
    Some(path.strip_prefix("//").filter(|rest| !rest.is_empty()).unwrap_or(path))
}

impl Default for Database {
    fn default() -> Self {
        Database { url: Secret::new("sqlite:data/countersign.db"), url_file: None, pool_size: 8, acquire_timeout: Duration::from_secs(2) }
    }
}
