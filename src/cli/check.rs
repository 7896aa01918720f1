//! `countersign check`: everything that `serve` would refuse, with file, line and mend; the expect cases of the mapping; and what
//! declared clients would change. Nothing is written, but for hosts that the operator confirms.

use super::{CliError, log, print};
use crate::app;
use crate::clients::declared::{self, Declared};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Problem};
use crate::server;
use crate::storage::{Storage, StorageError, keys};
use crate::tokens::TokenError;
use crate::tokens::kek::{self, Kek};
use crate::tokens::keyring::Keyring;

#[derive(Debug, clap::Args)]
pub struct Check {
    /// The secrets of this source may be sent to the hosts that its URLs name now
    #[arg(long, value_name = "SOURCE")]
    confirm_hosts: Option<String>,
}

pub fn run(wanted: &Check, config: &Config, clock: &Clock) -> Result<(), CliError> {
    // `load` has read the file already; what is left are the rooms' own checks.
    let mut problems: Vec<Problem> = [log::check(&config.log), server::check(&config.server)].into_iter().filter_map(Result::err).collect();
    let database = reach(config, &mut problems)?;
    key(config, database.as_ref().ok(), clock.now(), &mut problems)?;
    if problems.is_empty() {
        hosts(wanted, config, &database, &mut problems)?;
    }
    let ConfigError(mut mistakes) = config.locations.explain(problems);
    if let Err(ConfigError(more)) = app::wire(config, clock, |_| None) {
        mistakes.extend(more);
    }
    let declared = app::declared_clients(config).unwrap_or_else(|ConfigError(more)| {
        mistakes.extend(more);
        Vec::new()
    });
    if !mistakes.is_empty() {
        return Err(ConfigError(mistakes).into());
    }

    print("the configuration is valid")?;
    if config.mapping.expect.is_empty() {
        print("the mapping has no [[mapping.expect]] cases: add some, they are its unit tests")?;
    } else {
        print(&format!("{} expect cases of the mapping hold", config.mapping.expect.len()))?;
    }
    for name in config.source_names() {
        print(&format!("source {name}"))?;
    }
    match database {
        Ok(storage) => compare(config, &storage, declared)?.iter().try_for_each(|line| print(line)),
        Err(note) => print(&note),
    }
}

/// The database, or a note why there is none to look into: the file can be right while the database is not there yet.
fn reach(config: &Config, problems: &mut Vec<Problem>) -> Result<Result<Storage, String>, CliError> {
    let opened = Storage::is_yet_to_be_made(&config.database).and_then(|yet| match yet {
        true => Ok(Err("the database will be made at the first start".to_owned())),
        false => {
            let storage = Storage::open(&config.database)?;
            let ready = storage.pending_migrations()?.is_empty();
            let note = format!("{} will be migrated at the next start", storage.describe());
            Ok(if ready { Ok(storage) } else { Err(note) })
        }
    });
    match opened {
        Ok(opened) => Ok(opened),
        Err(reason @ StorageError::Unavailable(_)) => Ok(Err(format!("declared clients and keys were not compared: {reason}"))),
        Err(StorageError::Invalid(reason)) => {
            let key = if config.database.url_file.is_some() { "database.url_file" } else { "database.url" };
            let reason = reason.strip_prefix("database.url: ").unwrap_or(&reason);
            problems.push(Problem::new(key, reason));
            Ok(Err(String::new()))
        }
        Err(other) => Err(other.into()),
    }
}

/// Whether the key-encryption key is there, is one, and opens what the database holds.
fn key(config: &Config, storage: Option<&Storage>, now: i64, problems: &mut Vec<Problem>) -> Result<(), CliError> {
    let path = if config.keys.encryption_key.is_some() { "keys.encryption_key" } else { "keys.encryption_key_file" };
    let rows = storage.map(|storage| storage.read_blocking(keys::all)).transpose()?.unwrap_or_default();
    if kek::is_yet_to_be_made(config) {
        if let Some(row) = rows.first() {
            let reason = format!("the file beside the database is gone, and the keys in it are sealed by {}; put it back", row.kek);
            problems.push(Problem::new(path, reason));
        }
        return Ok(());
    }
    let opened = Kek::load(config, false).and_then(|kek| Keyring::build(&rows, &kek, &config.server.issuer(), now));
    match opened {
        Ok(_) => Ok(()),
        Err(TokenError::Kek(reason)) => {
            problems.push(Problem::new(path, reason));
            Ok(())
        }
        Err(other) => Err(other.into()),
    }
}

/// Whether secrets would go to hosts that never had them.
fn hosts(wanted: &Check, config: &Config, database: &Result<Storage, String>, problems: &mut Vec<Problem>) -> Result<(), CliError> {
    let storage = match (database, &wanted.confirm_hosts) {
        (Ok(storage), _) => storage,
        (Err(_), None) => return Ok(()),
        (Err(note), Some(_)) => return Err(CliError::Said(format!("nothing can be confirmed without the database: {note}"))),
    };
    if kek::is_yet_to_be_made(config) {
        return Ok(());
    }
    let kek = Kek::load(config, false)?;
    if let Some(source) = &wanted.confirm_hosts {
        if !config.source_names().iter().any(|name| name == source) {
            return Err(CliError::Said(format!("there is no source {source}; there are {}", config.source_names().join(", "))));
        }
        app::destinations::confirm(config, storage, &kek, source)?;
    }
    problems.extend(app::destinations::compare(config, storage, &kek)?);
    Ok(())
}

/// What a start would change in the database.
fn compare(config: &Config, storage: &Storage, declared: Vec<Declared>) -> Result<Vec<String>, CliError> {
    let difference = storage.read_blocking(|c| declared::difference(c, &declared))?;
    app::refuse_taken(config, &difference)?;
    let changes = [("added", difference.added), ("changed", difference.changed), ("removed", difference.removed)];
    let lines =
        changes.into_iter().flat_map(|(what, ids)| ids.into_iter().map(move |id| format!("the declared client {id} will be {what}")));
    Ok(lines.collect())
}
