//! The keys of one provider: found by discovery, kept, fetched again when due. Requests that need the same fetch share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::json;
use super::keys::KeySet;
use super::schedule::{Failure, Next, Schedule};
use crate::clock::Clock;
use crate::oauth2::Secret;
use crate::outbound::{Address, Client, Fetched};

/// How long the metadata document is reused: it names the place of the keys, which does not move.
const METADATA_LIFETIME: Duration = Duration::from_secs(24 * 3_600);

#[derive(Clone, Debug)]
pub struct Provider(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    issuer: String,
    discovery: Address,
    client: Client,
    started: Instant,
    schedule: Mutex<Schedule>,
    /// What the metadata said last about the userinfo endpoint: none, where it is, or what is wrong with it.
    userinfo: Mutex<Option<Result<Address, String>>>,
    /// Held by the one fetch that runs, which alone touches what is within.
    fetching: Arc<tokio::sync::Mutex<Option<Metadata>>>,
}

#[derive(Debug)]
struct Metadata {
    jwks: Address,
    read_at: Duration,
}

impl Provider {
    pub fn new(issuer: String, discovery: Address, client: Client) -> Provider {
        let (started, schedule, userinfo, fetching) = (Clock::monotonic(), Mutex::default(), Mutex::default(), Arc::default());
        Provider(Arc::new(Inner { issuer, discovery, client, started, schedule, userinfo, fetching }))
    }

    /// Asks the userinfo endpoint, once. None if the metadata names none; the metadata are known once keys were fetched.
    pub async fn userinfo(&self, access_token: &Secret) -> Result<Option<Fetched>, String> {
        let known = self.0.userinfo.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(address) = known.transpose()? else { return Ok(None) };
        let authorization = Secret::new(format!("Bearer {}", access_token.expose()));
        self.0.client.get_as(&address, &authorization).await.map(Some).map_err(|error| error.to_string())
    }

    /// The keys for a token with this `kid`; None if no key has it. The error says why the keys cannot be had.
    pub async fn keys(&self, kid: Option<&str>) -> Result<Option<Arc<KeySet>>, String> {
        let (next, ended) = {
            let schedule = self.0.schedule();
            (schedule.next(kid, self.0.now()), schedule.ended())
        };
        let next = match next {
            Next::Fetch => self.fetch_once(kid, ended).await?,
            decided => decided,
        };
        match next {
            Next::Use(keys) => Ok(Some(keys)),
            Next::Unknown => Ok(None),
            Next::Unavailable(reason) => Err(reason),
            Next::Fetch => Err("the keys of the provider could not be fetched".to_owned()),
        }
    }

    /// Waits for the fetch that runs, if one does, and else makes one; `ended` is how many had ended when it was found due.
    async fn fetch_once(&self, kid: Option<&str>, ended: u64) -> Result<Next, String> {
        let turn = self.0.fetching.clone().lock_owned().await;
        if self.0.schedule().ended() == ended {
            // A task of its own: it goes on for those who wait, even if this caller hangs up.
            let (inner, kid) = (self.0.clone(), kid.map(str::to_owned));
            let fetch = tokio::spawn(async move {
                let mut metadata = turn;
                inner.fetch(&mut metadata, kid.as_deref()).await;
            });
            fetch.await.map_err(|_| "fetching the keys of the provider failed".to_owned())?;
        }
        Ok(self.0.schedule().settle(kid, self.0.now()))
    }
}

impl Inner {
    fn now(&self) -> Duration {
        Clock::since(self.started)
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, metadata: &mut Option<Metadata>, kid: Option<&str>) {
        self.schedule().begin(self.now());
        let outcome = self.load(metadata).await;
        if let Err(failure) = &outcome {
            // The keys may have moved.
            *metadata = None;
            tracing::warn!(
                issuer = self.issuer,
                reason = failure.reason,
                temporary = failure.temporary,
                "cannot fetch the provider's keys"
            );
        }
        self.schedule().end(outcome, kid, self.now());
    }

    async fn load(&self, metadata: &mut Option<Metadata>) -> Result<(KeySet, Option<Duration>), Failure> {
        let known = metadata.take().filter(|known| self.now() < known.read_at + METADATA_LIFETIME);
        let known = metadata.insert(match known {
            Some(known) => known,
            None => Metadata { jwks: self.discover().await?, read_at: self.now() },
        });
        let fetched = self.get(&known.jwks).await?;
        let keys = KeySet::parse(&fetched.body).map_err(|reason| definite(&known.jwks, &reason))?;
        Ok((keys, fetched.max_age))
    }

    /// OpenID Connect Discovery 1.0 section 4.3: the document's issuer must be exactly the one that was asked for.
    async fn discover(&self) -> Result<Address, Failure> {
        let fetched = self.get(&self.discovery).await?;
        let document = json::object(&fetched.body).ok_or_else(|| definite(&self.discovery, "the answer is not a JSON object"))?;
        let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("issuer") != self.issuer {
            let reason = format!("it calls itself {:?}, and the source has issuer = {:?}; they must be equal", text("issuer"), self.issuer);
            return Err(definite(&self.discovery, &reason));
        }
        let address = |name: &str| match Address::parse(text(name)) {
            Ok(address) if self.discovery.is_https() && !address.is_https() => Err(format!("its {name} is not https")),
            Ok(address) => Ok(address),
            Err(reason) => Err(format!("its {name} {reason}")),
        };
        // A mistake there must not cost the keys.
        let userinfo = document.contains_key("userinfo_endpoint").then(|| address("userinfo_endpoint"));
        *self.userinfo.lock().unwrap_or_else(PoisonError::into_inner) = userinfo;
        address("jwks_uri").map_err(|reason| definite(&self.discovery, &reason))
    }

    async fn get(&self, address: &Address) -> Result<Fetched, Failure> {
        match self.client.get(address).await {
            Ok(fetched) if fetched.status == 200 => Ok(fetched),
            Ok(Fetched { status, retry_after, .. }) => {
                let temporary = status == 429 || status >= 500;
                Err(Failure { reason: format!("GET {address}: status {status}"), temporary, retry_after })
            }
            Err(error) => Err(Failure { reason: error.to_string(), temporary: true, retry_after: None }),
        }
    }
}

fn definite(address: &Address, reason: &str) -> Failure {
    Failure { reason: format!("GET {address}: {reason}"), temporary: false, retry_after: None }
}
