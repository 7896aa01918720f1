//! What HTTP is to every room that speaks it: who sent a request ([`peer`]), its body under limits ([`body`]), what it
//! wants to have ([`accept`]), the request as
//! handlers see it ([`request`]), and the way from values and errors to answers ([`reply`]).

pub mod accept;
pub mod body;
pub mod peer;
pub mod reply;
pub mod request;

pub use peer::Peer;
pub use reply::Answer;
pub use request::{Request, request};

use warp::Filter;
use warp::filters::BoxedFilter;

/// Matches path `segments`, one after the other.
pub fn under(segments: &[String]) -> BoxedFilter<()> {
    segments.iter().fold(warp::any().boxed(), |so_far, segment| so_far.and(warp::path::path(segment.clone())).boxed())
}
