//! `countersign keys`: what keys there are, the next ones, and taking one out.

use clap::Subcommand;
use serde_json::json;

use super::{CliError, print, print_json};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::storage::keys::KeyRow;
use crate::storage::{Storage, keys};
use crate::tokens::keyring::KeyState;
use crate::tokens::lifecycle;

/// In the audit.
const BY: &str = "command line";

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List all keys with their states
    List {
        #[arg(long)]
        json: bool,
    },
    /// Publish the successor of each key; it takes over once every reader of the JWKS can know it. --json tells of the new ones
    Rotate {
        #[arg(long)]
        json: bool,
    },
    /// Take a key out at once: it is no longer published, and everything under it is dead
    Revoke { kid: String },
    /// Seal all keys again under the key-encryption key that is configured, from the previous one
    Rewrap,
    /// After a restored backup: new keys, a new feed, every token and sign-in ended
    Recover,
}

pub fn run(command: KeysCommand, config: &Config, storage: &Storage, clock: &Clock) -> Result<(), CliError> {
    let now = clock.now();
    match command {
        KeysCommand::List { json } => list(storage, json, now),
        KeysCommand::Rotate { json } => {
            let held = app::open_keys(config, storage, false, now)?;
            let made = lifecycle::rotate(storage, held.kek(), &config.tokens, None, BY, now)?;
            if json {
                let rows = storage.read_blocking(keys::all)?;
                return print_json(&rows.iter().filter(|row| made.contains(&row.kid)).map(|row| describe(row, now)).collect::<Vec<_>>());
            }
            if made.is_empty() {
                return print("every key has a successor waiting already; see countersign keys list");
            }
            list(storage, false, now)
        }
        KeysCommand::Revoke { kid } => {
            let held = app::open_keys(config, storage, false, now)?;
            if !lifecycle::revoke(storage, held.kek(), &kid, BY, now)? {
                return Err(CliError::Said(format!("there is no key {kid} to revoke; countersign keys list shows all")));
            }
            print(&format!("{kid} is revoked; everything under it is dead, and its successor is in use"))
        }
        KeysCommand::Rewrap => rewrap(config, storage, now),
        KeysCommand::Recover => recover(config, storage, now),
    }
}

fn rewrap(config: &Config, storage: &Storage, now: i64) -> Result<(), CliError> {
    let held = app::open_keys(config, storage, false, now)?;
    let name = held.kek().name();
    match lifecycle::rewrap(storage, held.kek(), BY, now)? {
        0 => print(&format!("every key is sealed under the key-encryption key {name} already"))?,
        rows => print(&format!("{rows} keys are sealed under the key-encryption key {name} now"))?,
    }
    if config.keys.previous_encryption_key_file.is_some() {
        print(
            "take keys.previous_encryption_key_file out of the configuration of every node; the old key is needed for old backups alone",
        )?;
    }
    Ok(())
}

fn recover(config: &Config, storage: &Storage, now: i64) -> Result<(), CliError> {
    let done = lifecycle::recover(storage, &app::load_kek(config, true)?, BY, now)?;
    print(&format!("{} keys were taken out, {} new ones are in use; the feed is {} now", done.revoked.len(), done.added.len(), done.feed))?;
    print(&format!("{} sign-ins with refresh tokens were ended, and every token is inactive", done.families))?;
    let newest = done.newest_record.map_or_else(|| "no time at all: it is empty".to_owned(), when);
    print(&format!(
        "the audit trail of this database ends at {newest}. What was done after that is forgotten and must be done again: clients and \
         secrets that were removed, accounts that were disabled, passwords that were changed; a sink of the audit tells"
    ))
}

fn list(storage: &Storage, as_json: bool, now: i64) -> Result<(), CliError> {
    let rows = storage.read_blocking(keys::all)?;
    if as_json {
        return print_json(&rows.iter().map(|row| describe(row, now)).collect::<Vec<_>>());
    }
    print(&format!("{:<18} {:<8} {:<11} {:<10} {}", "kid", "purpose", "algorithm", "state", "since"))?;
    for row in &rows {
        let state = KeyState::of(row, now);
        print(&format!("{:<18} {:<8} {:<11} {:<10} {}", row.kid, row.purpose, row.algorithm, state.as_str(), when(since(row, state))))?;
    }
    Ok(())
}

fn describe(row: &KeyRow, now: i64) -> serde_json::Value {
    json!({
        "kid": row.kid, "purpose": row.purpose, "algorithm": row.algorithm, "state": KeyState::of(row, now).as_str(),
        "created_at": row.created_at, "active_at": row.active_at, "retired_at": row.retired_at, "removed_at": row.removed_at,
        "revoked_at": row.revoked_at, "key_encryption_key": row.kek,
    })
}

/// When the state began, or for a published key, when it will be in use.
fn since(row: &KeyRow, state: KeyState) -> i64 {
    let began = match state {
        KeyState::Published | KeyState::Signing => None,
        KeyState::Retired => row.retired_at,
        KeyState::Removed => row.removed_at,
        KeyState::Revoked => row.revoked_at,
    };
    began.unwrap_or(row.active_at)
}

/// Seconds since the epoch as RFC 3339.
pub fn when(seconds: i64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.max(0) as u64);
    humantime::format_rfc3339_seconds(at).to_string()
}
