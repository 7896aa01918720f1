//! Who sent a request, as the listener found out.

use std::net::IpAddr;

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

/// The [`Peer`] of a request, for the endpoints.
pub fn peer() -> impl Filter<Extract = (Peer,), Error = Rejection> + Copy {
    warp::ext::get::<Peer>()
}
