//! The revocations as those outside follow them: pages from memory, or from the database for who comes from further back.

use tokio::sync::watch;

use super::App;
use crate::oauth2::OAuth2Error;
use crate::storage::feed;
use crate::tokens::feed_view::{Cursor, KINDS, PAGE, Page};

impl App {
    /// The revocations after `since` (without it all that still matter), at most a page. None: it is a cursor of another feed, or of a
    /// number that this one has not given.
    ///
    /// Errors: 503 if this node is cut off, or the database is down.
    pub async fn revoked_after(&self, since: Option<Cursor>) -> Result<Option<Page>, OAuth2Error> {
        self.rv()?;
        let now = self.clock.now();
        if let Some(page) = self.recent.after(since.as_ref(), now) {
            return Ok(Some(page));
        }
        let found = self.storage.read(move |c| {
            // The head first: what is committed in between is in the next page at worst.
            let (feed, head) = feed::identity(c)?;
            if since.as_ref().is_some_and(|cursor| cursor.feed != feed || cursor.n > head) {
                return Ok(None);
            }
            let n = since.map_or(0, |cursor| cursor.n);
            Ok(Some(Page::of(feed.into(), &feed::of_kinds_after(c, &KINDS, n, now, PAGE as i64 + 1)?, head)))
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
