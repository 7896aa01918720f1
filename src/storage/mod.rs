//! The database: SQLite for one node, PostgreSQL for many. The only room that names diesel.
//!
//! [`Storage::read`] and [`Storage::write`] take one closure and make it one transaction; the functions of the table groups are
//! what closures call. Never wait for anything but the database inside one. A write is durable before it is answered; an `Err`
//! rolls it back, so a refusal that must be remembered is an `Ok`.
//!
//! Times are seconds since the epoch. Ids begin with the time wherever we choose them (inserts are several times as fast).

pub mod accounts;
mod answer;
pub mod audit;
mod backup;
pub mod causes;
pub mod clients;
pub mod condition;
mod connection;
mod either;
mod error;
pub mod feed;
mod follower;
pub mod grants;
pub mod keys;
mod migrations;
pub mod purge;
pub mod refusals;
#[rustfmt::skip]
mod schema;
pub mod settings;
pub mod shield;
mod target;
pub mod trail;
mod transaction;
pub mod used;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use either::EitherConnection as Connection;
pub use error::StorageError;
pub use follower::Follower;
pub use transaction::in_turn;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config;
use connection::{Connector, PoolMaker};
use target::Target;
use transaction::Purpose;
use writer::Writer;

/// How long a request waits for one transaction: longer than the 5 s that the database gives a statement. Whether a write that
/// was given up took effect is unknown, as with any lost answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a look at the database's health may take.
const PING_LIMIT: Duration = Duration::from_secs(2);

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Storage(Arc<Inner>);

struct Inner {
    connector: Arc<Connector>,
    pool: r2d2::Pool<PoolMaker>,
    /// SQLite only: everything that writes goes through here.
    writer: Option<Writer>,
    /// As many permits as connections, so that requests wait here and not on threads of the blocking pool.
    permits: Arc<tokio::sync::Semaphore>,
    acquire_timeout: Duration,
    pool_size: u32,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({})", self.describe())
    }
}

impl Storage {
    /// Opens the database; makes the folder (0700) and the file (0600) of a SQLite database that is not there. Does not migrate,
    /// and does not ask PostgreSQL for anything yet: an unreachable server shows at the first use.
    pub fn open(config: &config::Database) -> Result<Storage, StorageError> {
        let acquire_timeout = config.acquire_timeout.max(Duration::from_millis(1));
        let pool_size = config.pool_size.max(1);
        let connector = Arc::new(Connector::new(Arc::new(Target::parse(&config.url, acquire_timeout)?)));
        let writer = match &*connector.target {
            Target::Sqlite(path) => Some(Writer::start(connector.clone(), connector.sqlite_writer(path)?)?),
            Target::Postgres { .. } => None,
        };
        let pool = r2d2::Pool::builder()
            .max_size(pool_size)
            .min_idle(Some(1))
            .connection_timeout(acquire_timeout)
            // BEGIN is the test: see `transact`.
            .test_on_check_out(false)
            // The reason reaches whoever asked for the connection.
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build_unchecked(PoolMaker(connector.clone()));
        let permits = Arc::new(tokio::sync::Semaphore::new(pool_size as usize));
        Ok(Storage(Arc::new(Inner { connector, pool, writer, permits, acquire_timeout, pool_size })))
    }

    /// Whether the database is a SQLite file that is not there yet.
    pub fn is_yet_to_be_made(config: &config::Database) -> Result<bool, StorageError> {
        match Target::parse(&config.url, config.acquire_timeout)? {
            Target::Sqlite(path) => Ok(!path.exists()),
            Target::Postgres { .. } => Ok(false),
        }
    }

    /// Runs the migrations that are missing and answers their names. Safe to call on several nodes at once. A database with
    /// migrations that this program does not know is [`StorageError::Invalid`].
    pub fn migrate(&self) -> Result<Vec<String>, StorageError> {
        migrations::run(&mut self.own_writer()?)
    }

    /// The names of the migrations that [`Storage::migrate`] would run; changes nothing.
    pub fn pending_migrations(&self) -> Result<Vec<String>, StorageError> {
        migrations::pending(&mut self.own_writer()?)
    }

    /// Migrations that a newer program has applied and this one does not know, but can work with; changes nothing.
    pub fn unknown_migrations(&self) -> Result<Vec<String>, StorageError> {
        migrations::unknown(&mut self.own_writer()?)
    }

    /// Runs `work` in one snapshot of the database.
    pub async fn read<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StorageError> + Send + 'static,
    {
        self.on_blocking_pool(Purpose::Read, work).await
    }

