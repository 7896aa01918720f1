//! Paths and secrets files: relative to the file they stand in, readable, and read where the value itself is the secret.

use std::fs;
use std::os::unix::fs::MetadataExt;
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

/// Files that would be sent to another host as a password and are a secret of another purpose, by whatever path: whoever can change
/// the configuration, but not read its secrets, would have them brought to themselves.
pub(super) fn lent(config: &Config) -> Vec<Problem> {
    let mut config = config.clone();
    let beside = config.database.sqlite_path().map(|path| (Path::new(path).with_file_name("key-encryption-key"), PathBuf::from(path)));
    let named: Vec<(String, PathBuf)> = files(&mut config).into_iter().map(|(key, path)| (key, path.clone())).collect();
    let own =
        beside.into_iter().flat_map(|(key, database)| [("the key-encryption key".to_owned(), key), ("the database".to_owned(), database)]);
    let purpose = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let certificate = |key: &str| matches!(purpose(key).as_str(), "ca_file" | "tls_certificate" | "client_certificate");
    let secrets: Vec<_> = named.iter().filter(|(key, _)| !certificate(key)).cloned().chain(own).collect();
    let sent = named.iter().filter(|(key, _)| matches!(purpose(key).as_str(), "bind_password_file" | "api_token_file"));
    sent.filter_map(|(key, path)| {
        let shown = path.display();
        if is_environment(path) {
            let reason = format!("{shown} is the environment of a program, which nobody is to be sent; name a file with this secret alone");
            return Some(Problem::new(key, reason));
        }
        let (other, _) = secrets.iter().find(|(other, file)| purpose(other) != purpose(key) && same(path, file))?;
        let reason = format!("{shown} is {other} too, and would be sent to the servers of this source; name a file with this secret alone");
        Some(Problem::new(key, reason))
    })
    .collect()
}

/// Whether both paths lead to the same file, over links of both kinds.
fn same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    one == other || identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// `/proc/self/environ` and the like, where the key-encryption key may stand.
fn is_environment(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|path| path.starts_with("/proc") && path.ends_with("environ"))
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
