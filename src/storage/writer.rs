//! The one thread that writes to SQLite.
//!
//! SQLite takes one writer at a time, and a durable commit costs an fsync. So whatever waits is written together: BEGIN IMMEDIATE,
//! each piece of work in a savepoint of its own, one COMMIT, and only then the answers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::clock::Clock;

use super::connection::Connector;
use super::target::Target;
use super::transaction::{self, Nested, Purpose};
use super::{Connection, StorageError};

/// Work that may wait; the next is refused.
const QUEUE: usize = 4096;
/// Most pieces of work in one commit.
const GROUP: usize = 128;
/// The longest that a group collects before it commits.
const PATIENCE: Duration = Duration::from_millis(20);

/// The way to the thread. The thread ends when this is dropped and the queue is empty.
pub(super) struct Writer {
    queue: SyncSender<Box<dyn Job>>,
}

impl Writer {
    /// Starts the thread with `connection`; `connector` makes another should this one break.
    pub fn start(connector: Arc<Connector>, connection: Connection) -> Result<Writer, StorageError> {
        let (queue, jobs) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("storage-writer".to_owned())
            .spawn(move || run(&connector, connection, &jobs))
            .map_err(|e| StorageError::Unavailable(format!("cannot start the writer's thread: {e}")))?;
        Ok(Writer { queue })
    }

    /// Puts `work` into the queue; `answer` is called once, after the commit.
    pub fn submit<T, F, A>(&self, work: F, answer: A) -> Result<(), StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StorageError> + Send + 'static,
        A: FnOnce(Result<T, StorageError>) + Send + 'static,
    {
        let job = Pending { work: Some(work), result: None, answer };
        self.queue.try_send(Box::new(job)).map_err(|error| match error {
            TrySendError::Full(_) => StorageError::Unavailable(format!("{QUEUE} writes are waiting already")),
            TrySendError::Disconnected(_) => StorageError::Unavailable("the writer has stopped".to_owned()),
        })
    }
}

/// A piece of work whose type the queue need not know.
trait Job: Send {
    /// Runs it in a savepoint. An error here means that the transaction around it is lost.
    fn run(&mut self, connection: &mut Connection) -> Result<(), StorageError>;
    /// Hands over the answer, now that the commit has or has not happened.
    fn answer(self: Box<Self>, committed: Result<(), StorageError>);
}

struct Pending<T, F, A> {
    work: Option<F>,
    result: Option<Result<T, StorageError>>,
    answer: A,
}

impl<T, F, A> Job for Pending<T, F, A>
where
    T: Send,
    F: FnOnce(&mut Connection) -> Result<T, StorageError> + Send,
    A: FnOnce(Result<T, StorageError>) + Send,
{
    fn run(&mut self, connection: &mut Connection) -> Result<(), StorageError> {
        let Some(work) = self.work.take() else { return Ok(()) };
        match transaction::nested(connection, work) {
            Nested::Settled(result) => {
                self.result = Some(result);
                Ok(())
            }
            Nested::Lost(error) => Err(error),
        }
    }

    fn answer(self: Box<Self>, committed: Result<(), StorageError>) {
        (self.answer)(match (committed, self.result) {
            (_, Some(Err(own))) => Err(own),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(StorageError::Query("the write did not run".to_owned())),
        });
    }
}

fn run(connector: &Connector, connection: Connection, jobs: &Receiver<Box<dyn Job>>) {
    let mut connection = Some(connection);
    while let Ok(first) = jobs.recv() {
        let mut group = vec![first];
        let committed = match connection.take().map_or_else(|| reopen(connector), Ok) {
            Ok(mut open) => {
                let committed = write(&mut open, &mut group, jobs);
                // After a failure nothing is known about the state of the connection.
                connection = committed.is_ok().then_some(open);
                committed
            }
            Err(error) => Err(error),
        };
        let refusal = committed.err().map(|error| match error {
            StorageError::Unavailable(reason) => reason,
            other => other.to_string(),
        });
        if let Some(reason) = &refusal {
            tracing::error!(writes = group.len(), reason, "a commit failed");
        }
        for job in group {
            job.answer(refusal.clone().map_or(Ok(()), |reason| Err(StorageError::Unavailable(reason))));
        }
    }
}

fn reopen(connector: &Connector) -> Result<Connection, StorageError> {
    match &*connector.target {
        Target::Sqlite(path) => connector.sqlite_writer(path),
        Target::Postgres { .. } => connector.reader(),
    }
}

/// One commit: the first of `group`, and whatever else waits.
fn write(connection: &mut Connection, group: &mut Vec<Box<dyn Job>>, jobs: &Receiver<Box<dyn Job>>) -> Result<(), StorageError> {
    transaction::begin(connection, Purpose::Write)?;
    let began = Clock::monotonic();
    let mut next = group.pop();
    while let Some(mut job) = next {
        let alive = job.run(connection);
        group.push(job);
        if let Err(error) = alive {
            transaction::abandon(connection);
            return Err(error);
        }
        next = if group.len() < GROUP && Clock::since(began) < PATIENCE { jobs.try_recv().ok() } else { None };
    }
    let committed = transaction::commit(connection).map_err(StorageError::from);
    if committed.is_err() {
        transaction::abandon(connection);
    }
    committed
}
