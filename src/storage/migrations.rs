//! Migrations: embedded, one set for both databases, all that are missing in one transaction.

use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::either::MultiBackend;
use super::transaction::{self, Purpose};
use super::{Connection, StorageError, feed};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

/// "countersign" in ASCII, cut to 63 bits: nobody else's advisory lock.
const LOCK: i64 = 0x636f_756e_7465_7273;

/// Runs what is missing and answers the names.
pub(super) fn run(connection: &mut Connection) -> Result<Vec<String>, StorageError> {
    begin_locked(connection)?;
    transaction::finish(connection, |tx| {
        let missing = missing(tx)?;
        let names = missing.iter().map(|migration| migration.name().to_string()).collect();
        tx.run_pending_migrations(MIGRATIONS).map_err(failed)?;
        feed::ensure(tx)?;
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
    let unknown = applied.iter().filter(|version| known.iter().all(|migration| migration.name().version() != **version)).max();
    if let Some(version) = unknown {
        return Err(StorageError::Invalid(format!(
            "migration {version} is applied and this program does not know it: a newer Countersign wrote this database. Start that \
             version again, or restore a backup from before the upgrade"
        )));
    }
    tx.pending_migrations(MIGRATIONS).map_err(failed)
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> StorageError {
    match error.downcast::<diesel::result::Error>() {
        Ok(error) => StorageError::from(*error),
        Err(error) => StorageError::Query(format!("a migration failed: {error}")),
    }
}
