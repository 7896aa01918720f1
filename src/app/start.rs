//! Putting the parts together at start.

pub mod destinations;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::guard::{self, Loss};
use super::seats::Seats;
use super::{App, Throttles};
use crate::clients::assertion::RemoteKeys;
use crate::clients::{self, Registry, declared};
use crate::clock::Clock;
use crate::config::{self, Config, ConfigError, Problem, Rate, SourceKind};
use crate::identity::checks::Checks;
use crate::identity::ldap::Ldap;
use crate::identity::local::{Hasher, Local};
use crate::identity::oidc::Oidc;
use crate::identity::{Named, Shield, Source, Sources};
use crate::limits::Throttle;
use crate::oauth2::SourceName;
use crate::oauth2::request::GrantType;
use crate::outbound::Guarded;
use crate::roles::Rules;
use crate::storage::feed::FeedEntry;
use crate::storage::refusals::Refusals;
use crate::storage::{Storage, StorageError, feed, in_turn, keys, settings};
use crate::tokens::feed_view::Recent;
use crate::tokens::kek::Kek;
use crate::tokens::{Keys, Revocations, TokenError, lifecycle};

/// Looks at the source for one refresh family, on each node: nobody refreshes so often, and who holds a token must not keep a source busy.
const REFRESHES: Rate = Rate { count: 120, per: Duration::from_secs(60) };

