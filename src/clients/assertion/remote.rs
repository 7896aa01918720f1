//! The keys of clients that publish them at a `jwks_uri`: fetched by the guarded client when an assertion needs them, kept, fetched
//! again when due or for a new kid. Requests that need the same fetch share it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::registration;
use crate::clock::Clock;
use crate::identity::oidc::keys::KeySet;
use crate::identity::oidc::schedule::{Failure, Next, Schedule};
use crate::oauth2::ClientId;
use crate::outbound::{Fetched, ForeignUrl, Guarded};

/// Clients whose keys are held. Past it all are forgotten and fetched anew, so that clients which come and go leave nothing.
const MOST_CLIENTS: usize = 10_000;

/// What is known of all clients' published keys.
#[derive(Debug)]
pub struct RemoteKeys {
    guarded: Guarded,
    held: Mutex<HashMap<ClientId, Arc<Remote>>>,
}

#[derive(Debug)]
struct Remote {
    uri: String,
    url: ForeignUrl,
    guarded: Guarded,
    started: Instant,
    schedule: Mutex<Schedule>,
    /// Held by the one fetch that runs.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

impl RemoteKeys {
    pub fn new(guarded: Guarded) -> RemoteKeys {
        RemoteKeys { guarded, held: Mutex::default() }
    }

    /// The keys of `client`, which are at `uri`, for an assertion with this `kid`; None if no key has it. The error says why the
    /// keys cannot be had.
    pub async fn keys(&self, client: &ClientId, uri: &str, kid: Option<&str>) -> Result<Option<Arc<KeySet>>, String> {
        let remote = self.remote(client, uri)?;
        let (next, ended) = {
            let schedule = remote.schedule();
            (schedule.next(kid, remote.now()), schedule.ended())
        };
        let next = match next {
            Next::Fetch => remote.fetch_once(kid, ended).await?,
            decided => decided,
        };
        match next {
            Next::Use(keys) => Ok(Some(keys)),
            Next::Unknown => Ok(None),
            Next::Unavailable(reason) => Err(reason),
            Next::Fetch => Err("the keys of the client could not be fetched".to_owned()),
        }
    }

    fn remote(&self, client: &ClientId, uri: &str) -> Result<Arc<Remote>, String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = held.get(client).filter(|remote| remote.uri == uri) {
            return Ok(same.clone());
        }
        let url = self.guarded.check(uri).map_err(|reason| format!("the jwks_uri of the client {reason}"))?;
        let (started, schedule, fetching) = (Clock::monotonic(), Mutex::default(), Arc::default());
        let remote = Arc::new(Remote { uri: uri.to_owned(), url, guarded: self.guarded.clone(), started, schedule, fetching });
        if held.len() >= MOST_CLIENTS {
            held.clear();
        }
        held.insert(client.clone(), remote.clone());
        Ok(remote)
    }
}

impl Remote {
    fn now(&self) -> Duration {
        Clock::since(self.started)
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the fetch that runs, if one does, and else makes one; `ended` is how many had ended when it was found due.
    async fn fetch_once(self: &Arc<Remote>, kid: Option<&str>, ended: u64) -> Result<Next, String> {
        let turn = self.fetching.clone().lock_owned().await;
        if self.schedule().ended() == ended {
            // A task of its own: it goes on for those who wait, even if this caller hangs up.
            let (remote, kid) = (self.clone(), kid.map(str::to_owned));
            let fetch = tokio::spawn(async move {
                let _turn = turn;
                remote.schedule().begin(remote.now());
                let outcome = remote.load().await;
                if let Err(failure) = &outcome {
                    tracing::warn!(reason = failure.reason, temporary = failure.temporary, "cannot fetch a client's keys");
                }
                remote.schedule().end(outcome, kid.as_deref(), remote.now());
            });
            fetch.await.map_err(|_| "fetching the keys of the client failed".to_owned())?;
        }
        Ok(self.schedule().settle(kid, self.now()))
    }

    async fn load(&self) -> Result<(KeySet, Option<Duration>), Failure> {
        match self.guarded.get(&self.url).await {
            Ok(Fetched { status: 200, body, max_age, .. }) => match registration::parse(&body) {
                Ok(keys) => Ok((keys, max_age)),
                Err(reason) => Err(Failure { reason: format!("GET {}: {reason}", self.url), temporary: false, retry_after: None }),
            },
            Ok(Fetched { status, retry_after, .. }) => {
                let temporary = status == 429 || status >= 500;
                Err(Failure { reason: format!("GET {}: status {status}", self.url), temporary, retry_after })
            }
            Err(error) => Err(Failure { reason: error.to_string(), temporary: true, retry_after: None }),
        }
    }
}
