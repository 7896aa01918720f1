//! One connection: handshake, protocol, and what is added to each request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;
use warp::Reply;
use warp::reply::Response;

use super::Routes;
use super::forwarded::Proxies;
use super::pace::{Pace, Paced, Protocol};
use crate::audit::RequestId;
use crate::metrics::{self, Route};
use crate::web::peer::{HangUp, Peer};

/// Request line and headers together, in bytes.
const HEAD_LIMIT: usize = 32 * 1024;
/// Requests under way at a time on one HTTP/2 connection.
const STREAMS: u32 = 128;

/// What all connections of a listener share.
pub(super) struct Shared {
    routes: Routes,
    tls: Option<TlsAcceptor>,
    proxies: Proxies,
    patience: Duration,
    counted: bool,
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
}

impl Shared {
    /// `patience` is how long a client may take for its handshake, and for the head of a request. `counted` says whether connections
    /// and requests appear in the metrics.
    pub(super) fn new(routes: Routes, tls: Option<TlsAcceptor>, proxies: Proxies, patience: Duration, counted: bool) -> Shared {
        // The limit of 100 headers is hyper's own; naming it would only move them to the heap.
        let mut http1 = Builder::new(TokioExecutor::new()).http1_only();
        // Nor is its timer for heads used, which would cut idle connections too and is armed anew for each request: see `Pace`.
        http1.http1().header_read_timeout(None).max_buf_size(HEAD_LIMIT);
        let mut http2 = Builder::new(TokioExecutor::new()).http2_only();
        http2
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEAD_LIMIT as u32)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        Shared { routes, tls, proxies, patience, counted, http1, http2 }
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(stream: TcpStream, remote: SocketAddr, shared: Arc<Shared>, watcher: Watcher) {
    let _open = shared.counted.then(metrics::connection_opened);
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = &shared.tls else {
        // No sniffing for HTTP/2 on plain connections: hyper's has no timeout.
        return speak(stream, Protocol::Http1, remote, shared.clone(), watcher).await;
    };
    match tokio::time::timeout(shared.patience, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            speak(stream, if http2 { Protocol::Http2 } else { Protocol::Http1 }, remote, shared.clone(), watcher).await;
        }
        Ok(Err(error)) => tracing::debug!(%remote, %error, "the TLS handshake failed"),
        Err(_) => tracing::debug!(%remote, "the TLS handshake took too long"),
    }
}

async fn speak<S>(stream: S, protocol: Protocol, remote: SocketAddr, shared: Arc<Shared>, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = if protocol == Protocol::Http2 { &shared.http2 } else { &shared.http1 };
    let pace = Arc::new(Pace::new(protocol));
    let hang_up = Arc::new(Notify::new());
    let service = service_fn({
        let (shared, pace, hang_up) = (shared.clone(), pace.clone(), hang_up.clone());
        move |request| {
            let (shared, pace, hang_up) = (shared.clone(), pace.clone(), hang_up.clone());
            async move {
                let _under_way = pace.request_began();
                let for_long = || HangUp::new(hang_up, pace.answer_goes_on());
                answer(request, remote, shared, for_long).await
            }
        }
    });
    let stream = TokioIo::new(Paced::new(stream, pace.clone()));
    let mut connection = std::pin::pin!(watcher.watch(builder.serve_connection(stream, service)));
    tokio::select! {
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!(%remote, %error, "the connection broke");
            }
        }
        () = hang_up.notified() => tracing::debug!(%remote, "the connection is closed: its reader takes nothing"),
        reason = pace.outstayed(shared.patience) => tracing::debug!(%remote, reason, "the connection is closed"),
    }
}

/// Finds out who asks, hands the request to the routes, and counts the answer.
async fn answer(
    mut request: Request<Incoming>,
    remote: SocketAddr,
    shared: Arc<Shared>,
    for_long: impl FnOnce() -> HangUp,
) -> Result<Response, Infallible> {
    let path = request.uri().path();
    let route = Route::of(path);
    let response = match shared.proxies.client(remote, path, request.headers()) {
        Some(address) => {
            let request_id = RequestId::next();
            request.extensions_mut().insert(Peer { address, request_id });
            if route == Route::Revocations {
                request.extensions_mut().insert(for_long());
            }
            warp::service(shared.routes.clone()).call(request).await?
        }
        None => past_the_proxy(),
    };
    if shared.counted {
        metrics::request_answered(route, response.status().as_u16());
    }
    Ok(response)
}

/// Plain http off loopback is for the trusted proxies alone.
fn past_the_proxy() -> Response {
    let body =
        r#"{"error":"invalid_request","error_description":"plain http is answered only to the proxies named in server.trusted_proxies"}"#;
    let mut response = body.into_response();
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
