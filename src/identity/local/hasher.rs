//! Password hashing on threads of its own, behind a bounded queue.
//!
//! A password hash is 16 ms of CPU and 19 MiB of memory by design. On the threads that answer requests, a storm of sign-ins
//! would stop everything else; here it meets a full queue, and whoever is turned away hears 503 with Retry-After.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use tokio::sync::oneshot;

use super::argon::{self, HashError, Memory};
use crate::config::Accounts;
use crate::oauth2::Secret;

/// Why a password was not verified. Nothing was decided about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HasherError {
    /// `accounts.password_queue` sign-ins wait already: 503 with Retry-After.
    #[error("the sign-in queue is full; accounts.password_queue and accounts.password_threads set its size")]
    Busy,
    /// The threads are gone, which only happens while the server stops.
    #[error("the password threads have stopped")]
    Stopped,
    /// The stored hash cannot be used.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// The threads and their queue. They end when the hasher is dropped.
#[derive(Debug)]
pub struct Hasher {
    queue: SyncSender<Job>,
    waiting: Arc<AtomicUsize>,
}

enum Job {
    Verify { password: Secret, stored: String, answer: oneshot::Sender<Result<bool, HashError>> },
    VerifyNobody { password: Secret, answer: oneshot::Sender<Result<(), HashError>> },
}

impl Hasher {
    /// Starts `password_threads` threads, at least one, with room for `password_queue` waiting jobs. Their memory is allocated with
    /// their first job, so a server that nobody signs in to with a password stays small.
    ///
    /// Errors: the operating system gives no thread.
    pub fn new(config: &Accounts) -> io::Result<Hasher> {
        let (queue, jobs) = sync_channel(config.password_queue);
        let (jobs, waiting) = (Arc::new(Mutex::new(jobs)), Arc::new(AtomicUsize::new(0)));
        for n in 0..config.password_threads.max(1) {
            let (jobs, waiting) = (jobs.clone(), waiting.clone());
            thread::Builder::new().name(format!("password-{n}")).spawn(move || work(&jobs, &waiting))?;
        }
        Ok(Hasher { queue, waiting })
    }

    /// How many jobs wait for a thread now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether `password` is the one behind `stored`, a PHC string.
    pub async fn verify(&self, password: &Secret, stored: &str) -> Result<bool, HasherError> {
        self.ask(|answer| Job::Verify { password: password.clone(), stored: stored.to_owned(), answer }).await
    }

    /// Costs the same as [`Hasher::verify`]: for users who do not exist, so that the time of an answer does not tell.
    pub async fn verify_nobody(&self, password: &Secret) -> Result<(), HasherError> {
        self.ask(|answer| Job::VerifyNobody { password: password.clone(), answer }).await
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, HashError>>) -> Job) -> Result<T, HasherError> {
        let (sender, answer) = oneshot::channel();
        // Counted before it is sent, since a thread may take it at once.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if let Err(refused) = self.queue.try_send(job(sender)) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(match refused {
                TrySendError::Full(_) => HasherError::Busy,
                TrySendError::Disconnected(_) => HasherError::Stopped,
            });
        }
        Ok(answer.await.map_err(|_| HasherError::Stopped)??)
    }
}

/// `password` under a fresh salt, as a PHC string. Hashes on the calling thread: for the command line and the first start, where nothing else waits.
pub fn hash_now(password: &Secret) -> Result<String, HashError> {
    argon::hash(password, &mut Memory::default())
}

fn work(jobs: &Mutex<Receiver<Job>>, waiting: &AtomicUsize) {
    let mut memory = Memory::default();
    loop {
        // The lock is held while waiting for a job, never while working on one.
        let Ok(Ok(job)) = jobs.lock().map(|jobs| jobs.recv()) else { return };
        waiting.fetch_sub(1, Ordering::Relaxed);
        job.run(&mut memory);
    }
}

impl Job {
    /// A job whose asker has gone away (a closed connection, a deadline) is skipped: nobody would hear its answer. A failed send
    /// means the same a moment later.
    fn run(self, memory: &mut Memory) {
        match self {
            Job::Verify { answer, .. } if answer.is_closed() => {}
            Job::VerifyNobody { answer, .. } if answer.is_closed() => {}
            Job::Verify { password, stored, answer } => drop(answer.send(argon::verify(&password, &stored, memory))),
            Job::VerifyNobody { password, answer } => drop(answer.send(argon::verify_nobody(&password, memory))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::task::Poll;

    use super::*;

    fn hasher(threads: usize, queue: usize) -> Hasher {
        Hasher::new(&Accounts { password_threads: threads, password_queue: queue, ..Accounts::default() }).unwrap()
    }

    #[tokio::test]
    async fn verifies() {
        let hasher = hasher(2, 8);
        let password = Secret::new("pass");
        let stored = hash_now(&password).unwrap();
        assert!(hasher.verify(&password, &stored).await.unwrap());
        assert!(!hasher.verify(&Secret::new("other"), &stored).await.unwrap());
        hasher.verify_nobody(&password).await.unwrap();
        assert!(matches!(hasher.verify(&password, "broken").await, Err(HasherError::Hash(_))));
    }

    #[tokio::test]
    async fn a_full_queue_answers_busy_at_once_and_the_running_jobs_finish() {
        let hasher = hasher(1, 2);
        let password = Secret::new("pass");
        let mut waiting = Vec::new();
        let refusal = loop {
            let mut job = Box::pin(hasher.verify_nobody(&password));
            // One poll: an answer that had to wait for anything is not ready.
            match poll_fn(|cx| Poll::Ready(job.as_mut().poll(cx))).await {
                Poll::Ready(answer) => break answer,
                Poll::Pending => waiting.push(job),
            }
            assert!(waiting.len() < 1_000, "the queue has no bound");
        };
        assert_eq!(refusal, Err(HasherError::Busy));
        assert!(waiting.len() >= 2);
        for job in waiting {
            job.await.unwrap();
        }
        assert_eq!(hasher.waiting(), 0);
        assert!(hasher.verify_nobody(&password).await.is_ok(), "room again");
    }

    #[test]
    fn a_job_whose_asker_left_costs_nothing() {
        let mut memory = Memory::default();
        let (answer, asker) = oneshot::channel();
        drop(asker);
        Job::VerifyNobody { password: Secret::new("x"), answer }.run(&mut memory);
        assert!(memory.0.is_empty(), "nothing was computed");
    }
}
