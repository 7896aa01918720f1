//! Follows the feed on a thread of its own.
//!
//! SQLite tells of other connections' commits by `PRAGMA data_version` (9 µs a look); PostgreSQL by NOTIFY. Neither is trusted
//! alone: a query reads the head at least once a second (twice on PostgreSQL), since a silent partition looks like silence.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{QueryableByName, RunQueryDsl};
use tokio::sync::watch;

use crate::clock::Clock;

use super::connection::Connector;
use super::feed::{self, FeedEntry};
use super::{Connection, StorageError};

/// How often the thread asks whether something happened.
const TICK: Duration = Duration::from_millis(20);
/// How often it reads the head even if nothing seems to have happened.
const FULL_LOOK: Duration = Duration::from_millis(500);
/// The least time between the beginnings of looks that somebody asked for: a flood of wrong credentials asks for one each.
const SPACING: Duration = Duration::from_millis(5);
/// The wait after a failure.
const RETRY: Duration = Duration::from_millis(250);
const BATCH: i64 = 1000;

/// What hears the entries, or with an empty batch that some were purged before they could be read. An error is retried with the
/// same entries.
pub(super) type Handler = Box<dyn FnMut(&[FeedEntry]) -> Result<(), String> + Send>;

/// The other end of the thread that follows the feed; the thread stops when this is dropped.
pub struct Follower {
    shared: Arc<Shared>,
    looks: watch::Receiver<Look>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Follower(applied {})", self.applied())
    }
}

/// What the last successful look achieved.
#[derive(Clone, Copy)]
struct Look {
    applied: i64,
    at: Instant,
    /// Every call of `catch_up` up to this one has been served.
    served: u64,
}

#[derive(Default)]
struct Shared {
    wishes: Mutex<Wishes>,
    wake: Condvar,
}

#[derive(Default)]
struct Wishes {
    /// Calls of `catch_up` so far.
    asked: u64,
    stop: bool,
    /// Why the last look failed.
    failure: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    pub(super) fn start(connector: Arc<Connector>, handler: Handler, start_after: i64) -> Follower {
        let shared = Arc::new(Shared::default());
        let (publish, looks) = watch::channel(Look { applied: start_after, at: Clock::monotonic(), served: 0 });
        let thread = Thread { connector, handler, shared: shared.clone(), publish, applied: start_after, feed_id: None };
        // Without the thread the age grows, and everything that depends on the feed answers that it is stale.
        if let Err(error) = std::thread::Builder::new().name("storage-follower".to_owned()).spawn(move || thread.run()) {
            tracing::error!(%error, "cannot start the thread that follows the feed");
        }
        Follower { shared, looks }
    }

    /// The number up to which the handler has taken everything.
    pub fn applied(&self) -> i64 {
        self.looks.borrow().applied
    }

    /// How long ago the head was last read and everything up to it applied.
    pub fn age(&self) -> Duration {
        Clock::since(self.looks.borrow().at)
    }

