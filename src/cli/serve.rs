//! `countersign serve`: binds first, so that a taken port changes nothing, then opens the database, greets at the very first start,
//! and serves until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use super::{CliError, greeting, log, sinks, upkeep};
use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::dialects;
use crate::endpoints;
use crate::metrics;
use crate::server::{self, Listener, ServeError};

pub fn run(config: Config, clock: Clock) -> Result<(), CliError> {
    log::init(&config.log).map_err(|problem| config.locations.explain(vec![problem]))?;
    // A second call fails when a test of this process was faster; the provider is the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(serve(config, clock));
    // Threads that wait for a dead directory must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn serve(mut config: Config, clock: Clock) -> Result<(), CliError> {
    let explained = |config: &Config, error| match error {
        ServeError::Config(problem) => CliError::from(config.locations.explain(vec![problem])),
        other => other.into(),
    };
    let listener = Listener::bind(&config.server, &config.limits).await.map_err(|error| explained(&config, error))?;
    if config.server.listen.port() == 0 {
        config.server.listen = listener.address();
    }
    let metrics = match config.metrics.listen {
        Some(listen) => Some((listen, metrics::install().map_err(|reason| CliError::Said(reason.to_string()))?)),
        None => None,
    };
    let app = Arc::new(tokio::task::block_in_place(|| App::start(config, clock))?);
    let routes = endpoints::routes(&app, dialects::routes(&app));
    let stop = server::stop_signal()?;
    let (stopped, stopping) = tokio::sync::watch::channel(false);
    let wait = || {
        let mut stopping = stopping.clone();
        async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        }
    };
    if let Some((listen, handle)) = metrics {
        let sampled = app.clone();
        let sample = move || {
            let (applied, age) = sampled.feed_position();
            metrics::feed(applied, age);
            metrics::hash_queue(sampled.hasher.waiting());
            metrics::revocations(sampled.revocations.count());
        };
        let (address, scrapes) =
            server::serve_metrics(listen, handle, sample, wait()).await.map_err(|error| explained(&app.config, error))?;
        tracing::info!("metrics on http://{address}/metrics");
        tokio::spawn(scrapes);
    }
    let sinks = sinks::Sinks::start(&app);
    let upkeep = tokio::spawn(upkeep::keep(app.clone(), wait()));
    tokio::spawn(async move {
        stop.await;
        let _ = stopped.send(true);
    });

    greeting::greet(&app, &listener)?;
    tracing::info!("listening on {} as {}, database {}", listener.address(), app.issuer, app.storage.describe());
    let cut = listener.serve(routes, wait()).await;
    let _ = upkeep.await;
    app.refusals.flush().await;
    sinks.finish().await;
    tracing::info!(cut, "stopped");
    Ok(())
}
