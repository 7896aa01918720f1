//! `countersign user`: accounts, from the command line. Works on the database itself, beside a running server, which learns of
//! everything through the feed.

use std::io::{self, BufRead, Read, Write};
use std::time::{Duration, UNIX_EPOCH};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::accounts::local::{self, AccountError, Act, NewLocal};
use crate::clock::Clock;
use crate::config::{Config, SourceKind};
use crate::identity::local::policy::{self, PolicyError};
use crate::identity::local::{HashError, ISSUER, hasher, login};
use crate::oauth2::{AccountId, Secret};
use crate::storage::accounts::{self, AccountRow, PasswordRow};
use crate::storage::{Connection, Storage, StorageError, settings};

#[cfg(test)]
mod tests;

/// What `countersign user` can do. NAME is a username, a login of a local account, or an account id.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a local account; its password is generated and printed once
    Add {
        name: String,
        #[arg(long)]
        email: Option<String>,
        /// A role of the account; may be given several times
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// Read the password from the first line of standard input instead
        #[arg(long)]
        password_stdin: bool,
        #[arg(long)]
        json: bool,
    },
    /// List all accounts
    List {
        #[arg(long)]
        json: bool,
    },
    /// Show one account
    Show {
        name: String,
        #[arg(long)]
        json: bool,
    },
    /// Refuse sign-ins and end everything issued to the account
    Disable { name: String },
    /// Allow sign-ins again; what was issued before stays ended
    Enable { name: String },
    /// Give a local account another password, generated and printed once; tokens stay valid, see sign-out
    SetPassword {
        name: String,
        /// Read the password from the first line of standard input instead
        #[arg(long)]
        password_stdin: bool,
        #[arg(long)]
        json: bool,
    },
    /// End everything issued to the account
    SignOut { name: String },
    /// Remove the account and end everything issued to it; its id is never used again
    Remove { name: String },
}

/// Why a `user` command failed. Printed as it is; the exit code is 1.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("there is no account {0}; countersign user list shows all")]
    Unknown(String),
    #[error("no source of type local is configured; add one to the file: [[source]] name = \"local\", type = \"local\"")]
    NoLocalSource,
    #[error("{0} signs in through the source {1}, where the password is kept; change it there")]
    NotLocal(String, String),
    #[error("{0:?} is no e-mail address")]
    Email(String),
    #[error("no password on standard input; pipe one line, for example from a password manager")]
    NoPassword,
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("the password could not be hashed: {0}")]
    Hash(#[from] HashError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("standard input or output: {0}")]
    Io(#[from] io::Error),
}

/// Runs one command on the process's own input and output.
pub fn run(command: UserCommand, config: &Config, storage: &Storage, clock: &Clock) -> Result<(), UserError> {
    let room = Room { config, storage, clock };
    let mut out = io::stdout().lock();
    room.run(command, &mut io::stdin().lock(), &mut out)?;
    Ok(out.flush()?)
}

struct Room<'a> {
    config: &'a Config,
    storage: &'a Storage,
    clock: &'a Clock,
}

