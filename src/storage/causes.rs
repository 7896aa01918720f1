//! What each grant rests on, so that it can be ended by that: a group, a rule, a session at the provider.
//!
//! Whoever writes a grant calls [`admit`] first, in the same transaction: it stands in line behind a revocation by cause ([`end`]) that
//! is under way and sees each that came before. So a sign-in that was in flight is either found by the revocation or finds its mark.

use std::collections::BTreeSet;
use std::fmt;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::connection::execute_on_either;
use super::schema::{feed_entries, grant_causes, grants, refresh_families};
use super::transaction::{alone, among_others};
use super::{Connection, StorageError, feed};
use crate::config::LONGEST_ACCESS_LIFETIME;
use crate::oauth2::secret::Digest;

const GROUP: &str = "group";
const RULE: &str = "rule";
const UPSTREAM: &str = "upstream";
/// The row of a grant that rests on nothing of these.
const NONE: &str = "none";

/// The kinds of the feed's entries that mark a revocation by cause. They kill nothing by themselves: each grant has an entry of its own.
const MARKS: [&str; 3] = [GROUP, RULE, UPSTREAM];

/// Longer values stand as their digest: an index of PostgreSQL takes no row above 2,700 bytes.
const LONGEST: usize = 512;
/// `until` of what the grant itself rests on.
const WHILE_THE_GRANT: i64 = i64::MAX;
/// Values in one list of a statement.
const LIST: usize = 500;
/// Grants looked at in one go.
const PAGE: i64 = 2000;

/// One thing that a grant rests on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    kind: &'static str,
    value: String,
    shown: String,
}

impl Cause {
    /// A group, as `roles::group_key` writes it.
    pub fn group(key: &str) -> Cause {
        Cause { kind: GROUP, value: short(key), shown: format!("group {key}") }
    }

    /// A rule of the mapping, by its id.
    pub fn rule(id: &str) -> Cause {
        Cause { kind: RULE, value: short(id), shown: format!("rule {id}") }
    }

    /// A session at the provider behind a source.
    pub fn upstream_session(source: &str, session: &str) -> Cause {
        Cause { kind: UPSTREAM, value: short(&format!("{source}\n{session}")), shown: format!("session {session} of {source}") }
    }

