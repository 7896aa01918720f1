//! New connections: our own sockets, in the order of the URLs, with TLS before anything is sent. Servers that are known to be down
//! are passed over (see [`super::breaker`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use lber::parse::parse_tag;
use ldap3::{LdapConnAsync, LdapConnSettings, StdStream};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use url::Url;

use super::breaker::{Attempt, Breaker, Fault};
use super::connection::{BindAnswer, Connection, Failure, isolated};
use super::gate;
use super::tls::Tls;
use crate::clock::Clock;
use crate::config::LdapSource;
use crate::metrics;
use crate::oauth2::{Secret, SourceName};

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

/// Opens connections. Clones share what is known about the servers.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// For the metrics.
    source: SourceName,
    servers: Arc<[Server]>,
    /// The place of the server that was used last.
    in_use: Arc<AtomicUsize>,
    /// None where every endpoint is plain text.
    tls: Option<Arc<Tls>>,
    /// The edition of its files for which the breakers hold.
    edition: Arc<AtomicU64>,
    /// For name, socket and TLS together.
    connect_timeout: Duration,
    operation_timeout: Duration,
}

#[derive(Debug)]
struct Server {
    endpoint: Endpoint,
    breaker: Arc<Breaker>,
}

impl Dialer {
    pub fn new(source: &SourceName, endpoints: Vec<Endpoint>, tls: Option<Arc<Tls>>, config: &LdapSource) -> Dialer {
        let server = |endpoint: Endpoint| {
            let name = format!("{}:{}", endpoint.host, endpoint.port);
            Server { breaker: Arc::new(Breaker::new(source.clone(), name, config.breaker_open)), endpoint }
        };
        Dialer {
            source: source.clone(),
            servers: endpoints.into_iter().map(server).collect(),
            in_use: Arc::default(),
            tls,
            edition: Arc::default(),
            connect_timeout: config.connect_timeout,
            operation_timeout: config.operation_timeout,
        }
    }

    /// A connection to the first server that can be reached, anonymous yet. No credential has been sent when the next is tried.
    /// Where all are known to be down the answer comes at once.
    pub async fn dial(&self) -> Result<Connection, Failure> {
        let (tls, edition) = self.tls();
        let mut reasons = Vec::new();
        for desperate in [false, true] {
            for (place, server) in self.servers.iter().enumerate() {
                let Some(attempt) = server.breaker.admit(desperate) else { continue };
                match self.connect(server, attempt, tls.clone()).await {
                    Ok((line, attempt)) => {
                        self.note(place, server);
                        let origin = Origin { place, edition };
                        return Ok(Connection::new(line, origin, attempt, self.operation_timeout, self.source.clone()));
                    }
                    Err(failure) => reasons.push(format!("{}: {}", server.endpoint.url, failure.reason)),
                }
            }
            if !reasons.is_empty() {
                return Err(Failure::down(format!("cannot connect to {}", reasons.join("; "))));
            }
        }
        let known = |server: &Server| Some(format!("{}: {}", server.endpoint.url, server.breaker.why_open()?));
        let known = self.servers.iter().filter_map(known).collect::<Vec<_>>().join("; ");
        Err(Failure::down(format!("every server is known to be down and not asked at the moment: {known}")))
    }

    /// Tries a password on a connection of its own. Only a server that says itself that it decided nothing, busy or unavailable, is
    /// followed by the next one. After a refusal, and after silence, which may hide one, nobody else is asked: a second bind could
    /// count twice towards the person's lockout.
    pub async fn bind(&self, name: &str, password: &Secret) -> Result<(Connection, BindAnswer), Failure> {
        let mut answered = self.dial().await?.bind(name, password).await?;
        for _ in 1..self.servers.len() {
            if !answered.1.is_undecided() {
                break;
            }
            let Ok(next) = self.dial().await else { break };
            answered = next.bind(name, password).await?;
        }
        Ok(answered)
    }

    async fn connect(&self, server: &Server, mut attempt: Attempt, tls: Option<Arc<ClientConfig>>) -> Result<(Line, Attempt), Failure> {
        let (began, endpoint) = (Clock::monotonic(), server.endpoint.clone());
        attempt.wait(self.connect_timeout);
        let opened = isolated(self.connect_timeout, open(endpoint, tls, self.connect_timeout)).await;
        metrics::ldap_operation(self.source.as_str(), "connect", Clock::since(began));
        match opened.and_then(|opened| opened) {
            Ok(line) => {
                attempt.connected();
                Ok((line, attempt))
            }
            Err(failure) => {
                attempt.failed(Fault::Down, &failure.reason);
                Err(failure)
            }
        }
    }

    /// The settings as the files say them now. Whatever was held against the servers under others is forgotten.
    fn tls(&self) -> (Option<Arc<ClientConfig>>, u64) {
        let Some(tls) = &self.tls else { return (None, 0) };
        let (config, edition) = tls.current();
        if self.edition.swap(edition, Ordering::Relaxed) != edition {
            self.servers.iter().for_each(|server| server.breaker.forgive());
        }
        (Some(config), edition)
    }

    fn note(&self, place: usize, server: &Server) {
        server.breaker.report();
        let before = self.in_use.swap(place, Ordering::Relaxed);
        if before != place {
            tracing::info!(source = %self.source, server = %server.endpoint.url, "LDAP connections go to another server now");
        }
        if place > before {
            metrics::ldap_failover(self.source.as_str());
        }
    }

    /// The servers, in order: for `doctor`.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.servers.iter().map(|server| &server.endpoint)
    }

    /// How many servers there are.
    pub fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Whether every server is known to be down.
    pub fn is_cut_off(&self) -> bool {
        self.servers.iter().all(|server| server.breaker.is_open())
    }

    /// Whether one of the servers is known to be down.
    pub fn is_any_down(&self) -> bool {
        self.servers.iter().any(|server| server.breaker.is_open())
    }

    /// Whether the server at this place is known to be down.
    pub fn is_down(&self, place: usize) -> bool {
        self.servers.get(place).is_none_or(|server| server.breaker.is_open())
    }

    /// Whether a connection is as a new one would be: no server that is preferred to its own is up, and the files are the same.
    pub fn is_kept(&self, connection: &Connection) -> bool {
        let origin = connection.origin();
        self.servers.iter().take(origin.place).all(|server| server.breaker.is_open()) && self.tls().1 == origin.edition
    }

    /// Whether a preferred server was spared for long enough, so that a new connection should try it.
    pub fn is_trial_due(&self, place: usize) -> bool {
        self.servers.iter().take(place).any(|server| server.breaker.is_due())
    }
}

/// How a connection came to be.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The place of its server among the source's.
    pub place: usize,
    /// The edition of the certificate files.
    pub edition: u64,
}

/// What carries a connection: the library's two ends, and the task between it and the server.
pub struct Line {
    pub driver: LdapConnAsync,
    pub handle: ldap3::Ldap,
    pub relay: AbortHandle,
}

async fn open(endpoint: Endpoint, tls: Option<Arc<ClientConfig>>, connect_timeout: Duration) -> Result<Line, Failure> {
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
    Ok(Line { driver, handle, relay: relay.abort_handle() })
}

/// Asks for TLS. Nothing is read past the answer, so what somebody slips in before the handshake breaks it.
pub(super) async fn start_tls(stream: &mut TcpStream) -> Result<(), Failure> {
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
