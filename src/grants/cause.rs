//! What a sign-in rests on, as its grant recorded it, and the end of everything that rests on one thing.

use super::sign_in::GrantRecord;
use crate::audit::{Event, Record};
use crate::storage::causes::{self, Cause, Ended};
use crate::storage::{Connection, Storage, StorageError, audit};
use crate::tokens::CLOCK_MARGIN;
use crate::tokens::lifecycle::longest_lifetime;

impl GrantRecord {
    /// The groups that gave roles or let the person in at all, the rules that gave roles, and the session at the provider.
    pub fn causes(&self, source: &str) -> Vec<Cause> {
        let groups = self.because_of.iter().map(|group| Cause::group(group));
        let rules = self.rules.iter().map(|rule| Cause::rule(rule));
        let session = self.upstream_session.iter().map(|session| Cause::upstream_session(source, session));
        groups.chain(rules).chain(session).collect()
    }
}

fn causes_of(source: &str, record: &str) -> Vec<Cause> {
    serde_json::from_str::<GrantRecord>(record).unwrap_or_default().causes(source)
}

/// How many live sign-ins [`end`] would end. Reads only.
pub fn count(c: &mut Connection, cause: &Cause, now: i64) -> Result<i64, StorageError> {
    let mut count = causes::count(c, cause, now)?;
    let mut after = String::new();
    loop {
        let batch = causes::unread(c, &after)?;
        let Some(last) = batch.last() else { return Ok(count) };
        after.clone_from(&last.id);
        let resting = |grant: &&causes::Unread| grant.expires_at >= now && causes_of(&grant.source, &grant.record).contains(cause);
        count += batch.iter().filter(resting).count() as i64;
    }
}

/// Ends everything that rests on `cause`, in one transaction that no sign-in in flight escapes, with one audit record that says `by`
/// whom. `now` in seconds.
pub fn end(storage: &Storage, cause: Cause, by: &'static str, now: i64) -> Result<Ended, StorageError> {
    // Grants of a program before the table of causes: beforehand and in batches, so that nobody is kept waiting for it.
    while storage.write_blocking(|tx| causes::read_batch(tx, causes_of))? {}
    storage.write_blocking(move |tx| {
        causes::alone_with_grants(tx)?;
        while causes::read_batch(tx, causes_of)? {}
        let until = now + longest_lifetime(tx)? + CLOCK_MARGIN;
        let ended = causes::end(tx, &cause, until, now)?;
        let detail = serde_json::json!({
            "kind": cause.kind(), "value": cause.value(), "by": by, "sign_ins": ended.sign_ins,
            "refresh_families": ended.refresh_families, "revocation": ended.n,
        });
        audit::insert(tx, &Record::ok(Event::Revoked, now).detail(detail))?;
        Ok(ended)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_tells_what_it_rests_on() {
        let record = GrantRecord {
            groups: vec!["cn=other,dc=x".to_owned()],
            because_of: vec!["cn=a,dc=x".to_owned()],
            rules: vec!["r".to_owned()],
            upstream_session: Some("s1".to_owned()),
            ..GrantRecord::default()
        };
        let expected = [Cause::group("cn=a,dc=x"), Cause::rule("r"), Cause::upstream_session("okta", "s1")];
        assert_eq!(record.causes("okta"), expected);
        assert_eq!(causes_of("okta", &serde_json::to_string(&record).unwrap()), expected);
        assert_eq!(causes_of("okta", "nonsense"), []);
        assert_ne!(Cause::upstream_session("okta", "s1"), Cause::upstream_session("other", "s1"));
    }
}
