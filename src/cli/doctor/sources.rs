//! The sources: our own accounts, directories, providers.

use std::collections::BTreeSet;

use crate::app;
use crate::clock::Clock;
use crate::config::{Config, SourceKind};
use crate::identity::finding::{Finding, Findings};
use crate::identity::ldap::probe::{self, Account};
use crate::identity::oidc;
use crate::oauth2::SourceName;
use crate::storage::{Storage, accounts};
use crate::tokens::kek::{self, Kek};

/// The sources whose secrets must not be sent, since the hosts never had them.
pub fn withheld(config: &Config, storage: Option<&Storage>) -> BTreeSet<String> {
    let Some(storage) = storage.filter(|_| !kek::is_yet_to_be_made(config)) else { return BTreeSet::new() };
    let compared = Kek::load(config, false).map_err(Into::into).and_then(|kek| app::destinations::compare(config, storage, &kek));
    // What cannot be compared is not sent.
    let Ok(problems) = compared else { return config.source_names().into_iter().collect() };
    let of = |path: &str| config.sources.get(path.strip_prefix("source[")?.split(']').next()?.parse::<usize>().ok()?);
    problems.iter().filter_map(|problem| of(&problem.path)).map(|source| source.name.clone()).collect()
}

pub async fn look(config: &Config, clock: &Clock, only: Option<&str>, withheld: &BTreeSet<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in config.sources.iter().filter(|source| only.is_none_or(|name| source.name == name)) {
        match &source.kind {
            SourceKind::Local(_) => {}
            SourceKind::Ldap(ldap) => {
                let account = if withheld.contains(&source.name) { Account::KeepBack } else { Account::Use };
                found.extend(probe::probe(&SourceName::from(source.name.as_str()), ldap, clock, account).await);
            }
            SourceKind::Oidc(provider) => found.extend(oidc::probe::probe(&source.name, provider, clock).await),
        }
    }
    found
}

/// Accounts of our own.
pub fn accounts(storage: Option<&Storage>) -> Vec<Finding> {
    let mut findings = Findings::about("local accounts");
    let Some(storage) = storage else { return Vec::new() };
    match storage.read_blocking(|c| Ok((accounts::count_passwords(c)?, accounts::with_generated_passwords(c)?))) {
        Err(reason) => findings.fail("passwords", reason.to_string(), "see whether the database runs"),
        Ok((count, generated)) => {
            findings.pass("accounts", format!("{count} with a password of ours"));
            if !generated.is_empty() {
                let shown: Vec<&str> = generated.iter().take(5).map(String::as_str).collect();
                let more =
                    if generated.len() > shown.len() { format!(" and {} more", generated.len() - shown.len()) } else { String::new() };
                findings.warn(
                    "passwords",
                    format!("{}{more}: still the password that was generated", shown.join(", ")),
                    "have them change it: whoever saw it printed knows it (countersign user set-password NAME)",
                );
            }
        }
    }
    findings.done()
}
