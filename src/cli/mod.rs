//! The command line: one command, one file. Commands that change something work on the database itself, beside a running server,
//! which learns of it through the feed.

mod audit;
mod backup;
mod check;
mod client;
mod client_settings;
mod doctor;
mod explain;
mod explain_diff;
mod greeting;
mod keys;
pub mod log;
mod revoke;
mod serve;
mod sinks;
mod upkeep;
mod user;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::StartError;
use crate::clock::Clock;
use crate::config::{self, Config, ConfigError};
use crate::storage::{Storage, StorageError};
use crate::tokens::TokenError;

/// An OAuth 2.0 authorization server that federates LDAP directories, Okta and OpenID providers.
#[derive(Debug, Parser)]
#[command(name = "countersign", version)]
struct Arguments {
    /// The configuration; without it config/countersign.toml if it exists, else built-in defaults
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Validate the configuration, run the mapping's expect cases, show what would change
    Check(check::Check),
    /// Clients and their secrets
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Accounts
    #[command(subcommand)]
    User(user::UserCommand),
    /// Why a person has a role: every rule with its path, near misses, denies
    Explain(explain::Explain),
    /// What is wrong, and what to do: configuration, database, keys, clients, and each source
    Doctor(doctor::Doctor),
    /// Signing and sealing keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// End what was issued
    Revoke(revoke::Revoke),
    /// The audit trail
    Audit(audit::Audit),
    /// Copy a SQLite database that is in use into a new file
    Backup(backup::Backup),
    /// Bring the database up to date with the program; serve does the same
    Migrate,
}

/// Why a command failed. Printed as it is; the exit code is 1.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Tokens(#[from] TokenError),
    #[error(transparent)]
    Serve(#[from] crate::server::ServeError),
    #[error(transparent)]
    User(#[from] user::UserError),
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
    #[error("cannot write the output: {0}")]
    Json(#[from] serde_json::Error),
    /// What was wrong and what to do, in words.
    #[error("{0}")]
    Said(String),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let Arguments { config, command } = Arguments::parse();
    let loaded = config::load(config.as_deref());
    let done = match command {
        // It tells what is wrong with the file as it tells everything else.
        Command::Doctor(wanted) => doctor::run(&wanted, loaded, &Clock::System),
        command => loaded.map_err(CliError::from).and_then(|config| run(command, config)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, config: Config) -> Result<(), CliError> {
    let clock = Clock::System;
    match command {
        Command::Serve(serve) => serve::run(&serve, config, clock),
        Command::Check(wanted) => check::run(&wanted, &config, &clock),
        Command::Client(command) => client::run(command, &config, &open(&config)?, &clock),
        Command::User(command) => Ok(user::run(command, &config, &open(&config)?, &clock)?),
        Command::Explain(explain) => explain::run(explain, config, &clock),
        Command::Doctor(wanted) => doctor::run(&wanted, Ok(config), &clock),
        Command::Keys(command) => keys::run(command, &config, &open(&config)?, &clock),
        Command::Revoke(revoke) => revoke::run(revoke, &config, &open(&config)?, &clock),
        Command::Audit(wanted) => audit::run(wanted, &open(&config)?, &clock),
        Command::Backup(backup) => backup::run(backup, &open(&config)?, &clock),
        Command::Migrate => migrate(&config),
    }
}

/// Opens the database, which must be migrated already: a command must not migrate it under a running server of another version. A
/// new one is brought to life by `serve` or `migrate` alone.
fn open(config: &Config) -> Result<Storage, CliError> {
    let storage = Storage::open(&config.database)?;
    let pending = storage.pending_migrations()?;
    if !pending.is_empty() {
        return Err(CliError::Said(format!(
            "{} lacks the migrations {}; run countersign migrate, or start the server once",
            storage.describe(),
            pending.join(", ")
        )));
    }
    Ok(storage)
}

fn migrate(config: &Config) -> Result<(), CliError> {
    let storage = Storage::open(&config.database)?;
    let done = storage.migrate()?;
    for name in &done {
        print(&format!("applied {name}"))?;
    }
    if done.is_empty() {
        print(&format!("{} is up to date", storage.describe()))?;
    }
    Ok(())
}

/// One line to standard output.
fn print(line: &str) -> Result<(), CliError> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// A value as JSON to standard output.
fn print_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    print(&serde_json::to_string_pretty(value)?)
}
