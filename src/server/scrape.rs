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
    let listener = Listener::new(tcp, "metrics.listen", listen, None, Proxies::none(), CONNECTIONS, Duration::from_secs(30))?;
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
