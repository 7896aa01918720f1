use std::net::SocketAddr;

use serde::Deserialize;

/// `[metrics]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// The address of the Prometheus listener. Off unless set.
    pub listen: Option<SocketAddr>,
}
