//! What a running server does beside its requests: purging, rotating keys, noting which secrets are used, reading secrets files
//! again. Every node does it; guarded writes see to it that two at once do no harm.

use std::collections::HashMap;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    // What changed since the start read them, and what could not be applied, waits for the next glance.
    let mut pending = true;
    for glance in 1_u64.. {
        tokio::select! {
            () = tokio::time::sleep(GLANCE) => {}
            () = &mut stop => break,
        }
        pending |= files.changed();
        if pending {
            let applied = apply_secrets(&app).await;
            pending = applied.is_err();
            log("secrets files", applied);
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
    const BY: &str = "schedule";
    let app = app.clone();
    let turned = tokio::task::spawn_blocking(move || {
        let now = app.clock.now();
        lifecycle::ensure(&app.storage, app.keys.kek(), BY, now)?;
        let due = Some(app.config.keys.rotation);
        let made = lifecycle::rotate(&app.storage, app.keys.kek(), &app.config.tokens, due, BY, now)?;
        if !made.is_empty() {
            tracing::info!(kids = ?made, "new keys were published");
        }
        lifecycle::remove_due(&app.storage, BY, now)
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
    let changed = app.storage.write(move |tx| declared::apply_secrets(tx, &clients, now)).await?;
    if !changed.is_empty() {
        tracing::info!(clients = ?changed, "the secrets of declared clients were read again");
    }
    Ok(())
}

/// The secrets files of declared clients, as they were last seen.
struct SecretsFiles(HashMap<PathBuf, Option<Look>>);

/// Time of the last change of content, owner or mode (seconds and nanoseconds), length, and inode: a file that was renamed into place
/// may be as old and as long.
type Look = (i64, i64, u64, u64);

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

fn look(file: &PathBuf) -> Option<Look> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.ctime(), metadata.ctime_nsec(), metadata.len(), metadata.ino()))
}
