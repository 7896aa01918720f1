//! Reads the trail as it grows.

use std::collections::BTreeSet;

use super::{Storage, StorageError, audit};
use crate::audit::Entry;

/// Seconds that a record may be committed after the time in its id: of two nodes the slower one commits its older record after the
/// newer one of the other, refusals wait for a batch, and clocks disagree.
const OVERLAP: i64 = 120;
const PAGE: i64 = 500;

/// Hands out each record once. To be polled; blocks.
#[derive(Debug)]
pub struct Trail {
    storage: Storage,
    /// Everything up to here was looked at, but for what comes late.
    position: String,
    /// Where it began: nothing before is handed out.
    first: String,
    /// What was handed out and is young enough to be met again.
    seen: BTreeSet<String>,
}

impl Trail {
    /// Begins with what was written at `from` (seconds).
    pub fn new(storage: Storage, from: i64) -> Trail {
        let first = audit::first_id_at(from);
        Trail { storage, position: first.clone(), first, seen: BTreeSet::new() }
    }

    /// The next records, oldest first; none when all were handed out.
    pub fn next(&mut self, now: i64) -> Result<Vec<Entry>, StorageError> {
        let position = self.position.clone();
        let page = self.storage.read_blocking(move |c| audit::after(c, &position, PAGE))?;
        let window = audit::first_id_at(now - OVERLAP);
        if let Some(last) = page.last() {
            self.position = last.id.clone();
            let fresh: Vec<Entry> = page.into_iter().filter(|entry| !self.seen.contains(&entry.id)).collect();
            self.seen.extend(fresh.iter().filter(|entry| entry.id >= window).map(|entry| entry.id.clone()));
            return Ok(fresh);
        }
        // At the end: whether something has appeared behind us.
        self.seen = self.seen.split_off(&window);
        let from = window.max(self.first.clone());
        let ids = self.storage.read_blocking(|c| audit::ids_since(c, &from))?;
        // What was handed out before the window reached it is not among `ids`.
        let Some(late) = ids.iter().find(|id| !self.seen.contains(*id)) else { return Ok(Vec::new()) };
        let before = ids.iter().rev().find(|id| *id < late).cloned().unwrap_or(from);
        let page = self.storage.read_blocking(|c| audit::after(c, &before, PAGE))?;
        let fresh: Vec<Entry> = page.into_iter().filter(|entry| !self.seen.contains(&entry.id)).collect();
        self.seen.extend(fresh.iter().map(|entry| entry.id.clone()));
        if let Some(last) = fresh.last().filter(|last| last.id > self.position) {
            self.position = last.id.clone();
        }
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Event, Record};
    use crate::config::Database;
    use crate::oauth2::Secret;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn each_record_comes_once_and_what_is_committed_late_comes_too() {
        let folder = tempfile::tempdir().unwrap();
        let url = Secret::new(format!("sqlite:{}", folder.path().join("x.db").display()));
        let storage = Storage::open(&Database { url, ..Database::default() }).unwrap();
        storage.migrate().unwrap();
        let write = |at: i64| {
            let record = Record::ok(Event::SignIn, at);
            let id = record.id.clone();
            storage.write_blocking(move |tx| audit::insert(tx, &record)).unwrap();
            id
        };
        let mut trail = Trail::new(storage.clone(), NOW - 1_000);
        let mut next = |now| trail.next(now).unwrap().into_iter().map(|entry| entry.id).collect::<Vec<_>>();
        write(NOW - 2_000);
        let mut old: Vec<_> = (0..1_200).map(|n| write(NOW - 900 + n / 2)).collect();
        old.sort();
        let pages: Vec<_> = std::iter::from_fn(|| Some(next(NOW)).filter(|page| !page.is_empty())).collect();
        assert_eq!(pages.concat(), old);
        let newest = write(NOW);
        assert_eq!(next(NOW), [newest]);
        let (late, later) = (write(NOW - 30), write(NOW + 1));
        assert_eq!(next(NOW), [later]);
        assert_eq!(next(NOW), [late]);
        assert!(next(NOW).is_empty() && next(NOW + 500).is_empty());
    }
}
