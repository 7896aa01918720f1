//! Listeners: TLS, limits on connections, who the client is, graceful stop.
//!
//! A [`Listener`] is bound first, so that a taken port or a broken certificate stops the start before anything else happens, and
//! then serves one boxed warp filter until it is told to stop. Each connection has its own task (`connection.rs`); requests carry
//! a [`Peer`](crate::web::peer::Peer) in their extensions.

mod connection;
mod forwarded;
mod pace;
mod scrape;
mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::config::{self, Problem};
use connection::Shared;
use forwarded::Proxies;
use tls::Tls;

pub use scrape::serve_metrics;

/// Every route of a listener, with its rejections already turned into answers.
pub type Routes = BoxedFilter<(Response,)>;

/// How long requests under way may take to end after a stop.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Why a listener did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A mistake in `[server]`, by the path of its key.
    #[error("{}: {}", .0.path, .0.reason)]
    Config(Problem),
    /// The address is taken, is not ours, or needs privileges.
    #[error("cannot listen on {address}: {cause}; end what listens there, or choose another address in {key}")]
    Bind { key: &'static str, address: SocketAddr, cause: io::Error },
}

/// Descriptors beyond those of connections: the database, directories, files.
const OTHER_DESCRIPTORS: u64 = 512;

/// A process may open few files at first (1,024 on most systems), and as many as the hard limit says for the asking.
fn allow_descriptors(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let have = if raised.is_ok() { limit.maximum } else { limit.current };
    let wanted = connections as u64 + OTHER_DESCRIPTORS;
    if let Some(have) = have.filter(|have| *have < wanted) {
        tracing::warn!(
            "limits.connections = {connections} needs {wanted} open files, and the system allows {have}: raise its limit (LimitNOFILE)"
        );
    }
}

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    proxies: Proxies,
    connections: usize,
    patience: Duration,
    /// Whether connections and requests appear in the metrics.
    counted: bool,
}

impl Listener {
    /// Binds `[server] listen` and reads the certificate, if one is named. Errors: see [`ServeError`]; plain http off loopback
    /// without `trusted_proxies` is refused here.
    pub async fn bind(server: &config::Server, limits: &config::Limits) -> Result<Listener, ServeError> {
        let tls = read_tls(server).map_err(ServeError::Config)?;
        allow_descriptors(limits.connections);
        let tcp = bind_tcp("server.listen", server.listen).await?;
        Listener::new(tcp, "server.listen", server.listen, tls, Proxies::new(server), limits.connections, limits.request_timeout)
    }

    fn new(
        tcp: TcpListener,
        key: &'static str,
        asked: SocketAddr,
        tls: Option<Tls>,
        proxies: Proxies,
        connections: usize,
        patience: Duration,
    ) -> Result<Listener, ServeError> {
        let address = tcp.local_addr().map_err(|cause| ServeError::Bind { key, address: asked, cause })?;
        Ok(Listener { tcp, address, tls, proxies, connections, patience, counted: true })
    }

    /// Where it listens; with port 0 configured, the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `routes` until `stop` resolves. Then accepts nothing more, lets requests under way end for up to ten seconds, and
    /// returns how many connections had to be cut.
    pub async fn serve(self, routes: Routes, stop: impl Future<Output = ()>) -> usize {
        let Listener { tcp, tls, proxies, connections, patience, counted, .. } = self;
        let shared = Arc::new(Shared::new(routes, tls.as_ref().map(Tls::acceptor), proxies, patience, counted));
        let seats = Arc::new(Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS)));
        let graceful = GracefulShutdown::new();
        let mut tasks = JoinSet::new();
        {
            let mut stop = std::pin::pin!(stop);
            let mut renewal = std::pin::pin!(async {
                match &tls {
                    Some(tls) => tls.keep_current().await,
                    None => std::future::pending().await,
                }
            });
            loop {
                let accepted = async {
                    let seat = seats.clone().acquire_owned().await.ok();
                    (accept(&tcp).await, seat)
                };
                let ((stream, remote), seat) = tokio::select! {
                    accepted = accepted => accepted,
                    () = &mut renewal => continue,
                    () = &mut stop => break,
                };
                while tasks.try_join_next().is_some() {}
                // The watcher is taken here and not in the task: a stop must also wait for a task that has not run yet.
                let (shared, watcher) = (shared.clone(), graceful.watcher());
                tasks.spawn(async move {
                    connection::serve(stream, remote, shared, watcher).await;
                    drop(seat);
                });
            }
        }
        drop(tcp);
        if tokio::time::timeout(LAST_WORDS, graceful.shutdown()).await.is_ok() {
            return 0;
        }
        while tasks.try_join_next().is_some() {}
        let cut = tasks.len();
        tasks.shutdown().await;
        cut
    }
}

/// What [`Listener::bind`] would refuse in `[server]` before it binds: for `check`.
pub fn check(server: &config::Server) -> Result<(), Problem> {
    read_tls(server).map(|_| ())
}

fn read_tls(server: &config::Server) -> Result<Option<Tls>, Problem> {
    match (&server.tls_certificate, &server.tls_key) {
        (Some(certificate), Some(key)) => Tls::new(certificate, key).map(Some),
        (Some(_), None) => Err(Problem::new("server.tls_certificate", "needs server.tls_key beside it")),
        (None, Some(_)) => Err(Problem::new("server.tls_key", "needs server.tls_certificate beside it")),
        (None, None) if !server.listen.ip().is_loopback() && server.trusted_proxies.is_empty() => Err(Problem::new(
            "server.listen",
            "plain http off loopback would show passwords and tokens to the network: set server.tls_certificate and server.tls_key, \
             or name the reverse proxies in server.trusted_proxies, or listen on 127.0.0.1",
        )),
        (None, None) => Ok(None),
    }
}

async fn bind_tcp(key: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|cause| ServeError::Bind { key, address, cause })
}

/// The next connection. Without file descriptors left an accept fails at once and again: wait until connections have ended.
async fn accept(tcp: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = Duration::from_millis(10);
    loop {
        match tcp.accept().await {
            Ok(accepted) => return accepted,
            // The client was gone before its turn came.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections, trying again in {pause:?}; is the limit of open files too low?");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

/// Resolves when the process is asked to stop: SIGTERM or SIGINT. Errors: the handlers cannot be installed.
pub fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests;