/// Why the parts could not be put together, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the threads that hash passwords did not start: {0}")]
    Threads(#[source] std::io::Error),
    #[error(transparent)]
    Tokens(#[from] TokenError),
}

impl App {
    /// Opens the database, brings it up to date with the program and the file, and loads what requests read from memory. Must be
    /// called within a runtime. `loss` is what becomes of a mapping that takes roles from too many people.
    pub fn start(config: Config, clock: Clock, loss: Loss) -> Result<App, StartError> {
        let now = clock.now();
        let storage = Storage::open(&config.database)?;
        for migration in storage.migrate()? {
            tracing::info!(migration, "the database was migrated");
        }
        refuse_a_backup(&storage)?;
        let hasher = Arc::new(Hasher::new(&config.accounts).map_err(StartError::Threads)?);
        let local = |name| Some(Local::new(name, storage.clone(), hasher.clone(), clock.clone()));
        let (sources, rules) = wire(&config, &clock, local)?;
        let mapping = guard::weigh(&config, &storage, loss, now)?;
        let keys = Arc::new(open_keys(&config, &storage, true, now)?);
        destinations::keep(&config, &storage, keys.kek())?;
        let shield = Shield::open(storage.clone(), keys.kek(), config.limits.login_failures, clock.clone())?;
        apply_file(&config, &storage, now)?;
        guard::put_in_force(mapping, &storage, now)?;

        let (clients, revocations) = (Arc::new(Registry::default()), Arc::new(Revocations::default()));
        let (feed_id, head, read) = storage.read_blocking({
            let (clients, revocations, keys) = (clients.clone(), revocations.clone(), keys.clone());
            move |c| {
                let (feed_id, head) = feed::identity(c)?;
                revocations.apply(&feed::live(c, now)?);
                clients.reload(c)?;
                // Again, as of this very number: what was announced up to it will not be heard.
                Ok((feed_id, head, keys.replace(&crate::storage::keys::all(c)?, now)))
            }
        })?;
        read?;
        let recent = Arc::new(Recent::starting_after(feed_id, head));
        let mut listener = Listener {
            storage: storage.clone(),
            clients: clients.clone(),
            revocations: revocations.clone(),
            keys: keys.clone(),
            clock: clock.clone(),
            recent: recent.clone(),
            applied: head,
        };
        let follower = storage.follow(move |entries| listener.take_in(entries).map_err(|reason| reason.to_string()), head);
        let limits = &config.limits;
        Ok(App {
            issuer: config.server.issuer().into(),
            throttles: Throttles {
                logins: Throttle::new(limits.login_failures),
                familiar_logins: Throttle::new(limits.login_failures),
                repeats: Throttle::new(limits.address_failures),
                addresses: Throttle::new(limits.address_failures),
                exchanges: Throttle::new(limits.exchange_failures),
                refreshes: Throttle::new(REFRESHES),
                revocations: Throttle::new(limits.revocations),
            },
            shield,
            refusals: Refusals::start(storage.clone()),
            client_keys: RemoteKeys::new(Guarded::new(&config.outbound.allow)),
            seats: Seats::default(),
            recent,
            stopping: watch::Sender::new(false),
            config: Arc::new(config),
            clock,
            storage,
            keys,
            revocations,
            clients,
            checks: Checks::new(sources.iter().map(|named| named.name.clone())),
            sources,
            rules,
            hasher,
            follower,
        })
    }
}

/// A copy that `countersign backup` made has forgotten what was revoked since.
fn refuse_a_backup(storage: &Storage) -> Result<(), StartError> {
    match storage.read_blocking(|c| settings::get(c, settings::BACKUP_MADE_AT))? {
        None => Ok(()),
        Some(_) => Err(StorageError::Invalid(format!(
            "{} is a backup: it has forgotten what was revoked since it was made. Run countersign keys recover, which ends every token, \
             and start again",
            storage.describe()
        ))
        .into()),
    }
}

/// Builds the sources and compiles the rules, without asking anybody yet. `local` makes the sources of our own accounts; `check`,
/// which has no database, makes none.
///
/// Errors: every mistake of both, with file and line.
pub fn wire(config: &Config, clock: &Clock, local: impl Fn(SourceName) -> Option<Local>) -> Result<(Sources, Rules), ConfigError> {
    let (mut problems, mut sources) = (Vec::new(), Vec::new());
    let implicit = [config::Source::local()];
    let declared = if config.sources.is_empty() { &implicit[..] } else { &config.sources };
    for (i, source) in declared.iter().enumerate() {
        let name = SourceName::from(source.name.as_str());
        let (built, domains) = match &source.kind {
            SourceKind::Local(_) => (Ok(local(name.clone()).map(Source::Local)), &[][..]),
            SourceKind::Ldap(settings) => {
                let ldap = Ldap::new(name.clone(), settings, clock.clone());
                (ldap.map(|ldap| Some(Source::Ldap(Box::new(ldap)))), &settings.domains[..])
            }
            SourceKind::Oidc(settings) => {
                let oidc = Oidc::new(name.clone(), settings, clock.clone());
                (oidc.map(|oidc| Some(Source::Oidc(Box::new(oidc)))), &settings.domains[..])
            }
        };
        let domains = domains.iter().map(|domain| domain.to_ascii_lowercase()).collect();
        match built {
            Ok(Some(source)) => sources.push(Named { name, domains, source }),
            Ok(None) => {}
            Err(found) => problems.extend(found.into_iter().map(|p| Problem::new(format!("source[{i}].{}", p.path), p.reason))),
        }
    }
    match Rules::compile(&config.mapping, &config.source_names()) {
        Ok(rules) if problems.is_empty() => {
            for named in &mut sources {
                if let Source::Oidc(oidc) = &mut named.source {
                    oidc.mapping_looks_at(rules.claims_of(named.name.as_str()));
                }
            }
            Ok((Sources::new(sources), rules))
        }
        Ok(_) => Err(config.locations.explain(problems)),
        Err(found) => Err(config.locations.explain(problems.into_iter().chain(found).collect())),
    }
}

/// Opens the keys, making those that are missing once it is sure that the key-encryption key opens those that are there. That one is
/// made only for a database that has no keys yet, and only at the `start` of a server.
pub fn open_keys(config: &Config, storage: &Storage, start: bool, now: i64) -> Result<Keys, StartError> {
    let by = if start { "start" } else { "command line" };
    let stored = storage.read_blocking(keys::all)?;
    let open = || -> Result<Keys, TokenError> {
        let keys = Keys::new(&stored, Kek::load(config, start && stored.is_empty())?, config.server.issuer(), now)?;
        lifecycle::ensure(storage, keys.kek(), by, now)?;
        keys.replace(&storage.read_blocking(keys::all)?, now)?;
        Ok(keys)
    };
    open().map_err(|error| located(config, error))
}

/// The key-encryption key alone, for who does not need the keys under it.
pub fn load_kek(config: &Config, create: bool) -> Result<Kek, StartError> {
    Kek::load(config, create).map_err(|error| located(config, error))
}

/// With the key-encryption key that the configuration names, the place where it does.
fn located(config: &Config, error: TokenError) -> StartError {
    let configured = &config.keys;
    let path = match (&configured.encryption_key, &configured.encryption_key_file) {
        (Some(_), _) => "keys.encryption_key",
        (None, Some(_)) => "keys.encryption_key_file",
        (None, None) => return error.into(),
    };
    match error {
        TokenError::Kek(reason) => config.locations.explain(vec![Problem::new(path, reason)]).into(),
        other => other.into(),
    }
}

/// The declared clients with their secrets, and the built-in client of each dialect that names none.
pub fn declared_clients(config: &Config) -> Result<Vec<declared::Declared>, ConfigError> {
    let mut clients = config.clients.clone();
    let built_in = |croit: &config::Croit| croit.enabled && croit.client.is_none();
    if config.dialects.croit.as_ref().is_some_and(built_in) && clients.iter().all(|client| client.id != "croit") {
        // Without secrets and not public, it can be used through its dialect alone.
        clients.push(config::Client {
            id: "croit".to_owned(),
            grants: vec![GrantType::Password.as_str().to_owned(), GrantType::TokenExchange.as_str().to_owned()],
            ..config::Client::default()
        });
    }
    declared::read(&clients, &config.outbound.allow).map_err(|problems| config.locations.explain(problems))
}

/// Declared clients, and the longest lifetime ever configured.
fn apply_file(config: &Config, storage: &Storage, now: i64) -> Result<(), StartError> {
    let declared = declared_clients(config)?;
    // Clients of the command line have lifetimes of their own, and may come at any time: so the bound of all.
    let longest = config::LONGEST_ACCESS_LIFETIME + config.tokens.refresh_lifetime;
    let difference = storage.write_blocking(move |tx| {
        in_turn(tx)?;
        settings::raise(tx, lifecycle::LONGEST_LIFETIME, longest.as_secs() as i64)?;
        declared::apply(tx, &declared, now)
    })?;
    refuse_taken(config, &difference)?;
    for (what, ids) in [("added", &difference.added), ("changed", &difference.changed), ("removed", &difference.removed)] {
        if !ids.is_empty() {
            tracing::info!(clients = ?ids, "declared clients were {what}");
        }
    }
    Ok(())
}

/// Errors: ids of the file that clients made by the command line have.
pub fn refuse_taken(config: &Config, difference: &declared::Difference) -> Result<(), ConfigError> {
    let problems = difference.taken.iter().map(|id| match config.clients.iter().position(|client| &client.id == id) {
        Some(i) => Problem::new(
            format!("client[{i}].id"),
            format!("the command line made a client {id}; remove that one (countersign client remove {id}), or write another id here"),
        ),
        None => Problem::new(
            "dialect.croit.client",
            format!(
                "the command line made a client {id}, which the built-in one would replace; remove that one, or name a [[client]] here"
            ),
        ),
    });
    let problems: Vec<_> = problems.collect();
    if problems.is_empty() { Ok(()) } else { Err(config.locations.explain(problems)) }
}

/// What happens on this node when the feed has news.
struct Listener {
    storage: Storage,
    clients: Arc<Registry>,
    revocations: Arc<Revocations>,
    keys: Arc<Keys>,
    clock: Clock,
    recent: Arc<Recent>,
    applied: i64,
}

impl Listener {
    fn take_in(&mut self, entries: &[FeedEntry]) -> Result<(), TokenError> {
        self.revocations.apply(entries);
        // Numbers have no holes but for what was purged: behind a hole anything may have changed.
        let hole = entries.is_empty() || entries.iter().zip(self.applied + 1..).any(|(entry, next)| entry.n != next);
        if hole {
            self.storage.read_blocking(|c| self.clients.reload(c))?;
        } else {
            for id in entries.iter().filter(|entry| entry.kind == clients::FEED_KIND).map(|entry| &entry.value) {
                let rows = self.storage.read_blocking(|c| crate::storage::clients::find(c, id))?;
                self.clients.replace(id, rows);
            }
        }
        if hole || entries.iter().any(|entry| entry.kind == lifecycle::FEED_KIND) {
            let rows = self.storage.read_blocking(keys::all)?;
            self.keys.replace(&rows, self.clock.now())?;
        }
        if let Some(last) = entries.last() {
            self.applied = last.n;
        }
        // Last: who follows the feed finds everything above done.
        if hole {
            let (feed, _) = self.storage.read_blocking(feed::identity)?;
            if !self.recent.is_of(&feed) {
                self.recent.begin_anew(feed, entries.last().map_or(0, |last| last.n));
                return Ok(());
            }
        }
        self.recent.take_in(entries);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
