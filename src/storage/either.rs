//! SQLite or PostgreSQL as one type. It stands alone, since the derive brings diesel's own `Connection` into scope.

use std::fmt;

use diesel::{PgConnection, SqliteConnection};

/// A connection to SQLite or PostgreSQL; the functions of the table groups take it.
#[derive(diesel::MultiConnection)]
pub enum EitherConnection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl fmt::Debug for EitherConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EitherConnection::Sqlite(_) => "Connection::Sqlite",
            EitherConnection::Postgres(_) => "Connection::Postgres",
        })
    }
}
