//! Clients: those that ask for people's passwords, secrets that end, and clients that nobody uses.

use crate::cli::keys::when;
use crate::clients::Client;
use crate::clock::Clock;
use crate::config::{self, Config, Introspect};
use crate::identity::finding::{Finding, Findings};
use crate::oauth2::request::GrantType;
use crate::storage::{Storage, clients};

const DAY: i64 = 86_400;
/// A client without a single use for so long is probably forgotten.
const UNUSED_DAYS: i64 = 90;

pub fn look(config: &Config, clock: &Clock, storage: Option<&Storage>) -> Vec<Finding> {
    let mut findings = Findings::about("clients");
    let rows = match storage.map(|storage| storage.read_blocking(clients::all)) {
        Some(Ok(rows)) => rows,
        Some(Err(reason)) => {
            findings.fail("clients", reason.to_string(), "see whether the database runs");
            return findings.done();
        }
        None => Vec::new(),
    };
    let now = clock.now();
    let mut disabled = 0;
    for (row, secrets) in &rows {
        let client = Client::from_rows(row, secrets);
        if client.disabled {
            disabled += 1;
            continue;
        }
        settings(&mut findings, &client.settings, last_use(&client));
        ends(&mut findings, &client, now);
        let old = row.created_at + UNUSED_DAYS * DAY < now;
        if old && !client.settings.public && !client.secrets.is_empty() && last_use(&client).is_none() {
            findings.warn(
                "unused",
                format!("{} was made on {}, and its secret was never used", row.id, when(row.created_at)),
                "remove it, unless somebody is still to use it",
            );
        }
    }
    // Those of the file that no start has stored yet.
    for client in config.clients.iter().filter(|client| !rows.iter().any(|(row, _)| row.id == client.id)) {
        settings(&mut findings, client, None);
    }
    let known = rows.len() + config.clients.iter().filter(|client| !rows.iter().any(|(row, _)| row.id == client.id)).count();
    findings.pass("clients", format!("{known}, of them {disabled} disabled"));
    findings.done()
}

fn last_use(client: &Client) -> Option<i64> {
    client.secrets.iter().map(|secret| secret.last_used_at()).max().filter(|at| *at > 0)
}

fn settings(findings: &mut Findings, client: &config::Client, last: Option<i64>) {
    if client.grants.iter().any(|grant| grant == GrantType::Password.as_str()) {
        let used = last.map_or_else(|| "no use of its secret is known".to_owned(), |at| format!("it was last seen on {}", when(at)));
        findings.warn(
            "password grant",
            format!("{} takes people's passwords itself; {used}", client.id),
            "move it to a sign-in in the browser when it can (RFC 9700 section 2.4), and take the grant away",
        );
    }
    if client.public && client.introspect == Introspect::Any {
        findings.warn(
            "introspection",
            format!("{} can keep no secret, and may look into every token: so may everybody", client.id),
            "give it a secret, or take introspect = \"any\" away",
        );
    }
}

fn ends(findings: &mut Findings, client: &Client, now: i64) {
    let last = client.secrets.iter().map(|secret| secret.expires_at.unwrap_or(i64::MAX)).max();
    let mend = format!("countersign client secret add {} makes another", client.id);
    match last {
        Some(at) if at <= now => findings.warn("secrets", format!("the secrets of {} have expired", client.id), mend),
        Some(at) if at < now + 30 * DAY => findings.warn("secrets", format!("the last secret of {} ends on {}", client.id, when(at)), mend),
        _ => {}
    }
}
