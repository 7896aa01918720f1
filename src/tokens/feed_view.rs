//! The revocations as resource servers see them at /oauth2/revocations: kind, digest of the value, until when. Whoever holds a token
//! finds it again; who does not learns nothing of tokens and people.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;
use tokio::sync::watch;

use crate::oauth2::secret::Digest;
use crate::storage::feed::FeedEntry;

/// What may be seen, by the names of the feed. The feed also tells the nodes of keys and clients that changed, which is nobody else's
/// business.
pub const KINDS: [&str; 7] = ["jti", "grant_id", "sub", "client_id", "source", "sid", "all"];

/// Entries in one answer.
pub const PAGE: usize = 1000;
/// Entries in one event of a stream: there are many streams, and each has some under way.
pub const EVENT_PAGE: usize = 200;

/// Entries that are kept in memory for those who follow closely.
const KEPT: usize = 4096;

/// One revocation.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    pub n: i64,
    pub kind: String,
    /// base64url of SHA-256 over kind, 0x00 and value; of an empty value for `all`.
    pub h: String,
    /// Seconds: what it kills has expired by then.
    pub until: i64,
}

impl Shown {
    /// None for an entry that is no revocation.
    pub fn of(entry: &FeedEntry) -> Option<Shown> {
        if !KINDS.contains(&entry.kind.as_str()) {
            return None;
        }
        let digest = Digest::of(&[entry.kind.as_bytes(), b"\0", entry.value.as_bytes()].concat());
        Some(Shown { n: entry.n, kind: entry.kind.clone(), h: digest.encode(), until: entry.until })
    }
}

/// Some of the revocations, in order.
#[derive(Debug)]
pub struct Page {
    /// The name of the feed. Another one after `keys recover`, so that nobody continues with numbers that were given twice.
    pub feed: Arc<str>,
    pub entries: Vec<Arc<Shown>>,
    /// Everything up to this number has been shown.
    pub up_to: i64,
    /// Whether more follow at once.
    pub more: bool,
}

impl Page {
    /// The first `most` of `entries`, which are those after some number of a feed whose head is `head`.
    pub fn of(feed: Arc<str>, entries: &[FeedEntry], head: i64, most: usize) -> Page {
        Page::cut(feed, entries.iter().filter_map(Shown::of).map(Arc::new), head, most)
    }

    /// Where this page ends.
    pub fn cursor(&self) -> Cursor {
        Cursor { feed: self.feed.to_string(), n: self.up_to }
    }

    fn cut(feed: Arc<str>, entries: impl Iterator<Item = Arc<Shown>>, head: i64, most: usize) -> Page {
        let mut entries: Vec<_> = entries.take(most + 1).collect();
        let more = entries.len() > most;
        entries.truncate(most);
        let last = entries.last().filter(|_| more);
        Page { feed, up_to: last.map_or(head, |last| last.n), entries, more }
    }
}

/// The latest revocations that this node has applied.
#[derive(Debug)]
pub struct Recent {
    held: RwLock<Held>,
    news: watch::Sender<i64>,
}

#[derive(Debug)]
struct Held {
    feed: Arc<str>,
    /// All after this number are here.
    floor: i64,
    head: i64,
    entries: VecDeque<Arc<Shown>>,
}

impl Recent {
    /// Nothing yet: what is up to `head` stands in the database.
    pub fn starting_after(feed: String, head: i64) -> Recent {
        let held = Held { feed: feed.into(), floor: head, head, entries: VecDeque::new() };
        Recent { held: RwLock::new(held), news: watch::Sender::new(head) }
    }

    /// Whether this is the feed of that name.
    pub fn is_of(&self, feed: &str) -> bool {
        &*self.held.read().unwrap_or_else(PoisonError::into_inner).feed == feed
    }

    /// Another feed has taken the place of this one. What is up to `head` stands in the database.
    pub fn begin_anew(&self, feed: String, head: i64) {
        let anew = Held { feed: feed.into(), floor: head, head, entries: VecDeque::new() };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = anew;
        self.news.send_replace(head);
    }

    /// Takes in what the feed brought, once this node has applied it. What was purged before anybody could read it matters to
    /// nobody any more.
    pub fn take_in(&self, entries: &[FeedEntry]) {
        let Some(last) = entries.last() else { return };
        {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            held.entries.extend(entries.iter().filter_map(Shown::of).map(Arc::new));
            while held.entries.len() > KEPT {
                held.floor = held.entries.pop_front().map_or(held.floor, |gone| gone.n);
            }
            held.head = last.n;
        }
        self.news.send_replace(last.n);
    }

    /// The first `most` after `since` of what still matters at `now`; None if that is not known here.
    pub fn after(&self, since: Option<&Cursor>, now: i64, most: usize) -> Option<Page> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let n = since.map_or(0, |cursor| cursor.n);
        if n < held.floor || n > held.head || since.is_some_and(|cursor| cursor.feed != *held.feed) {
            return None;
        }
        let first = held.entries.partition_point(|entry| entry.n <= n);
        Some(Page::cut(held.feed.clone(), held.entries.iter().skip(first).filter(|entry| entry.until >= now).cloned(), held.head, most))
    }

    pub fn news(&self) -> watch::Receiver<i64> {
        self.news.subscribe()
    }
}

