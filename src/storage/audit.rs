//! The trail in the database.

use diesel::prelude::*;

use super::schema::audit_records;
use super::{Connection, StorageError};
use crate::audit::{Event, Outcome, Record};

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
pub fn since(c: &mut Connection, id: &str, limit: i64) -> Result<Vec<Record>, StorageError> {
    let rows: Vec<Row> = audit_records::table.filter(audit_records::id.gt(id)).order(audit_records::id).limit(limit).load(c)?;
    rows.into_iter().map(read).collect()
}

/// What stands before every id that was made at `time` or later (ids begin with ten hex digits of seconds).
pub fn first_id_at(time: i64) -> String {
    format!("{:010x}", time.max(0))
}

fn read(row: Row) -> Result<Record, StorageError> {
    let unknown = |what: &str, value: &str| StorageError::Invalid(format!("audit record {} has the {what} {value:?}", row.id));
    Ok(Record {
        event: Event::parse(&row.event).ok_or_else(|| unknown("event", &row.event))?,
        outcome: Outcome::parse(&row.outcome).ok_or_else(|| unknown("outcome", &row.outcome))?,
        detail: serde_json::from_str(&row.detail).map_err(|_| unknown("detail", &row.detail))?,
        id: row.id,
        at: row.at,
        client_id: row.client_id,
        account_id: row.account_id,
        username: row.username,
        source: row.source,
        address: row.address,
        reason: row.reason,
        request_id: row.request_id,
    })
}
