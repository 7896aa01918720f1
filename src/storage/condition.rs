//! How the database is, for `doctor`: cheap questions only.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::{Connection, StorageError, feed};

/// What the database says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The program and its version.
    pub version: String,
    /// The server's clock, in seconds; none for SQLite, which has ours.
    pub now: Option<i64>,
    /// The number of the newest entry of the feed.
    pub feed_head: i64,
    /// When it was written, in seconds; none where it was purged, or there was never one.
    pub feed_at: Option<i64>,
}

#[derive(diesel::QueryableByName)]
struct Sqlite {
    #[diesel(sql_type = Text)]
    version: String,
}

#[derive(diesel::QueryableByName)]
struct Postgres {
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = BigInt)]
    now: i64,
}

/// Asks.
pub fn look(c: &mut Connection) -> Result<Condition, StorageError> {
    let (version, now) = match c {
        Connection::Sqlite(c) => {
            let row: Sqlite = diesel::sql_query("SELECT sqlite_version() AS version").get_result(c)?;
            (format!("SQLite {}", row.version), None)
        }
        Connection::Postgres(c) => {
            let question =
                "SELECT current_setting('server_version') AS version, CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT) AS now";
            let row: Postgres = diesel::sql_query(question).get_result(c)?;
            (format!("PostgreSQL {}", row.version), Some(row.now))
        }
    };
    let feed_head = feed::head(c)?;
    let feed_at = feed::after(c, feed_head - 1, 1)?.first().map(|entry| entry.at);
    Ok(Condition { version, now, feed_head, feed_at })
}
