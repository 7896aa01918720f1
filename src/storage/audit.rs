//! The trail in the database.

use diesel::prelude::*;

use super::either::MultiBackend;
use super::schema::audit_records;
use super::{Connection, StorageError};
use crate::audit::{Entry, Record};

#[derive(Queryable, Insertable)]
#[diesel(table_name = audit_records)]
struct Row {
    id: String,
    at: i64,
    event: String,
    outcome: String,
    client_id: Option<String>,
    account_id: Option<String>,
    username: Option<String>,
    source: Option<String>,
    address: Option<String>,
    reason: Option<String>,
    request_id: Option<String>,
    detail: String,
}

type Columns = (
    audit_records::id,
    audit_records::at,
    audit_records::event,
    audit_records::outcome,
    audit_records::client_id,
    audit_records::account_id,
    audit_records::username,
    audit_records::source,
    audit_records::address,
    audit_records::reason,
    audit_records::request_id,
    audit_records::detail,
);

const COLUMNS: Columns = (
    audit_records::id,
    audit_records::at,
    audit_records::event,
    audit_records::outcome,
    audit_records::client_id,
    audit_records::account_id,
    audit_records::username,
    audit_records::source,
    audit_records::address,
    audit_records::reason,
    audit_records::request_id,
    audit_records::detail,
);

/// Writes a record down.
pub fn insert(tx: &mut Connection, record: &Record) -> Result<(), StorageError> {
    let record = record.clone();
    let row = Row {
        id: record.id,
        at: record.at,
        event: record.event.as_str().to_owned(),
        outcome: record.outcome.as_str().to_owned(),
        client_id: record.client_id,
        account_id: record.account_id,
        username: record.username,
        source: record.source,
        address: record.address,
        reason: record.reason,
        request_id: record.request_id,
        detail: record.detail.to_string(),
    };
    diesel::insert_into(audit_records::table).values(&row).execute(tx)?;
    Ok(())
}

/// The records after `id`, oldest first, at most `limit`. [`first_id_at`] turns a time into such an id.
pub fn after(c: &mut Connection, id: &str, limit: i64) -> Result<Vec<Entry>, StorageError> {
    let after = audit_records::table.select(COLUMNS).filter(audit_records::id.gt(id));
    let rows: Vec<Row> = after.order(audit_records::id).limit(limit).load(c)?;
    Ok(rows.into_iter().map(read).collect())
}

/// The ids after `id`, oldest first.
pub fn ids_since(c: &mut Connection, id: &str) -> Result<Vec<String>, StorageError> {
    let after = audit_records::table.filter(audit_records::id.gt(id));
    Ok(after.select(audit_records::id).order(audit_records::id).load(c)?)
}

/// When the newest record was written, in seconds; None while there is none.
pub fn newest(c: &mut Connection) -> Result<Option<i64>, StorageError> {
    Ok(audit_records::table.select(audit_records::at).order(audit_records::id.desc()).first(c).optional()?)
}

/// What stands before every id that was made at `time` or later (ids begin with ten hex digits of seconds).
pub fn first_id_at(time: i64) -> String {
    format!("{:010x}", time.max(0))
}

/// Where else the trail is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    File,
    Syslog,
}

impl Sink {
    pub fn as_str(self) -> &'static str {
        match self {
            Sink::File => "file",
            Sink::Syslog => "syslog",
        }
    }
}

/// The records from the id `from` on that have not reached `sink`, oldest first, at most `limit`. It does not matter in which order
/// they were committed: what comes late is found all the same.
pub fn not_in(c: &mut Connection, sink: Sink, from: &str, limit: i64) -> Result<Vec<Entry>, StorageError> {
    let all = audit_records::table.select(COLUMNS).into_boxed::<MultiBackend>();
    let missing = match sink {
        Sink::File => all.filter(audit_records::in_file.is_null()),
        Sink::Syslog => all.filter(audit_records::in_syslog.is_null()),
    };
    let rows: Vec<Row> = missing.filter(audit_records::id.gt(from.to_owned())).order(audit_records::id).limit(limit).load(c)?;
    Ok(rows.into_iter().map(read).collect())
}

/// Notes that these records reached `sink`.
pub fn reached(tx: &mut Connection, sink: Sink, ids: &[String]) -> Result<(), StorageError> {
    for id in ids {
        let row = diesel::update(audit_records::table.find(id));
        match sink {
            Sink::File => row.set(audit_records::in_file.eq(true)).execute(tx)?,
            Sink::Syslog => row.set(audit_records::in_syslog.eq(true)).execute(tx)?,
        };
    }
    Ok(())
}

fn read(row: Row) -> Entry {
    Entry {
        // What another program wrote, if it is no JSON, is shown as it is.
        detail: serde_json::from_str(&row.detail).unwrap_or_else(|_| row.detail.into()),
        id: row.id,
        at: row.at,
        event: row.event,
        outcome: row.outcome,
        client_id: row.client_id,
        account_id: row.account_id,
        username: row.username,
        source: row.source,
        address: row.address,
        reason: row.reason,
        request_id: row.request_id,
    }
}

/// [`after`], as what this version writes.
#[cfg(test)]
pub fn since(c: &mut Connection, id: &str, limit: i64) -> Result<Vec<Record>, StorageError> {
    use crate::audit::{Event, Outcome};
    let unknown = |entry: &Entry| StorageError::Invalid(format!("audit record {} has an unknown word", entry.id));
    let typed = after(c, id, limit)?.into_iter().map(|entry| {
        Ok(Record {
            event: Event::parse(&entry.event).ok_or_else(|| unknown(&entry))?,
            outcome: Outcome::parse(&entry.outcome).ok_or_else(|| unknown(&entry))?,
            id: entry.id,
            at: entry.at,
            client_id: entry.client_id,
            account_id: entry.account_id,
            username: entry.username,
            source: entry.source,
            address: entry.address,
            reason: entry.reason,
            request_id: entry.request_id,
            detail: entry.detail,
        })
    });
    typed.collect()
}
