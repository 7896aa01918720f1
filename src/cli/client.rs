//! `countersign client`: clients and their secrets.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client_settings::Settings;
use super::keys::when;
use super::{CliError, print, print_json};
use crate::clients::Client;
use crate::clients::admin::{self, NewSecret};
use crate::clock::Clock;
use crate::config::{self, AuthMethod, Config};
use crate::storage::{Storage, StorageError, clients};

#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Add a client; its secret is generated and printed once
    Add(Box<Add>),
    /// List all clients
    List {
        #[arg(long)]
        json: bool,
    },
    /// Show one client, its secrets by id
    Show {
        id: String,
        #[arg(long)]
        json: bool,
    },
    /// Remove a client; everything issued to it is dead
    Remove { id: String },
    /// Add and remove secrets, several of which may live at a time
    #[command(subcommand)]
    Secret(SecretCommand),
}

#[derive(Debug, Args)]
pub struct Add {
    id: String,
    #[command(flatten)]
    settings: Settings,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Make one more secret, printed once
    Add {
        id: String,
        /// End it after this time, such as 90d
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        expires_in: Option<Duration>,
        #[arg(long)]
        json: bool,
    },
    /// Remove a secret by its id
    Remove { id: String, secret_id: String },
}

pub fn run(command: ClientCommand, config: &Config, storage: &Storage, clock: &Clock) -> Result<(), CliError> {
    let now = clock.now();
    match command {
        ClientCommand::Add(add) => self::add(*add, config, storage, now),
        ClientCommand::List { json } => list(storage, json),
        ClientCommand::Show { id, json } => show(storage, &id, json),
        ClientCommand::Remove { id } => {
            editable(config, storage, &id)?;
            storage.write_blocking({
                let id = id.clone();
                move |tx| admin::remove(tx, &id, now)
            })?;
            print(&format!("the client {id} is removed, and everything issued to it is dead"))
        }
        ClientCommand::Secret(SecretCommand::Add { id, expires_in, json }) => {
            editable(config, storage, &id)?;
            if proves_itself_by_key(&find(storage, &id)?.settings) {
                let mend = "it would never be accepted; make another client for what needs a secret";
                return Err(CliError::Said(format!(
                    "the client {id} proves itself by its key (private_key_jwt) and takes no secret: {mend}"
                )));
            }
            let expires_at = expires_in.map(|duration| now + duration.as_secs() as i64);
            let made = storage.write_blocking({
                let id = id.clone();
                move |tx| admin::add_secret(tx, &id, expires_at, now)
            })?;
            print_secret(&id, Some(&made), false, json)
        }
        ClientCommand::Secret(SecretCommand::Remove { id, secret_id }) => {
            editable(config, storage, &id)?;
            let (client, secret) = (id.clone(), secret_id.clone());
            if !storage.write_blocking(move |tx| admin::remove_secret(tx, &client, &secret, now))? {
                return Err(CliError::Said(format!("the client {id} has no secret {secret_id}; countersign client show {id} lists them")));
            }
            print(&format!("the secret {secret_id} of {id} is removed"))
        }
    }
}

fn add(add: Add, config: &Config, storage: &Storage, now: i64) -> Result<(), CliError> {
    let settings = add.settings.into_client(&add.id, config)?;
    let (id, by_key) = (settings.id.clone(), proves_itself_by_key(&settings));
    let made = storage.write_blocking(move |tx| {
        admin::add(tx, &settings, false, now)?;
        if settings.public || by_key { Ok(None) } else { admin::add_secret(tx, &settings.id, None, now).map(Some) }
    });
    match made {
        Ok(secret) => print_secret(&id, secret.as_ref(), by_key, add.json),
        Err(StorageError::Conflict(_)) => Err(CliError::Said(format!("there is a client {id} already; see countersign client show {id}"))),
        Err(error) => Err(error.into()),
    }
}

