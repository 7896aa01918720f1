//! The very first start of the embedded default: an administrator, a client to try things with, and lines to paste. Printed once,
//! after the commit, and only on a loopback listener.

use std::io::Write;

use super::CliError;
use crate::accounts::local::{self, Act, NewLocal};
use crate::app::App;
use crate::clients::admin;
use crate::config::{self, Introspect};
use crate::identity::local::{hasher, policy};
use crate::oauth2::request::GrantType;
use crate::server::Listener;
use crate::storage::{StorageError, accounts, clients, settings};

/// The setting that remembers the greeting.
const GREETED: &str = "greeted";
const CLIENT: &str = "getting-started";

/// Greets if this is the embedded default on a database that has never greeted and holds nobody yet.
pub fn greet(app: &App, listener: &Listener) -> Result<(), CliError> {
    if !app.config.embedded || !listener.address().ip().is_loopback() {
        return Ok(());
    }
    let untouched = app.storage.read_blocking(|c| {
        let nobody = accounts::list(c)?.is_empty() && clients::find(c, CLIENT)?.is_none();
        Ok(nobody && settings::get(c, GREETED)?.is_none())
    })?;
    if !untouched {
        return Ok(());
    }
    let password = policy::generate();
    let hash = hasher::hash_now(&password).map_err(|reason| CliError::Said(format!("the first password could not be hashed: {reason}")))?;
    let (first, now) = (app.sources.first_name().to_owned(), app.clock.now());
    let made = app.storage.write_blocking(move |tx| {
        if settings::get(tx, GREETED)?.is_some() {
            return Ok(None);
        }
        settings::put(tx, GREETED, &now.to_string())?;
        let administrator = NewLocal {
            source: first.clone(),
            username: "admin".to_owned(),
            email: None,
            roles: vec!["countersign:admin".to_owned()],
            hash,
            must_change: true,
            never_changed: true,
        };
        let act = Act { by: "first start", now, until: now };
        local::create(tx, &administrator, &first, act).map_err(|reason| StorageError::Invalid(reason.to_string()))?;
        let client = config::Client {
            id: CLIENT.to_owned(),
            grants: vec![GrantType::ClientCredentials.as_str().to_owned()],
            introspect: Introspect::Audience,
            ..config::Client::default()
        };
        admin::add(tx, &client, false, now)?;
        admin::add_secret(tx, CLIENT, None, now).map(Some)
    })?;
    let Some(secret) = made else { return Ok(()) };
    let (issuer, secret) = (&app.issuer, secret.secret);
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\n\
         Countersign runs at {issuer}. This is shown once.\n\n\
         administrator   admin / {}   (to be changed at the first sign-in on a page)\n\
         client          {CLIENT} / {}\n\n\
         Get a token and ask what it means:\n\n\
         CLIENT='{CLIENT}:{}'\n\
         TOKEN=$(curl -s -u \"$CLIENT\" -d grant_type=client_credentials {issuer}/oauth2/token | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\n\
         curl -s -u \"$CLIENT\" -d token=\"$TOKEN\" {issuer}/oauth2/introspect\n",
        password.expose(),
        secret.expose(),
        secret.expose(),
    )?;
    Ok(out.flush()?)
}
