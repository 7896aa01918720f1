//! Secrets go only where they went before. Whoever can change the configuration, but not read the secret, must not have it sent to
//! themselves: a host that is new for a secret, or a weaker way to a known one, is confirmed by the operator. Ports may change.
//!
//! What is remembered for each secret: the hosts, how they are told from others, the file, and a digest of the secret sealed under
//! the key-encryption key. A secret is known by its source, its file or its digest, so that another name does not make it new. A new
//! secret in the file makes no host known: files are exchanged while the server runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StartError;
use crate::config::{Config, LdapSource, LdapTls, OidcSource, Problem, SourceKind};
use crate::identity::certificates;
use crate::oauth2::secret::{Digest, hex};
use crate::outbound::Address;
use crate::storage::{Storage, StorageError, settings};
use crate::tokens::kek::Kek;

const PREFIX: &str = "secret:";
const PLAINTEXT: &str = "plain text";
const SYSTEM_ROOTS: &str = "the system's authorities";

/// A secret of the configuration and the hosts that would be given it.
struct Sent {
    source: String,
    /// The key of the file, which names it in the database too.
    key: &'static str,
    file: PathBuf,
    /// The path of the key that names the hosts.
    place: String,
    hosts: BTreeSet<String>,
    ways: BTreeSet<String>,
}

/// What the database remembers.
#[derive(Clone, Serialize, Deserialize, PartialEq)]
struct Known {
    hosts: BTreeSet<String>,
    /// Either plain text, or whose certificates count, and for which name if not the host's. None: remembered by an older version.
    #[serde(default)]
    ways: Option<BTreeSet<String>>,
    /// The path of the file, without links.
    #[serde(default)]
    file: Option<String>,
    kek: String,
    secret: String,
}

impl Known {
    fn is_of(&self, name: &str, kek: &Kek, digest: &Digest) -> bool {
        kek.open(name, &self.kek, &self.secret).is_ok_and(|plain| plain.as_slice() == digest.as_bytes())
    }
}

impl Sent {
    fn name(&self) -> String {
        format!("{PREFIX}{}:{}", self.source, self.key)
    }

    /// None where the file cannot be read, which others report.
    fn digest(&self) -> Option<Digest> {
        let content = std::fs::read(&self.file).map(zeroize::Zeroizing::new).ok()?;
        Some(Digest::of(content.trim_ascii_end()))
    }

    fn path(&self) -> String {
        std::fs::canonicalize(&self.file).unwrap_or_else(|_| self.file.clone()).to_string_lossy().into_owned()
    }

    fn is_protected(&self) -> bool {
        !self.ways.contains(PLAINTEXT)
    }

    /// Why the secret must not go there, given one or more memories of it.
    fn refusal(&self, known: &[&Known]) -> Option<Problem> {
        let hosts: BTreeSet<&String> = known.iter().flat_map(|known| &known.hosts).collect();
        let new: Vec<&str> = self.hosts.iter().filter(|host| !hosts.contains(host)).map(String::as_str).collect();
        let (file, source) = (self.file.display(), &self.source);
        let mend = format!("if that is meant, run countersign check --confirm-hosts {source}; if not, somebody wants to read it");
        if !new.is_empty() {
            let had: Vec<&str> = hosts.into_iter().map(String::as_str).collect();
            let (new, had) = (new.join(", "), had.join(", "));
            let reason = format!("{new} would be sent the secret in {file}; until now only {had} had it, or the one before it: {mend}");
            return Some(Problem::new(&self.place, reason));
        }
        let ways: Vec<&BTreeSet<String>> = known.iter().filter_map(|known| known.ways.as_ref()).collect();
        // Where plain text was good enough, every protection is better. Nothing is said against what no memory tells.
        if ways.is_empty() || (self.is_protected() && ways.iter().any(|ways| ways.contains(PLAINTEXT))) {
            return None;
        }
        let new: Vec<&str> = self.ways.iter().filter(|way| !ways.iter().any(|known| known.contains(*way))).map(String::as_str).collect();
        let (new, had) = (new.join(", "), ways.into_iter().flatten().map(String::as_str).collect::<BTreeSet<_>>());
        let had = had.into_iter().collect::<Vec<_>>().join(", ");
        let reason = match self.is_protected() {
            _ if new.is_empty() => return None,
            true => format!("the secret in {file} would go to whoever is vouched for by {new}; until now it was by {had}: {mend}"),
            false => format!("the secret in {file} would be sent in plain text; until now it was protected by TLS: {mend}"),
        };
        Some(Problem::new(&self.place, reason))
    }