impl Room<'_> {
    fn run(&self, command: UserCommand, input: &mut impl BufRead, out: &mut impl Write) -> Result<(), UserError> {
        match command {
            UserCommand::Add { name, email, roles, password_stdin, json } => {
                self.add(out, &name, email, roles, read_password(password_stdin, input)?, json)
            }
            UserCommand::List { json } => self.list(out, json),
            UserCommand::Show { name, json } => self.show(out, &name, json),
            UserCommand::Disable { name } => {
                let name = self.change(&name, |tx, account, act| local::set_disabled(tx, account, true, act))?;
                Ok(writeln!(out, "{name} is disabled and signed out")?)
            }
            UserCommand::Enable { name } => {
                let name = self.change(&name, |tx, account, act| local::set_disabled(tx, account, false, act))?;
                Ok(writeln!(out, "{name} is enabled")?)
            }
            UserCommand::SetPassword { name, password_stdin, json } => {
                self.set_password(out, &name, read_password(password_stdin, input)?, json)
            }
            UserCommand::SignOut { name } => {
                let name = self.change(&name, local::sign_out)?;
                Ok(writeln!(out, "{name} is signed out everywhere")?)
            }
            UserCommand::Remove { name } => {
                let name = self.change(&name, local::remove)?;
                Ok(writeln!(out, "{name} is removed and signed out")?)
            }
        }
    }

    fn add(
        &self,
        out: &mut impl Write,
        name: &str,
        email: Option<String>,
        roles: Vec<String>,
        typed: Option<Secret>,
        json: bool,
    ) -> Result<(), UserError> {
        let source = self.local_source().ok_or(UserError::NoLocalSource)?.to_owned();
        if let Some(bad) = email.as_ref().filter(|email| !is_email(email)) {
            return Err(UserError::Email(bad.clone()));
        }
        if let Some(password) = &typed {
            policy::check(password, &[name, email.as_deref().unwrap_or_default()], &self.config.accounts)?;
        }
        let generated = typed.is_none();
        let password = typed.unwrap_or_else(policy::generate);
        let hash = hasher::hash_now(&password)?;
        let new = NewLocal { source, username: name.to_owned(), email, roles, hash, must_change: generated, never_changed: generated };
        let first = self.first_source().to_owned();
        let account = self.write(move |tx, act| local::create(tx, &new, &first, act))?;
        print_password(out, &account, generated.then_some(&password), "made", json)
    }

    fn set_password(&self, out: &mut impl Write, name: &str, typed: Option<Secret>, json: bool) -> Result<(), UserError> {
        let account = self.find(name)?.account;
        if !self.is_local(&account.source) {
            return Err(UserError::NotLocal(account.username, account.source));
        }
        if let Some(password) = &typed {
            let words = [account.username.as_str(), account.email.as_deref().unwrap_or_default()];
            policy::check(password, &words, &self.config.accounts)?;
        }
        let generated = typed.is_none();
        let password = typed.unwrap_or_else(policy::generate);
        let hash = hasher::hash_now(&password)?;
        let row = account.clone();
        self.write(move |tx, act| local::set_password(tx, &row, &hash, generated, generated, act))?;
        print_password(out, &account, generated.then_some(&password), "changed", json)
    }

    fn list(&self, out: &mut impl Write, json: bool) -> Result<(), UserError> {
        let all = self.storage.read_blocking(|c| accounts::list(c)?.into_iter().map(|a| Shown::of(c, a)).collect::<Result<Vec<_>, _>>())?;
        if json {
            return print_json(out, &Value::Array(all.iter().map(Shown::to_json).collect()));
        }
        let width = all.iter().map(|a| a.account.username.chars().count()).max().unwrap_or(0).max(8);
        writeln!(out, "{:width$}  {:32}  {:12}  {:8}  ROLES", "USERNAME", "ACCOUNT ID", "SOURCE", "STATE")?;
        for Shown { account, roles, .. } in &all {
            let (name, state) = (&account.username, state(account));
            writeln!(out, "{name:width$}  {:32}  {:12}  {state:8}  {}", account.id, account.source, roles.join(" "))?;
        }
        Ok(())
    }

    fn show(&self, out: &mut impl Write, name: &str, json: bool) -> Result<(), UserError> {
        let shown = self.find(name)?;
        if json {
            return print_json(out, &shown.to_json());
        }
        let Shown { account, roles, password } = &shown;
        let mut line = |label: &str, value: &str| writeln!(out, "{label:13} {value}");
        line("username", &account.username)?;
        line("account id", &account.id)?;
        line("number", &account.number.to_string())?;
        line("source", &account.source)?;
        line("e-mail", account.email.as_deref().unwrap_or("-"))?;
        line("name", account.name.as_deref().unwrap_or("-"))?;
        line("state", state(account))?;
        line("roles", &if roles.is_empty() { "-".to_owned() } else { roles.join(" ") })?;
        line("created", &when(Some(account.created_at)))?;
        line("last sign-in", &when(account.last_sign_in_at))?;
        if let Some(password) = password {
            let due = if password.must_change { ", to be changed at the next sign-in" } else { "" };
            line("password set", &format!("{}{due}", when(Some(password.changed_at))))?;
        }
        Ok(())
    }

    /// Runs an act on the account called `name`, and answers its username.
    fn change(
        &self,
        name: &str,
        act: impl FnOnce(&mut Connection, &AccountRow, Act<'_>) -> Result<(), AccountError> + Send + 'static,
    ) -> Result<String, UserError> {
        let account = self.find(name)?.account;
        let username = account.username.clone();
        self.write(move |tx, what| act(tx, &account, what))?;
        Ok(username)
    }

    fn find(&self, name: &str) -> Result<Shown, UserError> {
        let (wanted, source) = (name.to_owned(), self.local_source().map(str::to_owned));
        let found = self.storage.read_blocking(move |c| {
            let account = find_account(c, &wanted, source.as_deref())?;
            account.map(|account| Shown::of(c, account)).transpose()
        })?;
        found.ok_or_else(|| UserError::Unknown(name.to_owned()))
    }

    /// One write transaction. What is refused rolls nothing back, since it has written nothing.
    fn write<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Connection, Act<'_>) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, UserError> {
        let (now, configured) = (self.clock.now(), longest_lifetime(self.config));
        let done = self.storage.write_blocking(move |tx| {
            let stored = settings::get(tx, "longest_lifetime")?.and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
            let until = now.saturating_add(configured.max(stored)).saturating_add(120);
            match act(tx, Act { by: "command line", now, until }) {
                Ok(value) => Ok(Ok(value)),
                Err(AccountError::Storage(error)) => Err(error),
                Err(refused) => Ok(Err(refused)),
            }
        })?;
        Ok(done?)
    }

    /// Without any `[[source]]` there is one, called `local`.
    fn local_source(&self) -> Option<&str> {
        if self.config.sources.is_empty() {
            return Some("local");
        }
        self.config.sources.iter().find(|s| matches!(s.kind, SourceKind::Local(_))).map(|s| s.name.as_str())
    }

    fn is_local(&self, source: &str) -> bool {
        match self.config.sources.iter().find(|s| s.name == source) {
            Some(found) => matches!(found.kind, SourceKind::Local(_)),
            None => self.local_source() == Some(source),
        }
    }

    fn first_source(&self) -> &str {
        self.config.sources.first().map_or("local", |s| s.name.as_str())
    }
}

