//! The feed: revocations and notices of change as one numbered stream that every node follows.

use diesel::prelude::*;

use super::either::MultiBackend;
use super::schema::{feed, feed_entries};
use super::{Connection, StorageError};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = feed_entries)]
pub struct FeedEntry {
    /// Numbers never commit out of order; there may be gaps.
    pub n: i64,
    /// What `value` is: a token, grant, subject, client …
    pub kind: String,
    pub value: String,
    /// Until when it matters.
    pub until: i64,
    pub at: i64,
}

/// The channel of PostgreSQL's NOTIFY.
pub(super) const CHANNEL: &str = "countersign_feed";

/// Adds an entry and answers its number. The counter's row stays locked until the transaction ends, so append last, after every
/// other row that the transaction locks.
pub fn append(tx: &mut Connection, kind: &str, value: &str, until: i64, now: i64) -> Result<i64, StorageError> {
    let n = reserve(tx, 1)?;
    let entry = FeedEntry { n, kind: kind.to_owned(), value: value.to_owned(), until, at: now };
    diesel::insert_into(feed_entries::table).values(&entry).execute(tx)?;
    Ok(n)
}

/// Takes `count` numbers and answers the first; the followers hear of the commit. What [`append`] says about locks holds here.
pub(super) fn reserve(tx: &mut Connection, count: i64) -> Result<i64, StorageError> {
    let heads: Vec<i64> = diesel::update(feed::table).set(feed::head.eq(feed::head + count)).returning(feed::head).get_results(tx)?;
    let [last] = heads[..] else { return Err(not_one_row(heads.len())) };
    if let Connection::Postgres(c) = tx {
        // Sent by the commit, once for each transaction.
        diesel::sql_query(format!("NOTIFY {CHANNEL}")).execute(c)?;
    }
    Ok(last - count + 1)
}

/// Keeps everybody else from adding entries until the transaction ends. What [`append`] says about locks holds here.
pub(super) fn hold(tx: &mut Connection) -> Result<(), StorageError> {
    match diesel::update(feed::table).set(feed::head.eq(feed::head)).execute(tx)? {
        1 => Ok(()),
        count => Err(not_one_row(count)),
    }
}

/// The entries after `n`, in order, at most `limit`.
pub fn after(c: &mut Connection, n: i64, limit: i64) -> Result<Vec<FeedEntry>, StorageError> {
    Ok(feed_entries::table.filter(feed_entries::n.gt(n)).order(feed_entries::n).limit(limit).load(c)?)
}

/// Every entry that still matters at `now`, in order.
pub fn live(c: &mut Connection, now: i64) -> Result<Vec<FeedEntry>, StorageError> {
    Ok(feed_entries::table.filter(feed_entries::until.ge(now)).order(feed_entries::n).load(c)?)
}

/// The entries of these kinds after `n` that still matter at `now`, in order, at most `limit`.
pub fn of_kinds_after(c: &mut Connection, kinds: &[&str], n: i64, now: i64, limit: i64) -> Result<Vec<FeedEntry>, StorageError> {
    let live = feed_entries::n.gt(n).and(feed_entries::until.ge(now));
    // As text: a list of borrowed ones would have to live as long as the query of either database.
    let kinds: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
    Ok(feed_entries::table.filter(live).filter(feed_entries::kind.eq_any(kinds)).order(feed_entries::n).limit(limit).load(c)?)
}

/// The number of the newest entry; 0 before the first.
pub fn head(c: &mut Connection) -> Result<i64, StorageError> {
    Ok(identity(c)?.1)
}

/// The highest number among the entries that match any of (kind, value).
pub fn latest_matching<K: AsRef<str>, V: AsRef<str>>(tx: &mut Connection, pairs: &[(K, V)]) -> Result<Option<i64>, StorageError> {
    let Some(((kind, value), rest)) = pairs.split_first() else { return Ok(None) };
    let first = feed_entries::kind.eq(kind.as_ref()).and(feed_entries::value.eq(value.as_ref()));
    let mut matching = feed_entries::table.into_boxed::<MultiBackend>().filter(first);
    for (kind, value) in rest {
        matching = matching.or_filter(feed_entries::kind.eq(kind.as_ref()).and(feed_entries::value.eq(value.as_ref())));
    }
    Ok(matching.select(feed_entries::n).order(feed_entries::n.desc()).first(tx).optional()?)
}

/// Makes the one row, with a random name. Called by the migrations, under their lock.
pub(super) fn ensure(tx: &mut Connection) -> Result<(), StorageError> {
    let rows: i64 = feed::table.count().get_result(tx)?;
    if rows == 0 {
        let mut id = [0u8; 16];
        crate::oauth2::secret::fill_random(&mut id);
        diesel::insert_into(feed::table).values((feed::id.eq(crate::oauth2::secret::hex(&id)), feed::head.eq(0))).execute(tx)?;
    }
    Ok(())
}

/// Name and head in one look. A restored backup gets another name, so that nobody continues a feed with numbers that were given before.
pub fn identity(c: &mut Connection) -> Result<(String, i64), StorageError> {
    let rows: Vec<(String, i64)> = feed::table.load(c)?;
    let count = rows.len();
    rows.into_iter().next().filter(|_| count == 1).ok_or_else(|| not_one_row(count))
}

/// Numbers that a feed under a new name skips: more than were ever given in the time that a restored backup has forgotten. With
/// it 2^20 recoveries stay exact in JSON.
const SKIPPED: i64 = 1 << 32;

/// Gives the feed another name, and numbers beyond all that it may have given before, so that whatever carries an old one is older
/// than each entry to come. Answers the name.
pub fn begin_anew(tx: &mut Connection) -> Result<String, StorageError> {
    let (_, head) = identity(tx)?;
    let mut id = [0u8; 16];
    crate::oauth2::secret::fill_random(&mut id);
    let id = crate::oauth2::secret::hex(&id);
    diesel::update(feed::table).set((feed::id.eq(&id), feed::head.eq(head + SKIPPED))).execute(tx)?;
    Ok(id)
}

fn not_one_row(count: usize) -> StorageError {
    StorageError::Invalid(format!("the table feed holds {count} rows instead of one; run countersign migrate"))
}
