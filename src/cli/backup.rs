//! `countersign backup`: a copy of a SQLite database that is in use.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, print};
use crate::clock::Clock;
use crate::storage::Storage;

#[derive(Debug, Args)]
pub struct Backup {
    /// The file to make; it must not be there yet
    file: PathBuf,
}

pub fn run(backup: Backup, storage: &Storage, clock: &Clock) -> Result<(), CliError> {
    storage.back_up(&backup.file, clock.now())?;
    print(&format!("copied {} to {}; the key-encryption key is not in it: keep that one apart", storage.describe(), backup.file.display()))
}
