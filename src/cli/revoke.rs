//! `countersign revoke`: ends what was issued, by what it has in common. Durable when the command returns; every node that follows
//! the feed refuses within a second.

use std::io::BufRead;

use clap::Args;
use zeroize::Zeroizing;

use super::{CliError, print};
use crate::app;
use crate::audit::{Event, Record};
use crate::clock::Clock;
use crate::config::Config;
use crate::grants::cause as grants_by_cause;
use crate::oauth2::{AccountId, Secret};
use crate::roles::group_key;
use crate::storage::causes::Cause;
use crate::storage::grants::Of;
use crate::storage::{Connection, Storage, StorageError, accounts, audit, clients, feed, grants};
use crate::tokens::CLOCK_MARGIN;
use crate::tokens::access::{self, Opened};
use crate::tokens::lifecycle::longest_lifetime;
use crate::tokens::refresh;
use crate::tokens::revocation::Kind;

#[derive(Debug, Args)]
pub struct Revoke {
    #[command(flatten)]
    what: What,
    /// With --source: the people of one session at its provider (`sid` of the id token)
    #[arg(long, value_name = "ID", requires = "source")]
    upstream_session: Option<String>,
    /// Only say how many sign-ins would be ended; nothing is written
    #[arg(long, conflicts_with = "token")]
    dry_run: bool,
}

/// Exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// One access or refresh token; a refresh token takes its whole grant with it. `-` reads it from standard input, since arguments
    /// show in the list of processes
    #[arg(long, value_name = "TOKEN")]
    token: Option<Secret>,
    /// One sign-in and everything issued because of it
    #[arg(long, value_name = "GRANT_ID")]
    grant: Option<String>,
    /// Everything issued to a person (username or account id) or to a client for itself
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Everything issued to a client, for itself and for people
    #[arg(long, value_name = "CLIENT_ID")]
    client: Option<String>,
    /// Every sign-in that has a role, or was let in, because of a group: a distinguished name, or a value of a claim
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Every sign-in that has a role because of a rule of the mapping
    #[arg(long, value_name = "RULE_ID")]
    rule: Option<String>,
    /// Everything issued to people of a source
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
}

pub fn run(revoke: Revoke, config: &Config, storage: &Storage, clock: &Clock) -> Result<(), CliError> {
    let now = clock.now();
    let Revoke { what, upstream_session, dry_run } = revoke;
    if let Some(token) = what.token {
        return one(&whole(token)?, config, storage, now);
    }
    if let Some(cause) = cause(&what, upstream_session.as_deref(), config)? {
        return by_cause(cause, storage, dry_run, now);
    }
    let (kind, value) = match what {
        What { grant: Some(id), .. } => {
            let found = storage.read_blocking(|c| grants::find(c, &id))?;
            found.ok_or_else(|| CliError::Said(format!("there is no grant {id}, or all of it has expired")))?;
            (Kind::Grant, id)
        }
        What { subject: Some(subject), .. } => (
            Kind::Subject,
            storage.read_blocking(|c| subject_of(c, &subject))?.ok_or_else(|| {
                CliError::Said(format!("{subject} is no account or client; see countersign user list and countersign client list"))
            })?,
        ),
        What { client: Some(id), .. } => {
            // A client that is gone may have left tokens behind; ending them is never wrong.
            if storage.read_blocking(|c| clients::find(c, &id))?.is_none() {
                print(&format!("there is no client {id} now; this ends what may be left of it"))?;
            }
            (Kind::Client, id)
        }
        What { source: Some(name), .. } => {
            note_unknown_source(config, &name)?;
            (Kind::Source, name)
        }
        What { .. } => (Kind::All, String::new()),
    };
    let shown = if value.is_empty() { kind.as_str().to_owned() } else { format!("{} {value}", kind.as_str()) };
    if dry_run {
        let count = storage.read_blocking(|c| grants::count_live(c, &of(kind, value), now))?;
        return would_end(count, &shown);
    }
    let n = storage.write_blocking(move |tx| {
        let until = now + longest_lifetime(tx)? + CLOCK_MARGIN;
        write(tx, kind, &value, until, now)
    })?;
    print(&format!("revoked {shown}, revocation {n}"))
}

/// The grants that a revocation of this kind ends; tokens that clients got for themselves have none.
fn of(kind: Kind, value: String) -> Of {
    match kind {
        Kind::Subject => Of::Account(value),
        Kind::Client => Of::Client(value),
        Kind::Source => Of::Source(value),
        Kind::Grant | Kind::Token => Of::Grant(value),
        Kind::All => Of::All,
    }
}