/// By account id, username as stored, or login of a local account, in this order: a directory may call somebody by what looks like
/// another account's id, and must not be taken for it.
fn find_account(c: &mut Connection, name: &str, local_source: Option<&str>) -> Result<Option<AccountRow>, StorageError> {
    if AccountId::has_form(name)
        && let Some(account) = accounts::find(c, name)?
    {
        return Ok(Some(account));
    }
    let Ok(normal) = login::normalise(name) else { return Ok(None) };
    if let Some(account) = accounts::find_by_username(c, &normal)? {
        return Ok(Some(account));
    }
    let (Some(source), Ok(folded)) = (local_source, login::fold(name)) else { return Ok(None) };
    accounts::find_by_link(c, source, ISSUER, &folded)
}

/// The longest life that this configuration gives to anything, in seconds.
fn longest_lifetime(config: &Config) -> i64 {
    let clients = config.clients.iter().filter_map(|client| client.access_lifetime);
    let longest = clients.chain([config.tokens.access_lifetime, config.tokens.refresh_lifetime]).max().unwrap_or_default();
    i64::try_from(longest.as_secs()).unwrap_or(i64::MAX)
}

/// An account with what belongs to it.
struct Shown {
    account: AccountRow,
    roles: Vec<String>,
    password: Option<PasswordRow>,
}

impl Shown {
    fn of(c: &mut Connection, account: AccountRow) -> Result<Shown, StorageError> {
        Ok(Shown { roles: accounts::roles(c, &account.id)?, password: accounts::password(c, &account.id)?, account })
    }

    fn to_json(&self) -> Value {
        let a = &self.account;
        json!({
            "account_id": a.id, "number": a.number, "username": a.username, "source": a.source, "email": a.email, "name": a.name,
            "disabled": a.disabled, "roles": self.roles, "created_at": a.created_at, "updated_at": a.updated_at,
            "last_sign_in_at": a.last_sign_in_at,
            "must_change_password": self.password.as_ref().is_some_and(|p| p.must_change),
        })
    }
}

fn state(account: &AccountRow) -> &'static str {
    if account.disabled { "disabled" } else { "enabled" }
}

/// RFC 3339 in UTC, or a dash.
fn when(seconds: Option<i64>) -> String {
    let time = seconds.and_then(|s| u64::try_from(s).ok()).and_then(|s| UNIX_EPOCH.checked_add(Duration::from_secs(s)));
    time.map_or_else(|| "-".to_owned(), |time| humantime::format_rfc3339_seconds(time).to_string())
}

/// The first line of the input. Read with a bound: a password has at most [`policy::LONGEST`] bytes.
fn read_password(from_input: bool, input: &mut impl BufRead) -> Result<Option<Secret>, UserError> {
    if !from_input {
        return Ok(None);
    }
    let mut line = zeroize::Zeroizing::new(String::with_capacity(1024));
    input.take(1_000).read_line(&mut line)?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err(UserError::NoPassword),
        password => Ok(Some(Secret::new(password))),
    }
}

fn is_email(text: &str) -> bool {
    let parts = text.rsplit_once('@');
    parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && text.len() <= 254
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn print_json(out: &mut impl Write, value: &Value) -> Result<(), UserError> {
    Ok(writeln!(out, "{value:#}")?)
}

/// Says what was done, and the generated password. It is printed here and nowhere else.
fn print_password(out: &mut impl Write, account: &AccountRow, generated: Option<&Secret>, done: &str, json: bool) -> Result<(), UserError> {
    let AccountRow { id, username, .. } = account;
    if json {
        let mut value = json!({ "account_id": id, "username": username });
        if let (Some(password), Some(members)) = (generated, value.as_object_mut()) {
            members.insert("password".to_owned(), password.expose().into());
        }
        return print_json(out, &value);
    }
    match (done, generated) {
        ("made", None) => writeln!(out, "{username} is made, account id {id}")?,
        (_, None) => writeln!(out, "the password of {username} is changed")?,
        ("made", Some(password)) => {
            writeln!(out, "{username} is made, account id {id}\npassword, shown this once: {}", password.expose())?;
        }
        (_, Some(password)) => {
            writeln!(out, "the password of {username} is changed\npassword, shown this once: {}", password.expose())?;
        }
    }
    Ok(())
}
