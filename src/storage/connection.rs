//! How a connection is made.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use diesel::connection::SimpleConnection;
use diesel::r2d2::R2D2Connection;
use diesel::{Connection as _, PgConnection, RunQueryDsl, SqliteConnection};

use super::target::Target;
use super::transaction::LOCK_TIMEOUT;
use super::{Connection, StorageError};

/// Runs one statement that [`Connection`] itself does not compile (`ON CONFLICT`), on whichever database it is.
macro_rules! execute_on_either {
    ($connection:expr, $query:expr) => {
        match $connection {
            $crate::storage::Connection::Sqlite(connection) => diesel::RunQueryDsl::execute($query, connection),
            $crate::storage::Connection::Postgres(connection) => diesel::RunQueryDsl::execute($query, connection),
        }
    };
}
pub(super) use execute_on_either;

/// Makes connections, for the pool and for the threads that keep one of their own.
pub(super) struct Connector {
    pub target: Arc<Target>,
    /// Why the last attempt failed; the pool forgets it after telling one of those who wait.
    last_failure: Mutex<Option<String>>,
}

impl Connector {
    pub fn new(target: Arc<Target>) -> Connector {
        Connector { target, last_failure: Mutex::new(None) }
    }

    /// A connection that can read only (SQLite) or do everything (PostgreSQL).
    pub fn reader(&self) -> Result<Connection, StorageError> {
        let connection = match &*self.target {
            Target::Sqlite(path) => self.sqlite(path, "PRAGMA query_only = ON;"),
            Target::Postgres { url, .. } => self.postgres(url.expose()),
        };
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = match &connection {
            Ok(_) => None,
            Err(StorageError::Unavailable(reason)) => Some(reason.clone()),
            Err(other) => Some(other.to_string()),
        };
        connection
    }

    /// The one connection that writes to SQLite. Also makes the file.
    pub fn sqlite_writer(&self, path: &Path) -> Result<Connection, StorageError> {
        create_private(path).map_err(|reason| self.unavailable(&reason))?;
        let mut connection = self.sqlite(path, "PRAGMA journal_mode = WAL; PRAGMA journal_size_limit = 16777216;")?;
        let mode: JournalMode = diesel::sql_query("PRAGMA journal_mode").get_result(&mut connection)?;
        if mode.journal_mode != "wal" {
            return Err(self.unavailable("the file system cannot hold a write-ahead log; put the file on a local disk"));
        }
        Ok(connection)
    }

    pub fn sqlite(&self, path: &Path, more: &str) -> Result<Connection, StorageError> {
        let name = path.to_str().ok_or_else(|| StorageError::Invalid("database.url: the path is not UTF-8".to_owned()))?;
        let mut connection = SqliteConnection::establish(name).map_err(|e| self.unavailable(&e.to_string()))?;
        connection.batch_execute(&format!("PRAGMA busy_timeout = 5000; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; {more}"))?;
        Ok(Connection::Sqlite(connection))
    }

    fn postgres(&self, url: &str) -> Result<Connection, StorageError> {
        let mut connection = PgConnection::establish(url).map_err(|e| self.unavailable(&e.to_string()))?;
        // Nothing here takes long; what does, waits for something that will not come.
        connection
            .batch_execute(&format!(
                "SET statement_timeout = '5s'; SET lock_timeout = '{LOCK_TIMEOUT}'; SET idle_in_transaction_session_timeout = '10s'"
            ))
            .map_err(|e| self.unavailable(&e.to_string()))?;
        Ok(Connection::Postgres(connection))
    }

    fn unavailable(&self, reason: &str) -> StorageError {
        StorageError::Unavailable(format!("{}: {}", self.target.describe(), self.target.scrub(reason)))
    }

    /// Why nobody got a connection in time.
    pub fn exhausted(&self, waited: std::time::Duration) -> StorageError {
        match self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(reason) => StorageError::Unavailable(reason),
            None => self.unavailable(&format!(
                "no connection was free within {} (database.pool_size, database.acquire_timeout)",
                humantime::format_duration(waited)
            )),
        }
    }
}

/// The connector, as the pool wants to own it.
pub(super) struct PoolMaker(pub Arc<Connector>);

impl r2d2::ManageConnection for PoolMaker {
    type Connection = Connection;
    type Error = StorageError;

    fn connect(&self) -> Result<Connection, StorageError> {
        self.0.reader()
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<(), StorageError> {
        Ok(connection.ping()?)
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.is_broken()
    }
}

#[derive(diesel::QueryableByName)]
struct JournalMode {
    #[diesel(sql_type = diesel::sql_types::Text)]
    journal_mode: String,
}

/// Makes the folder (0700) and the file (0600) where they are missing. SQLite gives its log the mode of the file.
///
/// A file that is there is not opened: closing it again would drop the locks that SQLite holds on it for all connections of this
/// process (POSIX advisory locks belong to the process), and the next program to close the database would take its log away.
fn create_private(path: &Path) -> Result<(), String> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(reason) if reason.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(reason) => Err(format!("cannot make the file: {reason}")),
    }
}
