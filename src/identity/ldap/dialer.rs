//! New connections: our own sockets, in the order of the URLs, with TLS before anything is sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lber::parse::parse_tag;
use ldap3::{LdapConnAsync, LdapConnSettings, StdStream};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use url::Url;

use super::connection::{Connection, Failure, isolated};
use super::gate;
use crate::clock::Clock;
use crate::oauth2::SourceName;

/// How often a silent connection is probed, so that a firewall does not forget it unnoticed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// One server.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where to connect, and what messages name.
    pub url: Url,
    pub host: String,
    pub port: u16,
    pub security: Security,
}

/// How a connection is protected.
#[derive(Clone, Debug)]
pub enum Security {
    /// TLS from the first byte; the certificate must have this name.
    Tls(ServerName<'static>),
    /// TLS after the extended operation of RFC 4511 section 4.14.
    StartTls(ServerName<'static>),
    Plain,
}

/// ExtendedRequest 1.3.6.1.4.1.1466.20037, message 1.
const STARTTLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// Opens connections.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// For the metrics.
    pub source: SourceName,
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
            let began = Clock::monotonic();
            let work = connect(self.source.clone(), endpoint.clone(), self.tls.clone(), self.connect_timeout, self.operation_timeout);
            let connected = isolated(self.connect_timeout, work).await.and_then(|connected| connected);
            crate::metrics::ldap_operation(self.source.as_str(), "connect", Clock::since(began));
            match connected {
                Ok(connection) => return Ok(connection),
                Err(failure) => reasons.push(format!("{}: {}", endpoint.url, failure.reason)),
            }
        }
        Err(Failure::new(format!("cannot connect to {}", reasons.join("; "))))
    }
}

async fn connect(
    source: SourceName,
    endpoint: Endpoint,
    tls: Option<Arc<ClientConfig>>,
    connect_timeout: Duration,
    operation_timeout: Duration,
) -> Result<Connection, Failure> {
    let mut stream = open_socket(&endpoint, connect_timeout).await?;
    let name = match endpoint.security {
        Security::Plain => None,
        Security::Tls(name) => Some(name),
        Security::StartTls(name) => {
            start_tls(&mut stream).await?;
            Some(name)
        }
    };
    // The library sees one end of a pair of sockets, and at the other end the gate lets in what it can read safely.
    let (library, relay) = std::os::unix::net::UnixStream::pair().map_err(io_failure)?;
    relay.set_nonblocking(true).map_err(io_failure)?;
    let relay = UnixStream::from_std(relay).map_err(io_failure)?;
    let relay = match name {
        None => tokio::spawn(gate::relay(stream, relay)),
        Some(name) => {
            let tls = tls.ok_or_else(|| Failure::new("TLS is not configured"))?;
            let stream = TlsConnector::from(tls).connect(name, stream).await;
            tokio::spawn(gate::relay(stream.map_err(|e| Failure::new(format!("no secure connection: {e}")))?, relay))
        }
    };
    let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(library));
    let (driver, handle) = LdapConnAsync::with_settings(settings, "ldapi://gate").await?;
    Ok(Connection::new(driver, handle, relay.abort_handle(), operation_timeout, source))
}

/// Asks for TLS. Nothing is read past the answer, so what somebody slips in before the handshake breaks it.
async fn start_tls(stream: &mut TcpStream) -> Result<(), Failure> {
    stream.write_all(STARTTLS).await.map_err(io_failure)?;
    let answer = gate::read_message(stream).await.map_err(io_failure)?;
    let parts = parse_tag(&answer).ok().and_then(|(_, message)| message.expect_constructed()).unwrap_or_default();
    // ExtendedResponse is [APPLICATION 24], and its first part the result code.
    let response = parts.into_iter().find(|part| part.id == 24).and_then(|part| part.expect_constructed());
    match response.and_then(|parts| parts.into_iter().next()).and_then(|code| code.expect_primitive()).as_deref() {
        Some([0]) => Ok(()),
        _ => Err(Failure::new("the server refuses StartTLS; give it a certificate, or use ldaps://")),
    }
}

fn io_failure(error: std::io::Error) -> Failure {
    Failure::new(error.to_string())
}

/// Every address of the host gets its share of the time.
async fn open_socket(endpoint: &Endpoint, limit: Duration) -> Result<TcpStream, Failure> {
    let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|e| Failure::new(format!("the name cannot be resolved: {e}")))?.collect();
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut reason = "the name has no address".to_owned();
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return prepare(stream).map_err(io_failure),
            Ok(Err(e)) => reason = e.to_string(),
            Err(_) => reason = format!("{address} does not answer"),
        }
    }
    Err(Failure::new(reason))
}

/// Without nodelay TLS and bind take 45 ms instead of 2.5.
fn prepare(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    Ok(stream)
}
