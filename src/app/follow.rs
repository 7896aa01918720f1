//! The revocations as those outside follow them: pages from memory, or from the database for who comes from further back.

use tokio::sync::watch;

use super::App;
use crate::oauth2::OAuth2Error;
use crate::storage::feed;
use crate::tokens::feed_view::{KINDS, PAGE, Page};

impl App {
    /// The name of the feed. Another one after a restored backup (`keys recover`), so that nobody continues with numbers that were
    /// given twice.
    pub fn feed_id(&self) -> &str {
        &self.feed_id
    }

    /// The revocations after number `n` (0: all that still matter), at most a page. None: there is no such number yet, so that it is
    /// not from this feed as it is now.
    ///
    /// Errors: 503 if this node is cut off, or the database is down.
    pub async fn revoked_after(&self, n: i64) -> Result<Option<Page>, OAuth2Error> {
        self.rv()?;
        let now = self.clock.now();
        if let Some(page) = self.recent.after(n, now) {
            return Ok(Some(page));
        }
        let (entries, head) = self
            .storage
            .read(move |c| {
                // The head first: what is committed in between is in the next page at worst.
                let head = feed::head(c)?;
                Ok((feed::of_kinds_after(c, &KINDS, n, now, PAGE as i64 + 1)?, head))
            })
            .await?;
        Ok((n <= head).then(|| Page::of(&entries, n, head)))
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
