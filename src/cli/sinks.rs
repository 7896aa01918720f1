//! The sinks of the audit: a task for each hands what the table holds to a file or a collector. The table is the source of truth and
//! remembers for each record which sinks it has reached, so nothing is lost while a collector is away or the server is down; what was
//! handed over and not yet noted when a server dies is handed over again. Of many nodes one at a time serves a sink.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::audit::{Collector, Entry, LogFile};
use crate::config::Syslog;
use crate::metrics;
use crate::oauth2::secret::{fill_random, hex};
use crate::storage::audit::Sink;
use crate::storage::{Connection, StorageError, audit, settings};

const BATCH: i64 = 200;
/// Between looks at the table, and after a failure.
const PAUSE: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_secs(2);
/// Seconds that a sink belongs to the node that serves it, from its last look; another one takes over afterwards. A clock that is
/// off costs duplicates, never a record.
const LEASE: i64 = 15;
/// Seconds before its first start from which on a sink gets what is there already.
const BACKLOG: i64 = 60;
/// How long the end of the server waits for the last records.
const LAST: Duration = Duration::from_secs(3);

/// The running sinks.
pub struct Sinks {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sinks {
    /// Starts those that `[audit]` configures.
    pub fn start(app: &Arc<App>) -> Sinks {
        let (stop, stopping) = watch::channel(false);
        let configured = &app.config.audit;
        let file = configured.file.clone().map(|path| (Sink::File, Outlet::File(Some(LogFile::new(path)))));
        let syslog = configured.syslog.as_deref().and_then(|text| Syslog::parse(text).ok());
        let syslog = syslog.map(|target| (Sink::Syslog, Outlet::Syslog(Collector::new(target))));
        let tasks = [file, syslog].into_iter().flatten().map(|(sink, outlet)| {
            let server = Server { app: app.clone(), sink, outlet, node: random() };
            tokio::spawn(server.run(stopping.clone()))
        });
        Sinks { tasks: tasks.collect(), stop }
    }

    /// Hands over what is left, for a moment, and gives the sinks to another node.
    pub async fn finish(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = tokio::time::timeout(LAST, task).await;
        }
    }
}

/// Where records go.
enum Outlet {
    /// None while a thread is writing.
    File(Option<LogFile>),
    Syslog(Collector),
}

impl Outlet {
    /// Errors: in words; all of the entries are to be handed over again.
    async fn hand_over(&mut self, entries: &Arc<Vec<Entry>>) -> Result<(), String> {
        match self {
            Outlet::Syslog(collector) => collector.send(entries).await.map_err(|reason| reason.to_string()),
            Outlet::File(held) => {
                let mut file = held.take().ok_or("the thread that wrote is gone")?;
                let entries = entries.clone();
                let written = tokio::task::spawn_blocking(move || {
                    let done = file.append(&entries);
                    (file, done)
                });
                let (file, done) = written.await.map_err(|reason| reason.to_string())?;
                *held = Some(file);
                done.map_err(|reason| reason.to_string())
            }
        }
    }
}

/// What is kept about a sink in the settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    /// Records before this id are not for the sink.
    from: String,
    /// The node that serves it, and until when.
    node: String,
    until: i64,
}

struct Server {
    app: Arc<App>,
    sink: Sink,
    outlet: Outlet,
    /// A random name of this process.
    node: String,
}

/// How a round ended.
enum Round {
    /// There may be more.
    More,
    Done,
    /// Another node serves the sink.
    NotMine,
}

impl Server {
    async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut failing: Option<String> = None;
        loop {
            let last = *stopping.borrow();
            let pause = match self.round().await {
                Ok(Round::More) => Duration::ZERO,
                Ok(Round::Done | Round::NotMine) => PAUSE,
                Err(reason) => {
                    metrics::audit_sink_failed(self.sink.as_str());
                    if failing.as_ref() != Some(&reason) {
                        tracing::error!(sink = self.sink.as_str(), reason, "audit records wait in the database for their sink");
                    }
                    failing = Some(reason);
                    RETRY
                }
            };
            if pause < RETRY && failing.take().is_some() {
                tracing::info!(sink = self.sink.as_str(), "the sink of the audit takes records again");
            }
            if last && !pause.is_zero() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.wait_for(|stop| *stop), if !last => {}
            }
        }
        if self.app.storage.is_shared() {
            let _ = self.hold(0).await;
        }
    }

    async fn round(&mut self) -> Result<Round, String> {
        let (sink, now) = (self.sink, self.app.clock.now());
        let say = |error: StorageError| error.to_string();
        let Some(state) = self.app.storage.read(move |c| state(c, sink)).await.map_err(say)? else {
            // The first start of this sink: another node may be as fast, and then its beginning counts.
            let state = State { from: audit::first_id_at(now - BACKLOG), node: String::new(), until: 0 };
            self.app.storage.write(move |tx| put(tx, sink, None, &state)).await.map_err(say)?;
            return Ok(Round::More);
        };
        let from = state.from;
        let entries = self.app.storage.read(move |c| audit::not_in(c, sink, &from, BATCH)).await.map_err(say)?;
        metrics::audit_sink_lag(sink.as_str(), entries.first().map_or(0, |oldest| (now - oldest.at).max(0)));
        if entries.is_empty() {
            return Ok(Round::Done);
        }
        if self.app.storage.is_shared() && !self.hold(now + LEASE).await.map_err(say)? {
            return Ok(Round::NotMine);
        }
        let entries = Arc::new(entries);
        self.outlet.hand_over(&entries).await?;
        let ids: Vec<String> = entries.iter().map(|entry| entry.id.clone()).collect();
        self.app.storage.write(move |tx| audit::reached(tx, sink, &ids)).await.map_err(say)?;
        metrics::audit_sink_took(sink.as_str(), entries.len() as u64);
        Ok(if entries.len() as i64 == BATCH { Round::More } else { Round::Done })
    }

    /// Takes or keeps the sink until `until`; false if another node has it.
    async fn hold(&self, until: i64) -> Result<bool, StorageError> {
        let (sink, node, now) = (self.sink, self.node.clone(), self.app.clock.now());
        let held = self.app.storage.read(move |c| state(c, sink)).await?;
        let Some(held) = held else { return Ok(false) };
        let mine = held.node == node;
        if !mine && held.until > now {
            return Ok(false);
        }
        // Not with every batch.
        if mine && until > 0 && held.until - now > LEASE / 2 {
            return Ok(true);
        }
        let next = State { from: held.from.clone(), node, until };
        self.app.storage.write(move |tx| put(tx, sink, Some(&held), &next)).await
    }
}

fn name(sink: Sink) -> String {
    format!("audit_sink_{}", sink.as_str())
}

fn state(c: &mut Connection, sink: Sink) -> Result<Option<State>, StorageError> {
    let Some(text) = settings::get(c, &name(sink))? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|_| StorageError::Invalid(format!("the setting {} is not ours", name(sink))))
}

/// Replaces `before`, or makes it where there is none; false if another node was faster.
fn put(tx: &mut Connection, sink: Sink, before: Option<&State>, after: &State) -> Result<bool, StorageError> {
    let write = |state: &State| serde_json::to_string(state).map_err(|reason| StorageError::Invalid(reason.to_string()));
    let before = before.map(write).transpose()?;
    settings::replace(tx, &name(sink), before.as_deref(), &write(after)?)
}

fn random() -> String {
    let mut bytes = [0u8; 8];
    fill_random(&mut bytes);
    hex(&bytes)
}