/// Where somebody stands in which feed. Opaque to those who follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub feed: String,
    pub n: i64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.feed, self.n)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Cursor, ()> {
        let (feed, n) = text.split_once('.').ok_or(())?;
        let digits = !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        let hex = !feed.is_empty() && feed.len() <= 64 && feed.bytes().all(|b| b.is_ascii_hexdigit());
        match n.parse() {
            Ok(n) if digits && hex => Ok(Cursor { feed: feed.to_owned(), n }),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(n: i64, kind: &str, value: &str) -> FeedEntry {
        FeedEntry { n, kind: kind.to_owned(), value: value.to_owned(), until: 100, at: 0 }
    }

    fn at(n: i64) -> Option<Cursor> {
        Some(Cursor { feed: "f0".to_owned(), n })
    }

    fn numbers(page: &Page) -> Vec<i64> {
        page.entries.iter().map(|entry| entry.n).collect()
    }

    #[test]
    fn an_entry_shows_a_digest_and_only_of_revocations() {
        let shown = Shown::of(&entry(1, "jti", "abc")).unwrap();
        assert_eq!(shown.h, Digest::of(b"jti\0abc").encode());
        assert_eq!(Shown::of(&entry(1, "all", "")).unwrap().h, Digest::of(b"all\0").encode());
        for other in ["client_changed", "keys_changed", "group", "", "JTI"] {
            assert_eq!(Shown::of(&entry(1, other, "abc")), None, "{other}");
        }
    }

    #[test]
    fn who_follows_closely_is_served_from_memory() {
        let recent = Recent::starting_after("f0".to_owned(), 10);
        assert!(recent.after(at(9).as_ref(), 0, PAGE).is_none() && recent.after(at(11).as_ref(), 0, PAGE).is_none());
        assert_eq!(recent.after(at(10).as_ref(), 0, PAGE).unwrap().up_to, 10);
        recent.take_in(&[entry(11, "jti", "a"), entry(12, "client_changed", "c"), entry(13, "sub", "b"), entry(14, "keys", "")]);
        let page = recent.after(at(10).as_ref(), 0, PAGE).unwrap();
        assert_eq!((numbers(&page), page.up_to, page.more), (vec![11, 13], 14, false));
        assert_eq!(numbers(&recent.after(at(11).as_ref(), 0, PAGE).unwrap()), [13]);
        assert_eq!(recent.after(at(14).as_ref(), 0, PAGE).unwrap().up_to, 14);
        assert_eq!(recent.after(at(10).as_ref(), 101, PAGE).unwrap().entries.len(), 0, "what has expired");
        recent.take_in(&[]);
        assert_eq!(recent.after(at(14).as_ref(), 0, PAGE).unwrap().up_to, 14);
    }

    #[test]
    fn after_a_recovery_no_old_cursor_goes_on() {
        let recent = Recent::starting_after("f0".to_owned(), 0);
        recent.take_in(&[entry(1, "jti", "a")]);
        let mut news = recent.news();
        recent.begin_anew("f1".to_owned(), 0);
        assert!(news.has_changed().unwrap() && recent.is_of("f1") && !recent.is_of("f0"));
        assert!(recent.after(at(1).as_ref(), 0, PAGE).is_none() && recent.after(at(0).as_ref(), 0, PAGE).is_none());
        news.mark_unchanged();
        recent.take_in(&[entry(5, "jti", "b")]);
        let page = recent.after(None, 0, PAGE).unwrap();
        assert_eq!((numbers(&page), page.cursor().to_string()), (vec![5], "f1.5".to_owned()));
    }

    #[test]
    fn pages_join_without_a_gap_and_memory_is_bounded() {
        let recent = Recent::starting_after("f0".to_owned(), 0);
        let all: Vec<_> = (1..=6000).map(|n| entry(n, "jti", &n.to_string())).collect();
        recent.take_in(&all);
        assert!(recent.after(at(6000 - KEPT as i64 - 1).as_ref(), 0, PAGE).is_none());
        let (mut n, mut seen) = (6000 - KEPT as i64, Vec::new());
        loop {
            let page = recent.after(at(n).as_ref(), 0, PAGE).unwrap();
            seen.extend(numbers(&page));
            n = page.up_to;
            if !page.more {
                break;
            }
            assert_eq!(page.entries.len(), PAGE);
        }
        assert_eq!(seen, (6001 - KEPT as i64..=6000).collect::<Vec<_>>());
        assert_eq!(recent.after(at(5000).as_ref(), 0, EVENT_PAGE).unwrap().up_to, 5200);
        let page = Page::of("f0".into(), &all[..=PAGE], 6000, PAGE);
        assert_eq!((page.entries.len(), page.up_to, page.more), (PAGE, PAGE as i64, true));
        assert_eq!(Page::of("f0".into(), &all[..PAGE], 6000, PAGE).up_to, 6000);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_was_given_is_read(text in ".*", feed in "[0-9a-f]{1,64}", n in 0..i64::MAX) {
            let _ = text.parse::<Cursor>();
            let cursor = Cursor { feed, n };
            prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
        }
    }
}
