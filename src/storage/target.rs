//! Which database: the URL of `[database]`, taken apart far enough to open it and to talk about it without its password.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config;
use crate::oauth2::Secret;

use super::StorageError;

/// Where the database is.
pub(super) enum Target {
    Sqlite(PathBuf),
    Postgres {
        /// The URL with our connection parameters added.
        url: Secret,
        /// `postgres://host:port/name`.
        shown: String,
        password: Option<Secret>,
    },
}

impl Target {
    /// Reads `sqlite:PATH`, `postgres://…` or `postgresql://…`. `patience` bounds a connection attempt, in whole seconds and at
    /// least 2, since libpq takes no less.
    pub fn parse(url: &Secret, patience: Duration) -> Result<Target, StorageError> {
        let text = url.expose();
        if let Some(path) = config::sqlite_path(text) {
            if path.is_empty() || path.contains(":memory:") || path.contains('\0') {
                return Err(StorageError::Invalid("database.url: write sqlite:PATH with the path of a file".to_owned()));
            }
            // SQLite would read a name that begins with `file:` as a URI.
            let path = if path.starts_with("file:") { Path::new(".").join(path) } else { PathBuf::from(path) };
            return Ok(Target::Sqlite(path));
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let Some(rest) = rest else {
            return Err(StorageError::Invalid("database.url: begin it with sqlite: or postgres://".to_owned()));
        };
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        if user.is_some_and(|user| !well_formed(user)) {
            // libpq would quote parts of the password in its complaint.
            return Err(StorageError::Invalid(
                "database.url: the user name or the password holds a character that must be percent-encoded (@ as %40, / as %2F)"
                    .to_owned(),
            ));
        }
        let password = user.and_then(|user| user.split_once(':')).map(|(_, password)| Secret::new(password));
        let shown = format!("postgres://{}", place.split(['?', '#']).next().unwrap_or_default());
        Ok(Target::Postgres { url: with_parameters(text, patience), shown, password })
    }

    /// For logs and errors.
    pub fn describe(&self) -> String {
        match self {
            Target::Sqlite(path) => format!("sqlite:{}", path.display()),
            Target::Postgres { shown, .. } => shown.clone(),
        }
    }

    /// `message` on one line and without the password, should a library ever repeat it.
    pub fn scrub(&self, message: &str) -> String {
        let message = message.trim().replace(['\n', '\t'], " ");
        match self {
            Target::Postgres { password: Some(password), .. } if !password.expose().is_empty() => message.replace(password.expose(), "…"),
            _ => message,
        }
    }
}

/// Whether the part before the `@` has no character that would end it early.
fn well_formed(user: &str) -> bool {
    let percent = user.split('%').skip(1).all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    percent && user.matches(':').count() < 2 && !user.contains(['/', '?', '#', '@', '[', ']']) && !user.contains(char::is_whitespace)
}

/// Adds what the URL does not set itself: a bound on connecting, and one on unacknowledged data, without which a silent partition
/// holds a connection for a quarter of an hour.
fn with_parameters(url: &str, patience: Duration) -> Secret {
    let seconds = patience.as_secs().clamp(2, 30);
    let mut url = url.to_owned();
    for (name, value) in [
        ("connect_timeout", seconds.to_string()),
        ("tcp_user_timeout", "5000".to_owned()),
        ("keepalives_idle", "10".to_owned()),
        ("keepalives_interval", "5".to_owned()),
        ("fallback_application_name", "countersign".to_owned()),
    ] {
        let query = url.split_once('?').map(|(_, query)| query).unwrap_or_default();
        if !query.split('&').any(|pair| pair.split('=').next() == Some(name)) {
            let separator = if url.contains('?') { '&' } else { '?' };
            url.push_str(&format!("{separator}{name}={value}"));
        }
    }
    Secret::new(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, StorageError> {
        Target::parse(&Secret::new(url), Duration::from_secs(1))
    }

    #[test]
    fn descriptions_hold_no_password() {
        let target = parse("postgres://cs:hunter2@db.example:5433/cs?sslmode=require").unwrap();
        assert_eq!(target.describe(), "postgres://db.example:5433/cs");
        assert_eq!(target.scrub("no hunter2\nhere"), "no … here");
        let Target::Postgres { url, .. } = target else { panic!("not PostgreSQL") };
        assert!(url.expose().ends_with(
            "?sslmode=require&connect_timeout=2&tcp_user_timeout=5000&keepalives_idle=10&keepalives_interval=5&fallback_application_name=countersign"
        ));
        assert_eq!(parse("sqlite:data/x.db").unwrap().describe(), "sqlite:data/x.db");
        assert_eq!(parse("sqlite:///srv/x.db").unwrap().describe(), "sqlite:/srv/x.db");
    }

    #[test]
    fn what_cannot_be_opened_is_refused_without_repeating_it() {
        for url in ["mysql://h/d", "sqlite:", "sqlite::memory:", "postgres://u:p@ss@h/d", "postgres://u:p/x@h/d", "postgres://u:%zz@h/d"] {
            let Err(StorageError::Invalid(reason)) = parse(url) else { panic!("{url}") };
            assert!(reason.starts_with("database.url: "), "{reason}");
            assert!(!reason.contains("p@ss") && !reason.contains("%zz"), "{reason}");
        }
    }
}
