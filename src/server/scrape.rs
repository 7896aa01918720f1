//! The Prometheus listener.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, header};
use warp::{Filter, Reply};

use super::forwarded::Proxies;
use super::{Listener, ServeError, bind_tcp};
use crate::metrics::Handle;

/// Scrapers keep a connection or two; the listener has nothing to give to a crowd.
const CONNECTIONS: usize = 64;
const FOLD_EVERY: Duration = Duration::from_secs(5);

/// Binds `[metrics] listen` and answers GET /metrics there, by plain http, for as long as the returned future is polled or until
/// `stop` resolves. `sample` sets the gauges that are read rather than counted, before each rendering. Errors:
/// [`ServeError::Bind`].
pub async fn serve_metrics(
    listen: SocketAddr,
    handle: Handle,
    sample: impl Fn() + Clone + Send + Sync + 'static,
    stop: impl Future<Output = ()>,
) -> Result<(SocketAddr, impl Future<Output = ()>), ServeError> {
    let tcp = bind_tcp("metrics.listen", listen).await?;
    let mut listener = Listener::new(tcp, "metrics.listen", listen, None, Proxies::none(), CONNECTIONS, Duration::from_secs(30))?;
    listener.counted = false;
    let address = listener.address();
    let folding = handle.clone();
    let metrics = warp::path!("metrics").and(warp::get()).map(move || {
        sample();
        let mut response = handle.render().into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
        response
    });
    let fold = async move {
        loop {
            tokio::time::sleep(FOLD_EVERY).await;
            folding.fold();
        }
    };
    let serve = listener.serve(metrics.boxed(), stop);
    Ok((address, async move {
        tokio::select! {
            _ = serve => {}
            () = fold => {}
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn gauges_are_read_at_each_scrape_and_nothing_else_is_served() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = Handle::from(recorder.handle());
        let sample = move || metrics::with_local_recorder(&recorder, || crate::metrics::hash_queue(3));
        let sample = std::sync::Arc::new(sample);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, serve) = serve_metrics(listen, handle, move || sample(), std::future::pending()).await.unwrap();
        tokio::spawn(serve);
        let ask = async |path: &str| {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = ask("/metrics").await;
        assert!(answer.contains("text/plain; version=0.0.4") && answer.contains("countersign_password_hash_queue 3"), "{answer}");
        assert!(ask("/").await.starts_with("HTTP/1.1 404"));
    }
}