    /// The word in the feed and in the audit.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The value in the feed and in the audit: what was named, or its digest if it is very long.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The value itself, or its digest where the database could not index it (or not store it, as PostgreSQL with NUL).
fn short(value: &str) -> String {
    if value.len() <= LONGEST && !value.contains('\0') {
        return value.to_owned();
    }
    format!("sha256:{}", Digest::of(value.as_bytes()).encode())
}

/// What a grant rests on, once [`admit`] has said that nothing of it was revoked meanwhile.
#[derive(Clone, Debug)]
pub struct Admitted(Vec<(&'static str, String)>);

/// Asks, before a grant with these causes is written, whether a revocation by cause above `rv`, which the request had not seen,
/// concerns them: None then. To be called first in the transaction; from here to its end no such revocation is written beside it.
pub fn admit(tx: &mut Connection, causes: Vec<Cause>, rv: i64) -> Result<Option<Admitted>, StorageError> {
    among_others(tx)?;
    let causes: BTreeSet<_> = causes.into_iter().map(|cause| (cause.kind, cause.value)).collect();
    let values: Vec<&str> = causes.iter().map(|(_, value)| value.as_str()).collect();
    for some in values.chunks(LIST) {
        let marks = feed_entries::table.filter(feed_entries::kind.eq_any(MARKS)).filter(feed_entries::value.eq_any(some));
        let found = marks.filter(feed_entries::n.gt(rv)).select((feed_entries::kind, feed_entries::value));
        let found: Vec<(String, String)> = found.load(tx)?;
        if found.iter().any(|(kind, value)| causes.iter().any(|cause| cause.0 == kind && &cause.1 == value)) {
            return Ok(None);
        }
    }
    let rows = if causes.is_empty() { vec![(NONE, String::new())] } else { causes.into_iter().collect() };
    Ok(Some(Admitted(rows)))
}

pub(super) fn insert(tx: &mut Connection, grant_id: &str, rests_on: &Admitted) -> Result<(), StorageError> {
    let rows: Vec<_> = rests_on.0.iter().map(|(kind, value)| (*kind, value.as_str(), WHILE_THE_GRANT)).collect();
    insert_rows(tx, grant_id, &rows)
}

fn insert_rows(tx: &mut Connection, grant_id: &str, rows: &[(&str, &str, i64)]) -> Result<(), StorageError> {
    for some in rows.chunks(LIST) {
        let columns = |(kind, value, until): &(&str, &str, i64)| {
            (
                grant_causes::grant_id.eq(grant_id.to_owned()),
                grant_causes::kind.eq((*kind).to_owned()),
                grant_causes::value.eq((*value).to_owned()),
                grant_causes::until.eq(*until),
            )
        };
        let rows: Vec<_> = some.iter().map(columns).collect();
        execute_on_either!(tx, diesel::insert_into(grant_causes::table).values(rows))?;
    }
    Ok(())
}

/// What a look at `now` found. What it no longer found stays for as long as an access token from before can live. Writes only if
/// something has changed, which at a refresh is rare.
pub(super) fn replace(tx: &mut Connection, grant_id: &str, rests_on: &Admitted, now: i64) -> Result<(), StorageError> {
    let of_grant = grant_causes::table.filter(grant_causes::grant_id.eq(grant_id));
    let held: Vec<(String, String, i64)> = of_grant.select((grant_causes::kind, grant_causes::value, grant_causes::until)).load(tx)?;
    let found: BTreeSet<(&str, &str)> = rests_on.0.iter().map(|(kind, value)| (*kind, value.as_str())).collect();
    let current = held.iter().filter(|(_, _, until)| *until == WHILE_THE_GRANT);
    if current.map(|(kind, value, _)| (kind.as_str(), value.as_str())).collect::<BTreeSet<_>>() == found {
        return Ok(());
    }
    let last = now.saturating_add(LONGEST_ACCESS_LIFETIME.as_secs() as i64);
    let past = held.iter().map(|(kind, value, until)| (kind.as_str(), value.as_str(), last.min(*until)));
    let past = past.filter(|(kind, value, until)| *kind != NONE && *until >= now && !found.contains(&(*kind, *value)));
    let rows: Vec<_> = found.iter().map(|(kind, value)| (*kind, *value, WHILE_THE_GRANT)).chain(past).collect();
    diesel::delete(grant_causes::table.filter(grant_causes::grant_id.eq(grant_id))).execute(tx)?;
    insert_rows(tx, grant_id, &rows)
}

/// A grant without causes: it was written by a program that did not know them.
#[derive(Clone, Debug, Queryable)]
pub struct Unread {
    pub id: String,
    pub source: String,
    pub record: String,
    pub expires_at: i64,
}

/// Grants without causes, in the order of their ids, from after `after`.
pub fn unread(c: &mut Connection, after: &str) -> Result<Vec<Unread>, StorageError> {
    let known = diesel::dsl::exists(grant_causes::table.filter(grant_causes::grant_id.eq(grants::id)));
    let rows = grants::table.filter(grants::id.gt(after.to_owned())).filter(diesel::dsl::not(known)).order(grants::id).limit(PAGE);
    Ok(rows.select((grants::id, grants::source, grants::record, grants::expires_at)).load(c)?)
}

/// Writes the causes of one batch of such grants down, as `of` reads them from source and record. False when none are left.
pub fn read_batch(tx: &mut Connection, of: impl Fn(&str, &str) -> Vec<Cause>) -> Result<bool, StorageError> {
    let batch = unread(tx, "")?;
    for grant in &batch {
        let causes: BTreeSet<_> = of(&grant.source, &grant.record).into_iter().map(|cause| (cause.kind, cause.value)).collect();
        let rows = if causes.is_empty() { vec![(NONE, String::new())] } else { causes.into_iter().collect() };
        insert(tx, &grant.id, &Admitted(rows))?;
    }
    Ok(!batch.is_empty())
}

/// Live grants that rest on a cause and that nothing has ended one by one yet. The parameters are kind, value and now and stand
/// first in a statement, in this order: SQLite numbers them as they come.
const MATCHING: &str = "FROM grants g JOIN grant_causes c ON c.grant_id = g.id WHERE c.kind = $1 AND c.value = $2 AND g.expires_at >= $3 AND c.until >= $3 \
                        AND NOT EXISTS (SELECT 1 FROM feed_entries f WHERE f.kind = 'grant_id' AND f.value = g.id)";

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many live sign-ins rest on a cause.
pub fn count(c: &mut Connection, cause: &Cause, now: i64) -> Result<i64, StorageError> {
    let query = diesel::sql_query(format!("SELECT count(*) AS count {MATCHING}"));
    let query = query.bind::<Text, _>(cause.kind).bind::<Text, _>(&cause.value).bind::<BigInt, _>(now);
    Ok(query.get_result::<Count>(c)?.count)
}

/// What a revocation by cause did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub sign_ins: i64,
    pub refresh_families: usize,
    /// The number of the mark; those of the sign-ins follow it.
    pub n: i64,
}

/// Waits for the sign-ins and refreshes that are being written and keeps new ones waiting: what follows in this transaction misses none.
/// To be called first.
pub fn alone_with_grants(tx: &mut Connection) -> Result<(), StorageError> {
    alone(tx)
}

/// Ends everything that rests on `cause`, after [`alone_with_grants`]: a mark in the feed until `until`, an entry for each live grant, and
/// the death of its refresh families.
pub fn end(tx: &mut Connection, cause: &Cause, until: i64, now: i64) -> Result<Ended, StorageError> {
    let resting = grant_causes::table.filter(grant_causes::kind.eq(cause.kind)).filter(grant_causes::value.eq(&cause.value));
    let resting = resting.filter(grant_causes::until.ge(now));
    let alive = refresh_families::table
        .filter(refresh_families::dead.eq(false))
        .filter(refresh_families::grant_id.eq_any(resting.select(grant_causes::grant_id)));
    let refresh_families = diesel::update(alive).set(refresh_families::dead.eq(true)).execute(tx)?;
    // From here on nobody ends one of them by itself, so that what is counted is what is written.
    feed::hold(tx)?;
    let counted = count(tx, cause, now)?;
    let n = feed::reserve(tx, counted + 1)?;
    let entries = diesel::sql_query(format!(
        "WITH ended AS (SELECT g.id, g.expires_at {MATCHING}) INSERT INTO feed_entries (n, kind, value, until, at) \
         SELECT $4 + row_number() OVER (ORDER BY id), 'grant_id', id, expires_at, $5 FROM ended ORDER BY id LIMIT $6"
    ));
    let entries = entries.bind::<Text, _>(cause.kind).bind::<Text, _>(&cause.value).bind::<BigInt, _>(now);
    // Never a number above the head, whatever the looks have seen: those who follow would pass it over.
    let entries = entries.bind::<BigInt, _>(n).bind::<BigInt, _>(now).bind::<BigInt, _>(counted);
    let sign_ins = i64::try_from(entries.execute(tx)?).unwrap_or(i64::MAX);
    let mark = feed::FeedEntry { n, kind: cause.kind.to_owned(), value: cause.value.clone(), until, at: now };
    diesel::insert_into(feed_entries::table).values(&mark).execute(tx)?;
    Ok(Ended { sign_ins, refresh_families, n })
}
