//! What a running server does beside its requests: purging, rotating keys, noting which secrets are used, reading secrets files
//! again. Every node does it; guarded writes see to it that two at once do no harm.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::app::{self, App};
use crate::clients::declared;
use crate::oauth2::OAuth2Error;
use crate::storage::purge;
use crate::tokens::lifecycle;

/// How often secrets files are looked at.
const GLANCE: Duration = Duration::from_secs(1);
/// Every so many glances, everything else.
const ROUND: u64 = 60;

/// Runs until `stop` resolves, and then notes the last uses of secrets.
pub async fn keep(app: Arc<App>, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    let mut files = SecretsFiles::new(&app);
    for glance in 1_u64.. {
        tokio::select! {
            () = tokio::time::sleep(GLANCE) => {}
            () = &mut stop => break,
        }
        if files.changed() {
            log("secrets files", apply_secrets(&app).await);
        }
        if glance % ROUND == 0 {
            log("purge", purge_rows(&app).await);
            log("key rotation", turn_keys(&app).await);
            log("last use of secrets", app.clients.flush_last_used(&app.storage).await.map_err(Into::into));
        }
    }
    log("last use of secrets", app.clients.flush_last_used(&app.storage).await.map_err(Into::into));
}

fn log(what: &str, done: Result<(), OAuth2Error>) {
    if let Err(error) = done {
        let cause = error.cause.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(cause, "{what}: {error}; it will be tried again");
    }
}

async fn purge_rows(app: &App) -> Result<(), OAuth2Error> {
    let now = app.clock.now();
    app.revocations.purge(now);
    for (table, rows) in purge::run(&app.storage, now, app.config.audit.retention).await? {
        crate::metrics::purged(table, rows as u64);
    }
    Ok(())
}

/// Rotates the keys that are due and removes those that nothing needs. On a thread of its own: making an RSA key takes a while.
async fn turn_keys(app: &Arc<App>) -> Result<(), OAuth2Error> {
    let app = app.clone();
    let turned = tokio::task::spawn_blocking(move || {
        let now = app.clock.now();
        lifecycle::ensure(&app.storage, app.keys.kek(), now)?;
        let made = lifecycle::rotate(&app.storage, app.keys.kek(), &app.config.tokens, Some(app.config.keys.rotation), now)?;
        if !made.is_empty() {
            tracing::info!(kids = ?made, "new keys were published");
        }
        lifecycle::remove_due(&app.storage, now)
    });
    Ok(turned.await.unwrap_or(Ok(()))?)
}

async fn apply_secrets(app: &App) -> Result<(), OAuth2Error> {
    let clients = match app::declared_clients(&app.config) {
        Ok(clients) => clients,
        Err(reason) => {
            tracing::error!("a secrets file is wrong, the secrets before it stay in force: {reason}");
            return Ok(());
        }
    };
    let now = app.clock.now();
    let difference = app.storage.write(move |tx| declared::apply(tx, &clients, now)).await?;
    if !difference.changed.is_empty() {
        tracing::info!(clients = ?difference.changed, "the secrets of declared clients were read again");
    }
    Ok(())
}

/// The secrets files of declared clients, as they were last seen.
struct SecretsFiles(HashMap<PathBuf, Option<(SystemTime, u64)>>);

impl SecretsFiles {
    fn new(app: &App) -> SecretsFiles {
        let files = app.config.clients.iter().filter_map(|client| client.secrets_file.clone());
        SecretsFiles(files.map(|file| (file.clone(), look(&file))).collect())
    }

    /// Whether any differs from the last look.
    fn changed(&mut self) -> bool {
        let mut changed = false;
        for (file, seen) in &mut self.0 {
            let now = look(file);
            changed |= now != *seen;
            *seen = now;
        }
        changed
    }
}

fn look(file: &PathBuf) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