    /// What is to be remembered, given what was.
    fn remembered(&self, before: Option<&Known>, kek: &Kek, digest: &Digest) -> Result<Known, StartError> {
        let (mut hosts, mut ways) = (self.hosts.clone(), self.ways.clone());
        let same = before.filter(|known| known.is_of(&self.name(), kek, digest));
        if let Some(known) = same {
            hosts.extend(known.hosts.iter().cloned());
            // Plain text is forgotten once the secret goes protected.
            ways.extend(known.ways.iter().flatten().filter(|way| !self.is_protected() || *way != PLAINTEXT).cloned());
        }
        let (under, secret) = match same.filter(|known| known.kek == kek.name()) {
            Some(known) => (known.kek.clone(), known.secret.clone()),
            None => (kek.name().to_owned(), kek.seal(&self.name(), kek.name(), digest.as_bytes())?),
        };
        Ok(Known { hosts, ways: Some(ways), file: Some(self.path()), kek: under, secret })
    }
}

fn sent(config: &Config) -> impl Iterator<Item = Sent> {
    config.sources.iter().enumerate().filter_map(|(i, source)| match &source.kind {
        SourceKind::Local(_) => None,
        SourceKind::Ldap(ldap) => Some(Sent {
            source: source.name.clone(),
            key: "bind_password_file",
            file: ldap.bind_password_file.clone()?,
            place: format!("source[{i}].urls"),
            hosts: ldap.urls.iter().filter_map(|url| url.host_str()).map(str::to_ascii_lowercase).collect(),
            ways: ways_of_ldap(ldap),
        }),
        SourceKind::Oidc(oidc) => {
            let base = address_of_api(oidc)?;
            Some(Sent {
                source: source.name.clone(),
                key: "api_token_file",
                file: oidc.api_token_file.clone()?,
                place: format!("source[{i}].{}", if oidc.base_url.is_some() { "base_url" } else { "issuer" }),
                hosts: BTreeSet::from([base.place().0.to_ascii_lowercase()]),
                ways: if base.is_https() { authorities(oidc.ca_file.as_deref()) } else { BTreeSet::from([PLAINTEXT.to_owned()]) },
            })
        }
    })
}

/// Where Okta's API token goes. None where it is no address, which others report.
fn address_of_api(oidc: &OidcSource) -> Option<Address> {
    Address::parse(oidc.base_url.as_ref().unwrap_or(&oidc.issuer)).ok()
}

fn ways_of_ldap(ldap: &LdapSource) -> BTreeSet<String> {
    if ldap.tls == Some(LdapTls::None) {
        return BTreeSet::from([PLAINTEXT.to_owned()]);
    }
    let mut ways = authorities(ldap.ca_file.as_deref());
    ways.extend(ldap.server_name.as_ref().map(|name| format!("a certificate for {}", name.to_ascii_lowercase())));
    ways
}

/// The authorities of a PEM file, each by its digest: fewer of them are no other recipient, nor is the file under another name. A
/// file that cannot be read is reported by others.
fn authorities(file: Option<&Path>) -> BTreeSet<String> {
    let Some(file) = file else { return BTreeSet::from([SYSTEM_ROOTS.to_owned()]) };
    let found = certificates::read_file(file).unwrap_or_default();
    found.iter().map(|authority| format!("the authority {}", hex(Digest::of(authority).as_bytes()))).collect()
}