    /// Runs `work` in one transaction, durable before this answers. An `Err` or a panic rolls it back.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StorageError> + Send + 'static,
    {
        let Some(writer) = &self.0.writer else { return self.on_blocking_pool(Purpose::Write, work).await };
        let (answer, answered) = tokio::sync::oneshot::channel();
        // A caller that no longer waits is not a failure: the write has happened all the same.
        writer.submit(work, move |result| drop(answer.send(result)))?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// [`Storage::read`] for threads outside of the runtime: start-up and the command line.
    pub fn read_blocking<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        F: FnOnce(&mut Connection) -> Result<T, StorageError>,
    {
        self.transact(Purpose::Read, work, self.0.acquire_timeout)
    }

    /// [`Storage::write`] for threads outside of the runtime: start-up and the command line.
    pub fn write_blocking<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StorageError> + Send + 'static,
    {
        let Some(writer) = &self.0.writer else { return self.transact(Purpose::Write, work, self.0.acquire_timeout) };
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        writer.submit(work, move |result| drop(answer.send(result)))?;
        answered.recv().unwrap_or_else(|_| Err(stopped()))
    }

    /// `sqlite:data/countersign.db` or `postgres://host/name`, never with a password.
    pub fn describe(&self) -> String {
        self.0.connector.target.describe()
    }

    /// Whether other nodes may use the database too: PostgreSQL.
    pub fn is_shared(&self) -> bool {
        matches!(&*self.0.connector.target, Target::Postgres { .. })
    }

    /// Whether the database answers within a moment, by a real query.
    pub async fn ping(&self) -> Result<(), StorageError> {
        let head = self.read(|c| feed::head(c).map(|_| ()));
        tokio::time::timeout(PING_LIMIT, head).await.unwrap_or_else(|_| Err(no_answer(PING_LIMIT)))
    }

    /// Follows the feed on a thread of its own: `handler` hears every entry after `start_after`, in order and in batches
    /// (an empty one where entries were purged before they could be read). See
    /// [`Follower`].
    pub fn follow(&self, handler: impl FnMut(&[feed::FeedEntry]) -> Result<(), String> + Send + 'static, start_after: i64) -> Follower {
        Follower::start(self.0.connector.clone(), Box::new(handler), start_after)
    }

    async fn on_blocking_pool<T, F>(&self, purpose: Purpose, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StorageError> + Send + 'static,
    {
        let began = Clock::monotonic();
        let permit = tokio::time::timeout(self.0.acquire_timeout, self.0.permits.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(self.0.connector.exhausted(self.0.acquire_timeout)) };
        let left = self.0.acquire_timeout.saturating_sub(Clock::since(began)).max(Duration::from_millis(1));
        let storage = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let result = storage.transact(purpose, work, left);
            drop(permit);
            result
        });
        // The database bounds each statement, but its answer may never arrive: a partition is silent.
        match tokio::time::timeout(ANSWER_LIMIT, task).await {
            Ok(done) => done.unwrap_or_else(|_| Err(stopped())),
            Err(_) => Err(no_answer(ANSWER_LIMIT)),
        }
    }

    /// One transaction on a connection of the pool. A server that was restarted leaves dead connections behind: they show at BEGIN,
    /// when nothing has happened yet, and the next one is taken.
    fn transact<T, F>(&self, purpose: Purpose, work: F, patience: Duration) -> Result<T, StorageError>
    where
        F: FnOnce(&mut Connection) -> Result<T, StorageError>,
    {
        let began = Clock::monotonic();
        let mut dead = 0;
        loop {
            let left = patience.saturating_sub(Clock::since(began)).max(Duration::from_millis(1));
            let mut connection = self.0.pool.get_timeout(left).map_err(|_| self.0.connector.exhausted(self.0.acquire_timeout))?;
            match transaction::begin(&mut connection, purpose) {
                Ok(()) => return transaction::finish(&mut connection, work),
                Err(_) if dead < self.0.pool_size => dead += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A connection outside of the pool that may write.
    fn own_writer(&self) -> Result<Connection, StorageError> {
        match &*self.0.connector.target {
            Target::Sqlite(path) => self.0.connector.sqlite_writer(path),
            Target::Postgres { .. } => self.0.connector.reader(),
        }
    }
}

fn no_answer(limit: Duration) -> StorageError {
    StorageError::Unavailable(format!("the database did not answer within {}", humantime::format_duration(limit)))
}

fn stopped() -> StorageError {
    StorageError::Unavailable("the program is stopping".to_owned())
}
