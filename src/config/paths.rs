//! Paths and secrets files: relative to the file they stand in, readable, and read where the value itself is the secret.

use std::fs;
use std::path::{Path, PathBuf};

use super::location::{Locations, Problem};
use super::{Config, SourceKind};
use crate::oauth2::Secret;

/// Makes the paths of the file relative to the file's directory, and takes `database.url` from `database.url_file`. Paths that
/// the environment sets, and the built-in defaults, stay relative to the working directory.
pub(super) fn resolve(config: &mut Config, directory: &Path, locations: &Locations) -> Vec<Problem> {
    let from_file = |key: &str| locations.is_set(key) && !locations.is_environment(key);
    for (key, path) in files(config) {
        if from_file(&key) {
            *path = directory.join(&*path);
        }
    }
    // Not among the files that must be there: it is made.
    if let Some(path) = config.audit.file.as_mut().filter(|_| from_file("audit.file")) {
        *path = directory.join(&*path);
    }
    let mut problems = Vec::new();
    let mut url_from_file = from_file("database.url");
    if let Some(path) = &config.database.url_file {
        if locations.is_set("database.url") {
            problems.push(twice(locations, "database.url", "database.url_file"));
        }
        match fs::read_to_string(path) {
            Ok(text) => {
                config.database.url = Secret::new(text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t)))
            }
            // The message would repeat a password.
            Err(_) if path.to_string_lossy().contains(":/") => {
                let reason = "this is a URL; set it as url, or write it into a file and name that here";
                problems.push(Problem::new("database.url_file", reason));
            }
            Err(e) => problems.push(Problem::new("database.url_file", format!("cannot read {}: {e}", path.display()))),
        }
        url_from_file = from_file("database.url_file");
    }
    if config.keys.encryption_key.is_some() && config.keys.encryption_key_file.is_some() {
        problems.push(twice(locations, "keys.encryption_key", "keys.encryption_key_file"));
    }
    if url_from_file && let Some(path) = config.database.sqlite_path() {
        // An empty path and :memory: are refused later, by name.
        if !path.is_empty() && !path.starts_with(':') {
            config.database.url = Secret::new(format!("sqlite:{}", directory.join(path).display()));
        }
    }
    problems
}

fn twice(locations: &Locations, value: &str, file: &str) -> Problem {
    let place = locations.find(value).unwrap_or_default();
    Problem::new(file, format!("{value} is set too ({place}); set one of the two"))
}

/// Files that are named and cannot be read.
pub(super) fn unreadable(config: &Config) -> Vec<Problem> {
    let mut config = config.clone();
    let reason = |path: &Path| match fs::metadata(path) {
        Ok(found) if found.is_dir() => Some("it is a directory".to_owned()),
        // Opening a pipe would take what its writer has for the reader to come.
        Ok(found) if !found.is_file() => None,
        found => found.and_then(|_| fs::File::open(path)).err().map(|e| e.to_string()),
    };
    let files = files(&mut config).into_iter();
    files.filter_map(|(key, path)| Some(Problem::new(key, format!("cannot read {}: {}", path.display(), reason(path)?)))).collect()
}

/// Every file that the configuration names, with the path of its key.
fn files(config: &mut Config) -> Vec<(String, &mut PathBuf)> {
    let mut files = vec![
        ("server.tls_certificate".to_owned(), &mut config.server.tls_certificate),
        ("server.tls_key".to_owned(), &mut config.server.tls_key),
        ("database.url_file".to_owned(), &mut config.database.url_file),
        ("keys.encryption_key_file".to_owned(), &mut config.keys.encryption_key_file),
        ("keys.previous_encryption_key_file".to_owned(), &mut config.keys.previous_encryption_key_file),
    ];
    for (i, source) in config.sources.iter_mut().enumerate() {
        let mut add = |key, file| files.push((format!("source[{i}].{key}"), file));
        match &mut source.kind {
            SourceKind::Local(_) => {}
            SourceKind::Ldap(ldap) => {
                add("ca_file", &mut ldap.ca_file);
                add("client_certificate", &mut ldap.client_certificate);
                add("client_key", &mut ldap.client_key);
                add("bind_password_file", &mut ldap.bind_password_file);
            }
            SourceKind::Oidc(oidc) => {
                add("ca_file", &mut oidc.ca_file);
                add("api_token_file", &mut oidc.api_token_file);
            }
        }
    }
    for (i, client) in config.clients.iter_mut().enumerate() {
        files.push((format!("client[{i}].secrets_file"), &mut client.secrets_file));
    }
    files.into_iter().filter_map(|(key, file)| Some((key, file.as_mut()?))).collect()
}