/// Errors: secrets that would go to hosts that never had them, with file and line. What is new otherwise is remembered.
pub fn keep(config: &Config, storage: &Storage, kek: &Kek) -> Result<(), StartError> {
    let problems = look(config, storage, kek, Mode::Remember(None))?;
    if problems.is_empty() { Ok(()) } else { Err(config.locations.explain(problems).into()) }
}

/// The same without remembering anything.
///
/// Errors: the database's.
pub fn compare(config: &Config, storage: &Storage, kek: &Kek) -> Result<Vec<Problem>, StartError> {
    look(config, storage, kek, Mode::Compare)
}

/// The operator says that the secrets of `source` may go where the configuration says.
///
/// Errors: the database's.
pub fn confirm(config: &Config, storage: &Storage, kek: &Kek, source: &str) -> Result<(), StartError> {
    look(config, storage, kek, Mode::Remember(Some(source))).map(|_| ())
}

enum Mode<'a> {
    Compare,
    /// With the source whose new hosts are confirmed.
    Remember(Option<&'a str>),
}

fn look(config: &Config, storage: &Storage, kek: &Kek, mode: Mode<'_>) -> Result<Vec<Problem>, StartError> {
    let stored = storage.read_blocking(settings::all)?;
    let stored = stored.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
    let all: Vec<(String, Known)> = stored.filter_map(|(name, text)| Some((name, serde_json::from_str(&text).ok()?))).collect();
    let (mut problems, mut news) = (Vec::new(), Vec::new());
    for sent in sent(config) {
        let Some(digest) = sent.digest() else { continue };
        let (own_name, path) = (sent.name(), sent.path());
        let own = all.iter().find(|(name, _)| *name == own_name).map(|(_, known)| known);
        let is_it = |name: &str, known: &Known| known.is_of(name, kek, &digest) || known.file.as_ref() == Some(&path);
        // Under whatever name: another source would be another way to the same secret.
        let alike: Vec<&Known> = all.iter().filter(|(name, known)| is_it(name, known)).map(|(_, known)| known).collect();
        let refusal = own.and_then(|own| sent.refusal(&[own])).or_else(|| sent.refusal(&alike).filter(|_| !alike.is_empty()));
        let is_confirmed = matches!(mode, Mode::Remember(Some(source)) if source == sent.source);
        match refusal.filter(|_| !is_confirmed) {
            Some(refusal) => problems.push(refusal),
            None => {
                let known = sent.remembered(own, kek, &digest)?;
                if Some(&known) != own {
                    let text = serde_json::to_string(&known).map_err(|e| StorageError::Invalid(e.to_string()))?;
                    news.push((own_name, text));
                }
            }
        }
    }
    if matches!(mode, Mode::Remember(_)) && !news.is_empty() {
        storage.write_blocking(move |tx| news.iter().try_for_each(|(name, text)| settings::put(tx, name, text)))?;
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_version_remembered_is_read() {
        let known: Known = serde_json::from_str(r#"{"hosts":["a.test"],"kek":"k","secret":"s"}"#).unwrap();
        assert!(known.hosts.contains("a.test") && known.ways.is_none() && known.file.is_none());
        let of_lab = |hosts: &[&str]| Sent {
            source: "lab".to_owned(),
            key: "bind_password_file",
            file: PathBuf::from("lab.password"),
            place: "source[0].urls".to_owned(),
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            ways: BTreeSet::from([PLAINTEXT.to_owned()]),
        };
        assert_eq!(of_lab(&["a.test"]).refusal(&[&known]), None);
        assert!(of_lab(&["a.test", "b.test"]).refusal(&[&known]).unwrap().reason.starts_with("b.test would be sent"));
    }
}
