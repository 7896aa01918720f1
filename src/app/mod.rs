//! The shared parts, wired once. Everything above `grants` reaches the rooms below through an [`App`]; [`start`] puts it together.

mod by_key;
mod follow;
pub mod guard;
pub mod recent;
pub mod seats;
mod start;

use std::sync::Arc;
use std::time::Duration;

pub use start::StartError;
pub use start::{declared_clients, destinations, load_kek, open_keys, refuse_taken, wire};

use tokio::sync::watch;

use self::seats::Seats;
use crate::clients::assertion::RemoteKeys;
use crate::clients::{self, Client, Credentials, Registry};
use crate::clock::Clock;
use crate::config::Config;
use crate::identity::checks::Checks;
use crate::identity::local::Hasher;
use crate::identity::{Shield, Sources};
use crate::limits::Throttle;
use crate::oauth2::OAuth2Error;
use crate::roles::Rules;
use crate::storage::refusals::Refusals;
use crate::storage::{Follower, Storage};
use crate::tokens::feed_view::Recent;
use crate::tokens::{Keys, Revocations};

/// Everything a request needs.
#[derive(Debug)]
pub struct App {
    pub config: Arc<Config>,
    pub clock: Clock,
    /// `iss` of every token.
    pub issuer: Arc<str>,
    pub storage: Storage,
    pub keys: Arc<Keys>,
    pub revocations: Arc<Revocations>,
    pub clients: Arc<Registry>,
    pub sources: Sources,
    /// When people were last looked at, for resource servers that bound that.
    pub checks: Checks,
    pub rules: Rules,
    pub hasher: Arc<Hasher>,
    pub throttles: Throttles,
    pub shield: Shield,
    pub refusals: Refusals,
    /// Who follows the revocations by a stream.
    pub seats: Seats,
    follower: Follower,
    client_keys: RemoteKeys,
    recent: Arc<Recent>,
    stopping: watch::Sender<bool>,
}

/// The throttles of `[limits]`.
#[derive(Debug)]
pub struct Throttles {
    pub logins: Throttle,
    /// By login and network, for networks that somebody signed in from with that login before: what others try there does not count.
    pub familiar_logins: Throttle,
    /// By the fingerprint of a request that was refused for a password known to be wrong.
    pub repeats: Throttle,
    pub addresses: Throttle,
    pub exchanges: Throttle,
    /// By refresh family: looks at the source.
    pub refreshes: Throttle,
    pub revocations: Throttle,
}

/// Longest wait for the feed before a request is answered 503.
const CATCH_UP: Duration = Duration::from_secs(2);

impl App {
    /// The number of the last revocation applied here.
    ///
    /// Errors: 503 if this node could not follow the feed for longer than `tokens.max_staleness`: it does not know who was revoked.
    pub fn rv(&self) -> Result<i64, OAuth2Error> {
        if self.follower.age() > self.config.tokens.max_staleness {
            return Err(OAuth2Error::unavailable("this node is cut off from the database"));
        }
        Ok(self.follower.applied())
    }

    /// Lets this node see everything that was committed before the call. Shared by all who wait.
    pub async fn catch_up(&self) -> Result<(), OAuth2Error> {
        self.follower.catch_up(CATCH_UP).await?;
        Ok(())
    }

    /// The client that the credentials prove. An unknown client or secret may be new: the node catches up once before it says no.
    ///
    /// Errors: `invalid_client`, 503. Assertions are for [`App::authenticate_by_key`], and prove nothing here.
    pub async fn authenticate(&self, presented: &Credentials) -> Result<Arc<Client>, OAuth2Error> {
        if let Some(client) = clients::authenticate(&self.clients, presented, self.clock.now()) {
            return Ok(client);
        }
        // Boxed, since this way is rare: it shall not make the future of every request larger.
        Box::pin(self.catch_up()).await?;
        clients::authenticate(&self.clients, presented, self.clock.now()).ok_or_else(OAuth2Error::invalid_client)
    }

    /// Looks for a key that a token names and this node does not know. Made-up ids share the looks, which are spaced.
    ///
    /// Errors: 503, never "no such key" while that is not known.
    pub async fn look_for_new_keys(&self) -> Result<(), OAuth2Error> {
        self.catch_up().await
    }

    /// Whether this node can answer: the database is reachable and the feed fresh.
    pub async fn ready(&self) -> Result<(), OAuth2Error> {
        self.rv()?;
        self.storage.ping().await?;
        Ok(())
    }

    /// How far this node has followed the feed, and how long ago it last looked, for the metrics.
    pub fn feed_position(&self) -> (i64, Duration) {
        (self.follower.applied(), self.follower.age())
    }
}
