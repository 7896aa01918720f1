//! What can go wrong with the database, as far as callers need to tell it apart.

use diesel::result::{DatabaseErrorKind, Error};

/// A failure of the database. The text is for logs and operators; it never holds a password.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No connection, a lost one, a full disk, a lock or statement that took too long: answer 503, and it may pass by itself.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A row with this key exists. Reported by functions that say so.
    #[error("{0}")]
    Conflict(String),
    /// A row or a schema that does not make sense: missing or newer migrations, a value that cannot be read.
    #[error("the database holds something unexpected: {0}")]
    Invalid(String),
    /// Anything else: a mistake of ours, answer 500.
    #[error("a database query failed: {0}")]
    Query(String),
}

impl From<Error> for StorageError {
    fn from(error: Error) -> StorageError {
        match error {
            Error::DatabaseError(kind, info) => {
                let message = info.message().trim().to_owned();
                match kind {
                    DatabaseErrorKind::UniqueViolation => StorageError::Conflict(message),
                    DatabaseErrorKind::ClosedConnection
                    | DatabaseErrorKind::SerializationFailure
                    | DatabaseErrorKind::ReadOnlyTransaction
                    | DatabaseErrorKind::UnableToSendCommand => StorageError::Unavailable(message),
                    _ if may_pass(&message) => StorageError::Unavailable(message),
                    _ => StorageError::Query(message),
                }
            }
            Error::DeserializationError(reason) => StorageError::Invalid(reason.to_string()),
            Error::BrokenTransactionManager | Error::RollbackErrorOnCommit { .. } => StorageError::Unavailable(error.to_string()),
            other => StorageError::Query(other.to_string()),
        }
    }
}

/// Whether the reason lies outside of us. diesel does not hand the code on, so the text must do: SQLite's is always English,
/// PostgreSQL's where its `lc_messages` is (elsewhere these become [`StorageError::Query`]).
fn may_pass(message: &str) -> bool {
    const PASSING: [&str; 13] = [
        "database is locked",
        "database table is locked",
        "database or disk is full",
        "disk I/O error",
        "unable to open database file",
        "attempt to write a readonly database",
        "deadlock detected",
        "canceling statement due to",
        "terminating connection due to",
        "No space left on device",
        "the database system is",
        "server closed the connection",
        "remaining connection slots are reserved",
    ];
    PASSING.iter().any(|text| message.contains(text))
}
