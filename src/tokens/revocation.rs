//! What has been revoked, in memory. A revocation is a row with a number; each token and grant carries `rv`, the number that its
//! node had applied when the request began. Revocation N kills each match with `rv < N`: no two clocks are compared, and nothing
//! survives within the same second.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use super::claims::AccessClaims;
use crate::storage::feed::FeedEntry;

/// What a revocation kills. The names are those of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Token,
    Grant,
    Subject,
    Client,
    Source,
    All,
}

impl Kind {
    const COUNT: usize = 6;
    const ALL: [Kind; Kind::COUNT] = [Kind::Token, Kind::Grant, Kind::Subject, Kind::Client, Kind::Source, Kind::All];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Token => "jti",
            Kind::Grant => "grant_id",
            Kind::Subject => "sub",
            Kind::Client => "client_id",
            Kind::Source => "source",
            Kind::All => "all",
        }
    }

    /// None for entries of the feed that are no revocations (changed clients, keys).
    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.as_str() == name)
    }
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    n: i64,
    until: i64,
}

/// The live revocations by kind and value.
#[derive(Debug, Default)]
pub struct Revocations {
    marks: RwLock<[HashMap<Box<str>, Mark>; Kind::COUNT]>,
}

impl Revocations {
    /// Takes in entries of the feed, in any order.
    pub fn apply(&self, entries: &[FeedEntry]) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            let Some(map) = Kind::parse(&entry.kind).and_then(|kind| marks.get_mut(kind as usize)) else { continue };
            let mark = map.entry(entry.value.as_str().into()).or_insert(Mark { n: entry.n, until: entry.until });
            mark.n = mark.n.max(entry.n);
            mark.until = mark.until.max(entry.until);
        }
    }

    /// Forgets what no longer matters.
    pub fn purge(&self, now: i64) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        for map in marks.iter_mut() {
            map.retain(|_, mark| mark.until >= now);
        }
    }

    /// Whether a revocation kills something with these properties and this `rv`.
    pub fn kills<'a>(&self, rv: i64, properties: impl IntoIterator<Item = (Kind, &'a str)>) -> bool {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        let hit = |kind: Kind, value: &str| {
            marks.get(kind as usize).filter(|map| !map.is_empty()).and_then(|map| map.get(value)).is_some_and(|mark| mark.n > rv)
        };
        hit(Kind::All, "") || properties.into_iter().any(|(kind, value)| hit(kind, value))
    }

    /// Whether a revocation kills this access token.
    pub fn kills_token(&self, claims: &AccessClaims) -> bool {
        let fixed = [(Kind::Token, claims.jti.as_str()), (Kind::Subject, claims.sub.as_str()), (Kind::Client, claims.client_id.as_str())];
        let grant = claims.grant_id.as_ref().map(|g| (Kind::Grant, g.as_str()));
        let source = claims.source.as_ref().map(|s| (Kind::Source, s.as_str()));
        self.kills(claims.rv, fixed.into_iter().chain(grant).chain(source))
    }

    /// How many are held, for the metrics.
    pub fn count(&self) -> usize {
        self.marks.read().unwrap_or_else(PoisonError::into_inner).iter().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: i64, kind: Kind, value: &str) -> FeedEntry {
        FeedEntry { n, kind: kind.as_str().to_owned(), value: value.to_owned(), until: 100, at: 0 }
    }

    #[test]
    fn a_revocation_kills_what_was_issued_before_it_and_nothing_later() {
        let revocations = Revocations::default();
        revocations.apply(&[entry(5, Kind::Subject, "alice")]);
        let killed = |rv, who| revocations.kills(rv, [(Kind::Subject, who)]);
        assert!(killed(4, "alice"));
        assert!(!killed(5, "alice"));
        assert!(!killed(4, "bob"));
        revocations.apply(&[entry(7, Kind::All, "")]);
        assert!(killed(6, "bob") && !killed(7, "bob"));
    }

    #[test]
    fn an_older_entry_never_weakens_a_newer_one_and_purge_forgets() {
        let revocations = Revocations::default();
        revocations.apply(&[entry(9, Kind::Client, "c"), entry(3, Kind::Client, "c")]);
        assert!(revocations.kills(8, [(Kind::Client, "c")]));
        revocations.purge(100);
        assert_eq!(revocations.count(), 1);
        revocations.purge(101);
        assert_eq!(revocations.count(), 0);
    }
}