    /// Waits until a look that began after this call has ended well, and answers what is applied then. Callers share looks,
    /// which begin at least 5 ms apart.
    /// [`StorageError::Unavailable`] after `deadline`.
    pub async fn catch_up(&self, deadline: Duration) -> Result<i64, StorageError> {
        let ticket = {
            let mut wishes = self.shared.lock();
            wishes.asked += 1;
            wishes.asked
        };
        self.shared.wake.notify_one();
        let mut looks = self.looks.clone();
        match tokio::time::timeout(deadline, looks.wait_for(|look| look.served >= ticket)).await {
            Ok(Ok(look)) => Ok(look.applied),
            _ => {
                let reason = self.shared.lock().failure.clone().unwrap_or_else(|| "no answer yet".to_owned());
                Err(StorageError::Unavailable(format!(
                    "the feed of revocations could not be read within {}: {reason}",
                    humantime::format_duration(deadline)
                )))
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
    }
}

struct Thread {
    connector: Arc<Connector>,
    handler: Handler,
    shared: Arc<Shared>,
    publish: watch::Sender<Look>,
    applied: i64,
    /// The name of the feed at the first look.
    feed_id: Option<String>,
}

impl Thread {
    fn run(mut self) {
        loop {
            let ended = self.follow();
            let mut wishes = self.shared.lock();
            if wishes.stop {
                return;
            }
            if let Err(error) = ended {
                let reason = error.to_string();
                if wishes.failure.as_ref() != Some(&reason) {
                    tracing::warn!(reason, "cannot follow the feed; trying again");
                }
                wishes.failure = Some(reason);
            }
            // Not for those who ask meanwhile: a flood of questions must not become a flood of connections.
            drop(self.shared.wake.wait_timeout_while(wishes, RETRY, |wishes| !wishes.stop));
        }
    }

    /// Follows on one connection until it fails or the thread is to stop.
    fn follow(&mut self) -> Result<(), StorageError> {
        let mut connection = self.connector.reader()?;
        if let Connection::Postgres(c) = &mut connection {
            c.batch_execute(&format!("LISTEN {}", feed::CHANNEL))?;
        }
        let mut version = None;
        let mut looked: Option<Instant> = None;
        loop {
            let (stop, mut asked) = self.wishes();
            if stop {
                return Ok(());
            }
            let demanded = asked > self.publish.borrow().served;
            if let Some(at) = looked.filter(|_| demanded) {
                std::thread::sleep(SPACING.saturating_sub(Clock::since(at)));
                // Whoever asked meanwhile shares the look.
                asked = self.wishes().1;
            }
            let due = demanded || looked.is_none_or(|at| Clock::since(at) >= FULL_LOOK);
            if news(&mut connection, &mut version)? || due {
                let began = Clock::monotonic();
                self.look(&mut connection)?;
                looked = Some(began);
                // As old as the moment it began, when the head was read.
                self.publish.send_replace(Look { applied: self.applied, at: began, served: asked });
                self.shared.lock().failure = None;
            }
            let wishes = self.shared.lock();
            if wishes.asked == asked && !wishes.stop {
                drop(self.shared.wake.wait_timeout(wishes, TICK));
            }
        }
    }

    /// Whether to stop, and how many calls of `catch_up` there were.
    fn wishes(&self) -> (bool, u64) {
        let wishes = self.shared.lock();
        (wishes.stop, wishes.asked)
    }

    /// Reads the head and hands on everything up to it.
    fn look(&mut self, connection: &mut Connection) -> Result<(), StorageError> {
        let (id, head) = feed::identity(connection)?;
        if *self.feed_id.get_or_insert_with(|| id.clone()) != id {
            // After `keys recover`. What was heard of the old feed stays, which can only end too much of what is dead anyway; the new
            // one is heard from its beginning.
            self.applied = 0;
            self.hand_on(&[])?;
            self.feed_id = Some(id);
            tracing::warn!("the database was recovered from a backup: this node has taken over its new keys and its new feed");
        } else if head < self.applied {
            return Err(StorageError::Invalid(
                "the feed is behind this node: the database is a restored backup; run countersign keys recover".to_owned(),
            ));
        }
        while self.applied < head {
            let entries = feed::after(connection, self.applied, BATCH)?;
            // With none left, whatever was there has expired and been purged; the handler hears of that too.
            let last = entries.last().map_or(head, |entry| entry.n);
            self.hand_on(&entries)?;
            self.applied = last;
        }
        Ok(())
    }

    fn hand_on(&mut self, entries: &[FeedEntry]) -> Result<(), StorageError> {
        let heard = catch_unwind(AssertUnwindSafe(|| (self.handler)(entries))).unwrap_or_else(|_| Err("it panicked".to_owned()));
        heard.map_err(|reason| StorageError::Unavailable(format!("the feed could not be applied: {reason}")))
    }
}

/// Whether the database says that something was committed since the last call. It may miss what a full look finds.
fn news(connection: &mut Connection, version: &mut Option<i64>) -> Result<bool, StorageError> {
    match connection {
        Connection::Sqlite(c) => {
            let now = diesel::sql_query("PRAGMA data_version").get_result::<DataVersion>(c)?.data_version;
            Ok(version.replace(now) != Some(now))
        }
        Connection::Postgres(c) => {
            let mut any = false;
            for notification in c.notifications_iter() {
                notification?;
                any = true;
            }
            Ok(any)
        }
    }
}

#[derive(QueryableByName)]
struct DataVersion {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    data_version: i64,
}
