//! Transactions that do what they say on both databases.
//!
//! `MultiConnection::transaction` begins DEFERRED on SQLite, where a read followed by a write fails against any other writer, so a
//! write begins IMMEDIATE. A PostgreSQL COMMIT of an aborted transaction answers success and rolls back; [`commit`] does not.

use std::panic::{AssertUnwindSafe, catch_unwind};

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::result::QueryResult;

use super::{Connection, StorageError};

/// The advisory lock of [`in_turn`]: one more than that of the migrations.
const TURN: i64 = 0x636f_756e_7465_7274;
/// The advisory lock of [`among_others`] and [`alone`].
const ALONE: i64 = 0x636f_756e_7465_7275;

/// How long a statement on PostgreSQL waits for a row or a lock.
pub(super) const LOCK_TIMEOUT: &str = "3s";
/// How long [`among_others`] waits. Each that waits holds a connection, and readers need some too.
const PATIENCE: &str = "300ms";

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// One snapshot, on both databases.
    Read,
    Write,
}

pub(super) fn begin(connection: &mut Connection, purpose: Purpose) -> QueryResult<()> {
    match (connection, purpose) {
        (Connection::Sqlite(c), Purpose::Read) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN DEFERRED"),
        (Connection::Sqlite(c), Purpose::Write) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE"),
        (Connection::Postgres(c), Purpose::Read) => {
            AnsiTransactionManager::begin_transaction_sql(c, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        }
        (Connection::Postgres(c), Purpose::Write) => {
            AnsiTransactionManager::begin_transaction_sql(c, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        }
    }
}

/// Waits until no other node is in a write transaction that called this, and keeps the others waiting until this one ends: for work
/// that looks before it writes, which READ COMMITTED lets two nodes do at once. SQLite has one writer anyway. To be called first,
/// before the transaction locks any row.
pub fn in_turn(tx: &mut Connection) -> Result<(), StorageError> {
    if let Connection::Postgres(c) = tx {
        c.batch_execute(&format!("SELECT pg_advisory_xact_lock({TURN})"))?;
    }
    Ok(())
}

/// Lets any number of transactions go on side by side, but none beside one that called [`alone`]: for work whose look must see
/// everything that such a one wrote. To be called first, before the transaction locks any row.
///
/// Errors: [`StorageError::Unavailable`] if one takes long, as over very many rows it may: whoever asked comes again.
pub(super) fn among_others(tx: &mut Connection) -> Result<(), StorageError> {
    if let Connection::Postgres(c) = tx {
        c.batch_execute(&format!(
            "SET LOCAL lock_timeout = '{PATIENCE}'; SELECT pg_advisory_xact_lock_shared({ALONE}); SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
        ))?;
    }
    Ok(())
}

/// Waits until nobody is in a transaction that called [`among_others`], and keeps them waiting until this one ends. Its statements
/// may take long: it is for work on very many rows at once.
pub(super) fn alone(tx: &mut Connection) -> Result<(), StorageError> {
    if let Connection::Postgres(c) = tx {
        c.batch_execute(&format!(
            "SET LOCAL statement_timeout = '5min'; SET LOCAL lock_timeout = '15s'; SELECT pg_advisory_xact_lock({ALONE})"
        ))?;
    }
    Ok(())
}

/// Makes the transaction durable, or says that it is not.
pub(super) fn commit(connection: &mut Connection) -> QueryResult<()> {
    match connection {
        Connection::Sqlite(c) => AnsiTransactionManager::commit_transaction(c),
        // The SELECT fails in an aborted transaction, and the COMMIT behind it is then not run. diesel sees that the connection
        // is idle again and corrects its depth.
        Connection::Postgres(c) => c.batch_execute("SELECT 1; COMMIT"),
    }
}

/// Rolls everything back. What fails here leaves a connection that counts as broken.
pub(super) fn abandon(connection: &mut Connection) {
    let _ = unwind_to(connection, 0);
}

/// Runs `work` in a transaction that has begun, and ends it.
pub(super) fn finish<T>(
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let result = guarded(connection, work).and_then(|value| commit(connection).map(|()| value).map_err(StorageError::from));
    if result.is_err() {
        abandon(connection);
    }
    result
}

/// How a savepoint ended.
pub(super) enum Nested<T> {
    /// Kept, or rolled back because of the error; the transaction around it goes on.
    Settled(Result<T, StorageError>),
    /// The transaction around it is lost.
    Lost(StorageError),
}

/// Runs `work` in a savepoint; an error or a panic rolls back to it.
pub(super) fn nested<T>(connection: &mut Connection, work: impl FnOnce(&mut Connection) -> Result<T, StorageError>) -> Nested<T> {
    let before = match depth(connection) {
        Ok(before) => before,
        Err(error) => return Nested::Lost(error.into()),
    };
    if let Err(error) = <Connection as TransactionManager<Connection>>::begin_transaction(connection) {
        return Nested::Lost(error.into());
    }
    match guarded(connection, work) {
        Ok(value) => match <Connection as TransactionManager<Connection>>::commit_transaction(connection) {
            Ok(()) => Nested::Settled(Ok(value)),
            Err(error) => Nested::Lost(error.into()),
        },
        Err(error) => match unwind_to(connection, before) {
            Ok(()) => Nested::Settled(Err(error)),
            Err(_) => Nested::Lost(error),
        },
    }
}

/// A panic in `work` becomes an error, so that one request cannot take the writer with it.
fn guarded<T>(connection: &mut Connection, work: impl FnOnce(&mut Connection) -> Result<T, StorageError>) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(|| work(connection))).unwrap_or_else(|payload| {
        let message = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Err(StorageError::Query(format!("the work of a transaction panicked: {}", message.unwrap_or("no message"))))
    })
}

/// The number of open transactions and savepoints.
fn depth(connection: &mut Connection) -> QueryResult<u32> {
    let status = <Connection as TransactionManager<Connection>>::transaction_manager_status_mut(connection);
    Ok(status.transaction_depth()?.map_or(0, u32::from))
}

/// A panic may have left savepoints of `work` open: they go too.
fn unwind_to(connection: &mut Connection, target: u32) -> QueryResult<()> {
    while depth(connection)? > target {
        <Connection as TransactionManager<Connection>>::rollback_transaction(connection)?;
    }
    Ok(())
}
