//! Connections of the service account, for searches only: a person's bind never happens on one of them.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::account::ServiceAccount;
use super::connection::{Connection, Failure, FailureKind, Found, Search};
use super::dialer::Dialer;
use super::stamp::Stamp;
use crate::clock::Clock;
use crate::config::LdapPool;

/// A bounded number of connections, each used by one search at a time.
#[derive(Debug)]
pub struct Pool {
    dialer: Dialer,
    account: ServiceAccount,
    limits: LdapPool,
    slots: Semaphore,
    shelf: Arc<Mutex<Shelf>>,
}

/// The connections that nobody uses at the moment.
#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<Idle>,
    /// Whether [`close_when_idle`] looks after them.
    watched: bool,
}

#[derive(Debug)]
struct Idle {
    service: Service,
    since: Instant,
}

/// A connection that speaks as the service account.
#[derive(Debug)]
struct Service {
    connection: Connection,
    /// The file that its password came from.
    stamp: Stamp,
    born: Instant,
}

impl Pool {
    pub fn new(dialer: Dialer, account: ServiceAccount, limits: LdapPool) -> Pool {
        Pool { dialer, account, slots: Semaphore::new(limits.size), limits, shelf: Arc::default() }
    }

    /// Searches on a connection that nobody else uses meanwhile.
    pub async fn search(&self, search: &Search) -> Result<Found, Failure> {
        let slot = tokio::time::timeout(self.limits.acquire_timeout, self.slots.acquire()).await;
        let Ok(Ok(_slot)) = slot else {
            let waited = humantime::format_duration(self.limits.acquire_timeout);
            return Err(Failure::new(format!("all {} service connections were busy for {waited} (pool.size)", self.limits.size)));
        };
        if let Some(Service { connection, stamp, born }) = self.take_idle() {
            let place = connection.origin().place;
            match connection.search(search).await {
                Err(failure) if failure.kind == FailureKind::Lost => {
                    tracing::debug!(reason = failure.reason, "an idle LDAP connection was dead")
                }
                Err(failure) if !self.may_go_on(place, &failure) => return Err(failure),
                Err(failure) => return self.search_anew(search, Some(failure)).await,
                Ok((connection, found)) => return Ok(self.give_back(Service { connection, stamp, born }, found)),
            }
        }
        self.search_anew(search, None).await
    }

    /// A part of what a search would find, on a connection that is not kept: for `doctor`.
    pub async fn sample(&self, search: &Search) -> Result<Found, Failure> {
        let (connection, _) = self.account.connect(&self.dialer).await?;
        connection.sample(search).await
    }

    /// Searches on new connections, at one server after the other: reading twice harms nobody. `before` is why that is needed.
    async fn search_anew(&self, search: &Search, before: Option<Failure>) -> Result<Found, Failure> {
        let mut last = before;
        for _ in 0..=self.dialer.servers() {
            let born = Clock::monotonic();
            let (connection, stamp) = match self.account.connect(&self.dialer).await {
                Err(failure) if self.may_bind_on(&failure) => {
                    last.get_or_insert(failure);
                    continue;
                }
                // What ended the search says more than that nobody is left to ask.
                Err(failure) => return Err(last.unwrap_or(failure)),
                Ok(connected) => connected,
            };
            let place = connection.origin().place;
            match connection.search(search).await {
                Ok((connection, found)) => return Ok(self.give_back(Service { connection, stamp, born }, found)),
                Err(failure) if self.may_go_on(place, &failure) => last = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::down("no server answers")))
    }

    /// Whether the service account may bind at the next server, or once more where only the connection was lost.
    fn may_bind_on(&self, failure: &Failure) -> bool {
        match failure.kind {
            FailureKind::Lost => true,
            FailureKind::Silent | FailureKind::Down => self.dialer.is_any_down() && !self.dialer.is_cut_off(),
            FailureKind::TooMany | FailureKind::Other => false,
        }
    }

    /// Whether a search that failed at this place may be tried anew: the connection alone was lost, or the server is passed over now.
    fn may_go_on(&self, place: usize, failure: &Failure) -> bool {
        match failure.kind {
            FailureKind::Lost => true,
            FailureKind::Silent | FailureKind::Down => self.dialer.is_down(place) && !self.dialer.is_cut_off(),
            FailureKind::TooMany | FailureKind::Other => false,
        }
    }

    /// The most recently used one, so that the others may grow old.
    fn take_idle(&self) -> Option<Service> {
        let stamp = self.account.stamp();
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.drop_stale(&self.limits, &self.dialer);
        shelf.idle.retain(|idle| idle.service.stamp == stamp);
        let best = shelf.idle.last().map(|idle| idle.service.connection.origin().place)?;
        if self.dialer.is_trial_due(best) {
            return None;
        }
        shelf.idle.pop().map(|idle| idle.service)
    }

    fn give_back(&self, mut service: Service, found: Found) -> Found {
        service.connection.rest();
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.idle.len() >= self.limits.size {
            // A new one was opened to try a server that had been down.
            shelf.idle.remove(0);
        }
        shelf.idle.push(Idle { service, since: Clock::monotonic() });
        if !std::mem::replace(&mut shelf.watched, true) {
            tokio::spawn(close_when_idle(Arc::downgrade(&self.shelf), self.limits.clone(), self.dialer.clone()));
        }
        found
    }
}

impl Shelf {
    /// Too old, closed, made with other files, to a server that was down since, or to one that stood in for another that is back.
    fn drop_stale(&mut self, limits: &LdapPool, dialer: &Dialer) {
        self.idle.retain_mut(|one| {
            let Service { connection, born, .. } = &mut one.service;
            let young = Clock::since(one.since) < limits.idle && Clock::since(*born) < limits.lifetime;
            young && connection.is_sound() && dialer.is_kept(connection)
        });
    }
}

/// Looks after the idle connections until there are none.
async fn close_when_idle(shelf: Weak<Mutex<Shelf>>, limits: LdapPool, dialer: Dialer) {
    loop {
        tokio::time::sleep(limits.idle.max(Duration::from_secs(1))).await;
        let Some(shelf) = shelf.upgrade() else { return };
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.drop_stale(&limits, &dialer);
        if shelf.idle.is_empty() {
            shelf.watched = false;
            return;
        }
    }
}
