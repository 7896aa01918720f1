use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

/// `[server]`: where we listen and what we are called.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address and port. Plain http is allowed on loopback, or for the peers in `trusted_proxies`.
    pub listen: SocketAddr,
    /// The public URL, which is the `iss` of every token (RFC 8414 section 2). The Host header never matters.
    /// Default: the listener's own URL.
    pub issuer: Option<String>,
    /// PEM file with the certificate chain; re-read when it changes.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with the private key; re-read when it changes.
    pub tls_key: Option<PathBuf>,
    /// Networks of the reverse proxies in front of us. The client's address is the rightmost hop of X-Forwarded-For that is none of
    /// these, where the peer is one. With plain http off loopback, other peers get 400 except for the health checks.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            issuer: None,
            tls_certificate: None,
            tls_key: None,
            trusted_proxies: Vec::new(),
        }
    }
}

impl Server {
    /// The issuer identifier: as configured, else the listener's own URL.
    pub fn issuer(&self) -> String {
        let scheme = if self.tls_certificate.is_some() { "https" } else { "http" };
        self.issuer.clone().unwrap_or_else(|| format!("{scheme}://{}", self.listen))
    }
}
