//! `countersign check`: everything that `serve` would refuse, with file, line and mend; the expect cases of the mapping; and what
//! declared clients would change. Nothing is written.

use std::path::Path;

use super::{CliError, print};
use crate::app;
use crate::clients::declared::{self, Declared};
use crate::clock::Clock;
use crate::config::Config;
use crate::storage::Storage;
use crate::tokens::kek::Kek;

pub fn run(config: &Config, clock: &Clock) -> Result<(), CliError> {
    // `load` has read the file already; what is left are the rooms' own checks.
    app::wire(config, clock, |_| None)?;
    let declared = app::declared_clients(config)?;
    print("the configuration is valid")?;
    if config.mapping.expect.is_empty() {
        print("the mapping has no [[mapping.expect]] cases: add some, they are its unit tests")?;
    } else {
        print(&format!("{} expect cases of the mapping hold", config.mapping.expect.len()))?;
    }
    for name in config.source_names() {
        print(&format!("source {name}"))?;
    }
    match compare(config, declared) {
        Ok(lines) => lines.iter().try_for_each(|line| print(line)),
        Err(CliError::Config(problems)) => Err(problems.into()),
        // The file can be right while the database is not there yet.
        Err(reason) => print(&format!("declared clients were not compared: {reason}")),
    }
}

/// What a start would change in the database.
fn compare(config: &Config, declared: Vec<Declared>) -> Result<Vec<String>, CliError> {
    if config.database.sqlite_path().is_some_and(|path| !Path::new(path).exists()) {
        return Ok(vec!["the database will be made at the first start".to_owned()]);
    }
    let storage = Storage::open(&config.database)?;
    if !storage.pending_migrations()?.is_empty() {
        return Ok(vec![format!("{} will be migrated at the next start", storage.describe())]);
    }
    Kek::load(config, false)?;
    let difference = storage.read_blocking(|c| declared::difference(c, &declared))?;
    app::refuse_taken(config, &difference)?;
    let changes = [("added", difference.added), ("changed", difference.changed), ("removed", difference.removed)];
    let lines =
        changes.into_iter().flat_map(|(what, ids)| ids.into_iter().map(move |id| format!("the declared client {id} will be {what}")));
    Ok(lines.collect())
}
