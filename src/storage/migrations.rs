//! Migrations: embedded, one set for both databases, all that are missing in one transaction.
//!
//! Expand, then contract: a migration adds what the program before it does not miss, so that both run on one database while nodes
//! are replaced one by one. What takes something away waits for a release after the last program that needs it, and raises [`FLOOR`].

use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::either::MultiBackend;
use super::transaction::{self, Purpose};
use super::{Connection, StorageError, feed, settings};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

/// "countersign" in ASCII, cut to 63 bits: nobody else's advisory lock.
const LOCK: i64 = 0x636f_756e_7465_7273;

/// The version of the last migration that a program must know to work on a database that this one has migrated.
const FLOOR: i64 = 20_260_105_120_500;

/// The setting that holds the highest [`FLOOR`] of all programs that have migrated the database.
const FLOOR_SETTING: &str = "schema_floor";

/// Runs what is missing and answers the names.
pub(super) fn run(connection: &mut Connection) -> Result<Vec<String>, StorageError> {
    begin_locked(connection)?;
    transaction::finish(connection, |tx| {
        let missing = missing(tx)?;
        let names = missing.iter().map(|migration| migration.name().to_string()).collect();
        tx.run_pending_migrations(MIGRATIONS).map_err(failed)?;
        feed::ensure(tx)?;
        settings::raise(tx, FLOOR_SETTING, FLOOR)?;
        Ok(names)
    })
}

/// The names of what is missing. To ask diesel is to make its table: that is rolled back.
pub(super) fn pending(connection: &mut Connection) -> Result<Vec<String>, StorageError> {
    begin_locked(connection)?;
    let missing = missing(connection);
    transaction::abandon(connection);
    Ok(missing?.iter().map(|migration| migration.name().to_string()).collect())
}

/// The versions that are applied and unknown here. To ask diesel is to make its table: that is rolled back.
pub(super) fn unknown(connection: &mut Connection) -> Result<Vec<String>, StorageError> {
    begin_locked(connection)?;
    let applied = connection.applied_migrations().map_err(failed);
    transaction::abandon(connection);
    let known: Vec<Box<dyn Migration<MultiBackend>>> = MIGRATIONS.migrations().map_err(failed)?;
    let known: Vec<String> = known.iter().map(|migration| migration.name().version().to_string()).collect();
    Ok(applied?.iter().map(ToString::to_string).filter(|version| !known.contains(version)).collect())
}

/// Two nodes that start together migrate one after the other: SQLite has one writer anyway, PostgreSQL has advisory locks.
fn begin_locked(connection: &mut Connection) -> Result<(), StorageError> {
    if let Connection::Postgres(c) = connection {
        // A migration may take its time, and so may the wait for another node's.
        c.batch_execute("SET statement_timeout = '10min'; SET lock_timeout = '10min'; SET idle_in_transaction_session_timeout = 0")?;
    }
    transaction::begin(connection, Purpose::Write)?;
    if let Connection::Postgres(c) = connection
        && let Err(error) = c.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})"))
    {
        transaction::abandon(connection);
        return Err(error.into());
    }
    Ok(())
}

fn missing(tx: &mut Connection) -> Result<Vec<Box<dyn Migration<MultiBackend>>>, StorageError> {
    let known: Vec<Box<dyn Migration<MultiBackend>>> = MIGRATIONS.migrations().map_err(failed)?;
    let applied = tx.applied_migrations().map_err(failed)?;
    let versions: Vec<String> = known.iter().map(|migration| migration.name().version().to_string()).collect();
    if let Some(unknown) = applied.iter().map(ToString::to_string).filter(|version| !versions.contains(version)).max() {
        let newest = versions.iter().filter_map(|version| version.parse::<i64>().ok()).max().unwrap_or_default();
        let floor = settings::get(tx, FLOOR_SETTING)?.and_then(|floor| floor.parse::<i64>().ok());
        if floor.is_none_or(|floor| newest < floor) {
            return Err(StorageError::Invalid(format!(
                "migration {unknown} is applied and this program does not know it: a newer Countersign wrote this database, and took away \
                 what this one needs. Start that version again, or restore a backup from before the upgrade"
            )));
        }
        tracing::warn!(migration = unknown, "a newer Countersign has migrated the database; this one can still work on it");
    }
    tx.pending_migrations(MIGRATIONS).map_err(failed)
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> StorageError {
    match error.downcast::<diesel::result::Error>() {
        Ok(error) => StorageError::from(*error),
        Err(error) => StorageError::Query(format!("a migration failed: {error}")),
    }
}
