//! When people were last looked at, as far as this node knows, and the looks that are under way: many who ask at once share one.
//!
//! What is known here is a copy of what the grants say in the database, bounded and forgotten at will: without it one row is read more.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{Authentication, Outage};
use crate::oauth2::{GrantId, SourceName};

/// How many grants are remembered at most, in two generations.
const GRANTS: usize = 40_000;
/// Looks at one source at a time, which leaves connections for sign-ins.
const LOOKS: usize = 4;
/// How long a look waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Looks ahead of time, which nobody waits for.
const AHEAD: usize = 4;

/// What the last look found, for one grant.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// When the source was asked, in seconds.
    pub at: i64,
    /// The roles that what was issued for the grant still may have.
    pub roles: Arc<[String]>,
    /// All groups of the person, as names; none for a client whose tokens tell no groups.
    pub groups: Arc<[String]>,
    pub username: Arc<str>,
}

/// What came of a look for a grant.
#[derive(Clone, Debug)]
pub enum Look {
    Checked(Checked),
    /// The grant is over, or its source cannot be asked in principle.
    Over,
    /// Nothing was decided; the reason is for the log.
    Unavailable(Arc<str>),
}

/// A source's answer about a person, and when it was asked for.
#[derive(Clone, Debug)]
pub struct Answered {
    pub at: i64,
    pub answer: Arc<Authentication>,
}

/// The memory and the flights of one node.
#[derive(Debug)]
pub struct Checks {
    known: Mutex<Generations>,
    grants: Flights<GrantId, Look>,
    people: Flights<(SourceName, String), Answered>,
    turns: HashMap<SourceName, Arc<Semaphore>>,
    ahead: Arc<Semaphore>,
}

/// When the young ones are as many as may be, the old ones are forgotten and the young ones grow old.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<GrantId, Checked>,
    old: HashMap<GrantId, Checked>,
}

impl Checks {
    pub fn new(sources: impl IntoIterator<Item = SourceName>) -> Checks {
        Checks {
            known: Mutex::default(),
            grants: Flights::default(),
            people: Flights::default(),
            turns: sources.into_iter().map(|name| (name, Arc::new(Semaphore::new(LOOKS)))).collect(),
            ahead: Arc::new(Semaphore::new(AHEAD)),
        }
    }

    /// What this node knows of a grant.
    pub fn known(&self, grant: &GrantId) -> Option<Checked> {
        let known = locked(&self.known);
        known.young.get(grant).or_else(|| known.old.get(grant)).cloned()
    }

    /// Takes in what a look or the database said. An older look never replaces a newer one.
    pub fn remember(&self, grant: &GrantId, checked: &Checked) {
        let mut known = locked(&self.known);
        let newer = |there: &Checked| there.at > checked.at;
        if known.young.get(grant).or_else(|| known.old.get(grant)).is_some_and(newer) {
            return;
        }
        if known.young.len() >= GRANTS / 2 && !known.young.contains_key(grant) {
            known.old = std::mem::take(&mut known.young);
        }
        known.young.insert(grant.clone(), checked.clone());
    }

    /// The grant is over.
    pub fn forget(&self, grant: &GrantId) {
        let mut known = locked(&self.known);
        known.young.remove(grant);
        known.old.remove(grant);
    }

    /// The look for a grant that is under way, else the one that `work` does. None if it came to nothing.
    pub async fn look<F>(&self, grant: &GrantId, work: impl FnOnce() -> F) -> Option<Look>
    where
        F: Future<Output = Look> + Send + 'static,
    {
        self.grants.share(grant.clone(), work).await
    }

    /// Has `work` look for a grant ahead of time, unless somebody does already or as many as may be are at it.
    pub fn look_ahead<F>(&self, grant: &GrantId, work: impl FnOnce() -> F)
    where
        F: Future<Output = Look> + Send + 'static,
    {
        let Ok(permit) = self.ahead.clone().try_acquire_owned() else { return };
        self.grants.begin(grant.clone(), || {
            let work = work();
            async move {
                let look = work.await;
                drop(permit);
                look
            }
        });
    }

    /// The question to a source about a person that is under way, else the one that `work` asks.
    pub async fn ask<F>(&self, source: &SourceName, subject: &str, work: impl FnOnce() -> F) -> Option<Answered>
    where
        F: Future<Output = Answered> + Send + 'static,
    {
        self.people.share((source.clone(), subject.to_owned()), work).await
    }

