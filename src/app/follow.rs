//! The revocations as those outside follow them: pages from memory, or from the database for who comes from further back.

use std::time::Duration;

use tokio::sync::watch;

use super::App;
use crate::oauth2::OAuth2Error;
use crate::storage::feed;
use crate::tokens::feed_view::{Cursor, EVENT_PAGE, KINDS, PAGE, Page};

/// How long a stream waits for its turn at the database.
const PATIENCE: Duration = Duration::from_secs(2);

impl App {
    /// The revocations after `since` (without it all that still matter), at most a page. None: it is a cursor of another feed, or of a
    /// number that this one has not given.
    pub async fn revoked_after(&self, since: Option<Cursor>) -> Result<Option<Page>, OAuth2Error> {
        self.rv()?;
        match self.recent.after(since.as_ref(), self.clock.now(), PAGE) {
            Some(page) => Ok(Some(page)),
            None => self.revoked_in_database(since, PAGE).await,
        }
    }

    /// The same for a stream, in shorter pages, of which few at a time are read from the database.
    pub async fn streamed_after(&self, since: Option<Cursor>) -> Result<Option<Page>, OAuth2Error> {
        self.rv()?;
        if let Some(page) = self.recent.after(since.as_ref(), self.clock.now(), EVENT_PAGE) {
            return Ok(Some(page));
        }
        let busy = || OAuth2Error::unavailable("too many read the revocations from their beginning");
        let permit = tokio::time::timeout(PATIENCE, self.seats.page()).await.map_err(|_| busy())?;
        let page = self.revoked_in_database(since, EVENT_PAGE).await;
        drop(permit);
        page
    }

    async fn revoked_in_database(&self, since: Option<Cursor>, most: usize) -> Result<Option<Page>, OAuth2Error> {
        let now = self.clock.now();
        let found = self.storage.read(move |c| {
            // The head first: what is committed in between is in the next page at worst.
            let (feed, head) = feed::identity(c)?;
            if since.as_ref().is_some_and(|cursor| cursor.feed != feed || cursor.n > head) {
                return Ok(None);
            }
            let n = since.map_or(0, |cursor| cursor.n);
            Ok(Some(Page::of(feed.into(), &feed::of_kinds_after(c, &KINDS, n, now, most as i64 + 1)?, head, most)))
        });
        Ok(found.await?)
    }

    /// Changes whenever there may be something new for those who follow the revocations.
    pub fn feed_news(&self) -> watch::Receiver<i64> {
        self.recent.news()
    }

    /// Ends what would otherwise go on for ever: the streams of those who follow. Called when the process was told to stop.
    pub fn begin_stop(&self) {
        self.stopping.send_replace(true);
    }

    /// True once the process was told to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }
}
