//! Who sent a request, as the listener found out.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Notify;
use warp::Filter;
use warp::reject::Rejection;

use crate::audit::RequestId;

/// The sender of a request. The listener puts one into the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address: the socket's, or what trusted proxies wrote into X-Forwarded-For. IPv4-mapped IPv6 addresses are
    /// folded to IPv4, so that one client is one key of a throttle.
    pub address: IpAddr,
    /// Names this request in logs and in the audit trail.
    pub request_id: RequestId,
}

/// The connection of a request whose answer may go on for long; the listener puts one into the extensions of such requests. While it
/// is held, the connection does not count as idle.
#[derive(Clone, Debug)]
pub struct HangUp {
    ask: Arc<Notify>,
    _under_way: Arc<dyn std::fmt::Debug + Send + Sync>,
}

impl HangUp {
    /// `ask` closes the connection, `under_way` keeps it from being idle.
    pub fn new(ask: Arc<Notify>, under_way: impl std::fmt::Debug + Send + Sync + 'static) -> HangUp {
        HangUp { ask, _under_way: Arc::new(under_way) }
    }

    /// Closes the connection: the only way to be rid of a reader that takes nothing.
    pub fn now(&self) {
        self.ask.notify_one();
    }
}

/// The [`Peer`] of a request, for the endpoints.
pub fn peer() -> impl Filter<Extract = (Peer,), Error = Rejection> + Copy {
    warp::ext::get::<Peer>()
}