/// The one time that a secret is shown.
fn print_secret(id: &str, made: Option<&NewSecret>, by_key: bool, as_json: bool) -> Result<(), CliError> {
    if as_json {
        let mut shown = json!({ "client_id": id });
        if let (Some(made), Some(members)) = (made, shown.as_object_mut()) {
            members.insert("client_secret".to_owned(), made.secret.expose().into());
            members.insert("secret_id".to_owned(), made.id.as_str().into());
        }
        return print_json(&shown);
    }
    print(&format!("client_id      {id}"))?;
    match made {
        None if by_key => print("it proves itself by its key (private_key_jwt), and has no secret"),
        Some(made) => print(&format!("client_secret  {}   (shown once)\nsecret_id      {}", made.secret.expose(), made.id)),
        None => print("a public client has no secret"),
    }
}

fn proves_itself_by_key(settings: &config::Client) -> bool {
    settings.auth_method == Some(AuthMethod::PrivateKeyJwt)
}

/// Declared clients belong to the file.
fn editable(config: &Config, storage: &Storage, id: &str) -> Result<(), CliError> {
    let client = find(storage, id)?;
    if !client.declared {
        return Ok(());
    }
    let position = config.clients.iter().position(|declared| declared.id == id);
    let place = position
        .and_then(|i| config.locations.find(&format!("client[{i}]")))
        .unwrap_or_else(|| "the configuration of the server".to_owned());
    Err(CliError::Said(format!("the client {id} is declared at {place}: change it there")))
}

fn find(storage: &Storage, id: &str) -> Result<Client, CliError> {
    let found = storage.read_blocking(|c| clients::find(c, id))?.map(|(row, secrets)| Client::from_rows(&row, &secrets));
    found.ok_or_else(|| CliError::Said(format!("there is no client {id}; countersign client list shows all")))
}

fn list(storage: &Storage, as_json: bool) -> Result<(), CliError> {
    let all: Vec<_> = storage.read_blocking(clients::all)?.iter().map(|(row, secrets)| Client::from_rows(row, secrets)).collect();
    if as_json {
        return print_json(&all.iter().map(describe).collect::<Vec<_>>());
    }
    for client in &all {
        let kind = if client.settings.public { "public" } else { "confidential" };
        let origin = if client.declared { "declared" } else { "" };
        let grants = client.settings.grants.join(" ");
        print(format!("{:<30} {:<13} {:<9} {}", client.id.as_str(), kind, origin, grants).trim_end())?;
    }
    Ok(())
}

fn show(storage: &Storage, id: &str, as_json: bool) -> Result<(), CliError> {
    let client = find(storage, id)?;
    let described = describe(&client);
    if as_json {
        return print_json(&described);
    }
    for (key, value) in described.as_object().into_iter().flatten().filter(|(key, value)| *key != "secrets" && !value.is_null()) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        print(&format!("{key:<18} {value}"))?;
    }
    for secret in &client.secrets {
        let used = match secret.last_used_at() {
            0 => "never used".to_owned(),
            at => format!("last used {}", when(at)),
        };
        let ends = secret.expires_at.map_or_else(|| "does not expire".to_owned(), |at| format!("expires {}", when(at)));
        print(&format!("secret             {}   {ends}, {used}", secret.id))?;
    }
    Ok(())
}

/// The client as JSON, with its secrets by id.
fn describe(client: &Client) -> serde_json::Value {
    let mut value = serde_json::to_value(&client.settings).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        let secrets = client.secrets.iter().map(|secret| {
            let used = Some(secret.last_used_at()).filter(|at| *at > 0);
            json!({ "id": secret.id, "expires_at": secret.expires_at, "last_used_at": used })
        });
        members.insert("secrets".to_owned(), secrets.collect());
        members.insert("declared".to_owned(), client.declared.into());
        members.insert("disabled".to_owned(), client.disabled.into());
    }
    value
}
