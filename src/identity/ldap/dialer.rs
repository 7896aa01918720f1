//! New connections: our own sockets, in the order of the URLs, with TLS before anything is sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ldap3::{LdapConnAsync, LdapConnSettings, StdStream};
use rustls::ClientConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use url::Url;

use super::connection::{Connection, Failure, isolated};

/// How often a silent connection is probed, so that a firewall does not forget it unnoticed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// One server.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where to connect, and what messages name.
    pub url: Url,
    pub host: String,
    pub port: u16,
    /// The URL that the library sees: its host is the name that the certificate must have.
    pub verified_as: Url,
    pub starttls: bool,
}

/// Opens connections.
#[derive(Clone, Debug)]
pub struct Dialer {
    pub endpoints: Vec<Endpoint>,
    /// None where every endpoint is plain text.
    pub tls: Option<Arc<ClientConfig>>,
    /// For name, socket and TLS together.
    pub connect_timeout: Duration,
    pub operation_timeout: Duration,
}

impl Dialer {
    /// A connection to the first server that can be reached, anonymous yet. No credential has been sent when the next is tried.
    pub async fn dial(&self) -> Result<Connection, Failure> {
        let mut reasons = Vec::new();
        for endpoint in &self.endpoints {
            let work = connect(endpoint.clone(), self.tls.clone(), self.connect_timeout, self.operation_timeout);
            match isolated(self.connect_timeout, work).await.and_then(|connected| connected) {
                Ok(connection) => return Ok(connection),
                Err(failure) => reasons.push(format!("{}: {}", endpoint.url, failure.reason)),
            }
        }
        Err(Failure::new(format!("cannot connect to {}", reasons.join("; "))))
    }
}

async fn connect(
    endpoint: Endpoint,
    tls: Option<Arc<ClientConfig>>,
    connect_timeout: Duration,
    operation_timeout: Duration,
) -> Result<Connection, Failure> {
    let stream = open_socket(&endpoint, connect_timeout).await?;
    let mut settings = LdapConnSettings::new().set_std_stream(StdStream::Tcp(stream)).set_starttls(endpoint.starttls);
    if let Some(tls) = tls {
        settings = settings.set_config(tls);
    }
    let connected = LdapConnAsync::from_url_with_settings(settings, &endpoint.verified_as).await;
    let (driver, handle) = connected.map_err(|e| Failure::new(format!("no secure connection: {e}")))?;
    Ok(Connection::new(driver, handle, endpoint.url.as_str(), operation_timeout))
}

/// Every address of the host gets its share of the time.
async fn open_socket(endpoint: &Endpoint, limit: Duration) -> Result<std::net::TcpStream, Failure> {
    let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|e| Failure::new(format!("the name cannot be resolved: {e}")))?.collect();
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut reason = "the name has no address".to_owned();
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return prepare(stream).map_err(|e| Failure::new(e.to_string())),
            Ok(Err(e)) => reason = e.to_string(),
            Err(_) => reason = format!("{address} does not answer"),
        }
    }
    Err(Failure::new(reason))
}

/// Without nodelay TLS and bind take 45 ms instead of 2.5.
fn prepare(stream: TcpStream) -> std::io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    stream.into_std()
}