/// What the grants recorded as their cause, if that is what is revoked by.
fn cause(what: &What, upstream_session: Option<&str>, config: &Config) -> Result<Option<Cause>, CliError> {
    Ok(match (what, upstream_session) {
        (What { group: Some(group), .. }, _) => Some(Cause::group(&group_key(group))),
        (What { rule: Some(id), .. }, _) => {
            // A rule that was taken out of the file may have left sign-ins behind.
            if config.mapping.deny.iter().any(|deny| &deny.id == id) {
                return Err(CliError::Said(format!("{id} is a deny: nothing is issued because of it")));
            }
            if !config.mapping.rules.iter().any(|rule| &rule.id == id) {
                print(&format!("there is no rule {id} now; this ends what may be left of it"))?;
            }
            Some(Cause::rule(id))
        }
        (What { source: Some(source), .. }, Some(session)) => {
            note_unknown_source(config, source)?;
            Some(Cause::upstream_session(source, session))
        }
        _ => None,
    })
}

fn note_unknown_source(config: &Config, name: &String) -> Result<(), CliError> {
    if config.source_names().contains(name) {
        return Ok(());
    }
    let known = config.source_names().join(", ");
    print(&format!("there is no source {name} now (the configuration has {known}); this ends what may be left of it"))
}

fn by_cause(cause: Cause, storage: &Storage, dry_run: bool, now: i64) -> Result<(), CliError> {
    let shown = cause.to_string();
    if dry_run {
        return would_end(storage.read_blocking(|c| grants_by_cause::count(c, &cause, now))?, &shown);
    }
    let ended = grants_by_cause::end(storage, cause, "command line", now)?;
    print(&format!("revoked {shown}: {} ended, revocation {}", sign_ins(ended.sign_ins), ended.n))
}

fn would_end(count: i64, shown: &str) -> Result<(), CliError> {
    print(&format!("{shown}: {} would be ended; nothing was written", sign_ins(count)))
}

fn sign_ins(count: i64) -> String {
    if count == 1 { "1 sign-in".to_owned() } else { format!("{count} sign-ins") }
}

/// The token itself, or the first line of standard input for `-`.
fn whole(token: Secret) -> Result<Secret, CliError> {
    if token.expose() != "-" {
        return Ok(token);
    }
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().lock().read_line(&mut line).map_err(|reason| CliError::Said(format!("cannot read standard input: {reason}")))?;
    match line.trim() {
        "" => Err(CliError::Said("there is no token on standard input".to_owned())),
        token => Ok(Secret::new(token)),
    }
}

/// The account id or client id that somebody means by `subject`.
fn subject_of(c: &mut Connection, subject: &str) -> Result<Option<String>, StorageError> {
    if AccountId::has_form(subject)
        && let Some(account) = accounts::find(c, subject)?
    {
        return Ok(Some(account.id));
    }
    if let Some(account) = accounts::find_by_username(c, subject)? {
        return Ok(Some(account.id));
    }
    Ok(clients::find(c, subject)?.map(|(row, _)| row.id))
}

fn write(tx: &mut Connection, kind: Kind, value: &str, until: i64, now: i64) -> Result<i64, StorageError> {
    let detail = serde_json::json!({ "kind": kind.as_str(), "value": value, "by": "command line" });
    audit::insert(tx, &Record::ok(Event::Revoked, now).detail(detail))?;
    feed::append(tx, kind.as_str(), value, until, now)
}

fn one(token: &Secret, config: &Config, storage: &Storage, now: i64) -> Result<(), CliError> {
    let keys = app::open_keys(config, storage, false, now)?;
    let ring = keys.ring();
    let done = if let refresh::Opened::Claims(claims) = refresh::open(&ring, token.expose()) {
        storage.write_blocking(move |tx| {
            let Some(family) = grants::family(tx, claims.family.as_str())?.filter(|_| now < claims.exp) else { return Ok(None) };
            grants::kill_family(tx, &family.id)?;
            let until = grants::find(tx, &family.grant_id)?.map_or(family.expires_at + CLOCK_MARGIN, |grant| grant.expires_at);
            write(tx, Kind::Grant, &family.grant_id, until, now).map(Some)
        })?
    } else if let Opened::Claims(claims) = access::open(&ring, &config.server.issuer(), token.expose()) {
        match claims.exp {
            exp if exp <= now => None,
            exp => Some(storage.write_blocking(move |tx| write(tx, Kind::Token, &claims.jti, exp + CLOCK_MARGIN, now))?),
        }
    } else {
        return Err(CliError::Said("this is no token of ours, or its key is gone".to_owned()));
    };
    match done {
        Some(n) => print(&format!("revoked the token, revocation {n}")),
        None => print("the token has expired; there is nothing to revoke"),
    }
}
