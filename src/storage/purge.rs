//! Removes what has expired, from every table whose rows do, in batches, so that no transaction holds others up.

use std::collections::BTreeMap;
use std::time::Duration;

use diesel::prelude::*;

use super::schema::{audit_records, client_secrets, feed_entries, grants, refresh_families, shield_marks, shield_tries, used};
use super::{Connection, Storage, StorageError, audit};

const BATCH: i64 = 1000;
/// Seconds that an expired client secret is still shown.
const EXPIRED_SECRET_KEPT: i64 = 30 * 86_400;

#[derive(Clone)]
struct Limits {
    now: i64,
    first_audit_id: String,
}

type Step = fn(&mut Connection, &Limits) -> Result<usize, StorageError>;

/// Deletes, in one batch, the rows of a table whose column is below a limit. The column has an index; rows that share the last
/// value of a batch go with it.
macro_rules! batch {
    (@type id) => { String };
    (@type $column:ident) => { i64 };
    ($tx:expr, $table:ident . $column:ident < $limit:expr) => {{
        let expired = $table::table.filter($table::$column.lt($limit));
        let last = expired.select($table::$column).order($table::$column).offset(BATCH - 1).first::<batch!(@type $column)>($tx).optional()?;
        Ok(match last {
            Some(last) => diesel::delete($table::table.filter($table::$column.le(last))).execute($tx)?,
            None => diesel::delete(expired).execute($tx)?,
        })
    }};
}

/// The tables in an order that leaves nothing for a cascade to remove uncounted.
const STEPS: [(&str, Step); 9] = [
    ("refresh_families", |tx, limits| batch!(tx, refresh_families.expires_at < limits.now)),
    ("refresh_families", |tx, limits| batch!(tx, refresh_families.idle_expires_at < limits.now)),
    ("grants", |tx, limits| batch!(tx, grants.expires_at < limits.now)),
    ("used", |tx, limits| batch!(tx, used.until < limits.now)),
    ("shield_tries", |tx, limits| batch!(tx, shield_tries.until < limits.now)),
    ("shield_marks", |tx, limits| batch!(tx, shield_marks.until < limits.now)),
    // Few, so in one go. For a month an operator still sees which secret it was that ended.
    ("client_secrets", |tx, limits| {
        Ok(diesel::delete(client_secrets::table.filter(client_secrets::expires_at.lt(limits.now - EXPIRED_SECRET_KEPT))).execute(tx)?)
    }),
    ("feed_entries", |tx, limits| batch!(tx, feed_entries.until < limits.now)),
    ("audit_records", |tx, limits| batch!(tx, audit_records.id < &limits.first_audit_id)),
];

/// Removes rows that expired before `now` (seconds), and audit records older than `audit_retention`. Answers how many rows went
/// from each table.
pub async fn run(storage: &Storage, now: i64, audit_retention: Duration) -> Result<BTreeMap<&'static str, usize>, StorageError> {
    let retention = i64::try_from(audit_retention.as_secs()).unwrap_or(i64::MAX);
    let limits = Limits { now, first_audit_id: audit::first_id_at(now.saturating_sub(retention)) };
    let mut removed = BTreeMap::new();
    for (table, step) in STEPS {
        let total = removed.entry(table).or_insert(0);
        loop {
            let limits = limits.clone();
            let count = storage.write(move |tx| step(tx, &limits)).await?;
            *total += count;
            if count < BATCH as usize {
                break;
            }
        }
    }
    Ok(removed)
}