    /// A turn to ask a source. Errors: it is busy with as many looks as it shall have.
    pub async fn turn(&self, source: &SourceName) -> Result<Option<OwnedSemaphorePermit>, Outage> {
        let Some(turns) = self.turns.get(source) else { return Ok(None) };
        match tokio::time::timeout(PATIENCE, turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(Some(turn)),
            _ => Err(Outage::new(source, format!("{LOOKS} looks at once were under way for {}", humantime::format_duration(PATIENCE)))),
        }
    }
}

/// Work that is done once for all who want it at the same time. It goes on when nobody waits for it any more.
#[derive(Debug)]
struct Flights<K: Eq + Hash, T>(Arc<Mutex<HashMap<K, Receiver<T>>>>);

type Receiver<T> = watch::Receiver<Option<T>>;

impl<K: Eq + Hash, T> Default for Flights<K, T> {
    fn default() -> Self {
        Flights(Arc::default())
    }
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    async fn share<F>(&self, key: K, work: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut receiver = self.begin(key, work);
        receiver.wait_for(Option::is_some).await.ok()?.clone()
    }

    fn begin<F>(&self, key: K, work: impl FnOnce() -> F) -> Receiver<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut under_way = locked(&self.0);
        if let Some(receiver) = under_way.get(&key) {
            return receiver.clone();
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(key.clone(), receiver.clone());
        let (landing, work) = (Landing { flights: self.0.clone(), key }, work());
        tokio::spawn(async move {
            let value = work.await;
            drop(landing);
            sender.send_replace(Some(value));
        });
        receiver
    }
}

/// Takes a flight off the board, also when its work panicked.
struct Landing<K: Eq + Hash, T> {
    flights: Arc<Mutex<HashMap<K, Receiver<T>>>>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        locked(&self.flights).remove(&self.key);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    fn checked(at: i64) -> Checked {
        Checked { at, roles: Arc::from(["reader".to_owned()]), groups: Arc::default(), username: "ann".into() }
    }

    #[test]
    fn the_newest_look_is_remembered_and_the_memory_is_bounded() {
        let checks = Checks::new([]);
        let grant = GrantId::from("g");
        checks.remember(&grant, &checked(5));
        checks.remember(&grant, &checked(3));
        assert_eq!(checks.known(&grant), Some(checked(5)));
        for n in 0..GRANTS * 2 {
            checks.remember(&GrantId::from(n.to_string()), &checked(6));
        }
        assert_eq!(checks.known(&grant), None, "the oldest are forgotten");
        assert!(checks.known(&GrantId::from((GRANTS * 2 - 1).to_string())).is_some());
        let known = locked(&checks.known);
        assert!(known.young.len() + known.old.len() <= GRANTS);
    }

    #[tokio::test]
    async fn many_share_one_flight_and_the_next_is_a_new_one() {
        let flights: Arc<Flights<&str, usize>> = Arc::default();
        let (count, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let share = || {
            let (flights, count, go) = (flights.clone(), count.clone(), go.clone());
            tokio::spawn(async move {
                let work = || async move {
                    go.notified().await;
                    count.fetch_add(1, Ordering::SeqCst)
                };
                flights.share("alice", work).await
            })
        };
        let many: Vec<_> = (0..50).map(|_| share()).collect();
        // The one who began it goes away; the others still hear.
        tokio::task::yield_now().await;
        many[0].abort();
        go.notify_one();
        for (n, waiting) in many.into_iter().enumerate() {
            let answer = waiting.await;
            assert!(answer.is_err() && n == 0 || answer.is_ok_and(|value| value == Some(0)));
        }
        go.notify_one();
        assert_eq!(share().await.unwrap(), Some(1));
    }

    #[tokio::test]
    async fn work_that_panics_answers_nothing_and_blocks_nobody() {
        let flights: Flights<&str, usize> = Flights::default();
        let broken = || async { if locked(&Mutex::new(true)).to_owned() { panic!("broken on purpose") } else { 1 } };
        assert_eq!(flights.share("alice", broken).await, None);
        assert_eq!(flights.share("alice", || async { 2 }).await, Some(2));
    }
}
