//! Secrets go only where they went before. Whoever can change a URL, but not read the secret, must not have it sent to themselves: a
//! host that is new for a secret is confirmed by the operator, or comes with a new secret. Ports and schemes of a host may change.
//!
//! What is remembered for each secret: the hosts, and a digest of the secret sealed under the key-encryption key. A digest that
//! another key sealed tells nothing, and the secret counts as new.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::StartError;
use crate::config::{Config, Problem, SourceKind};
use crate::oauth2::secret::Digest;
use crate::storage::{Storage, StorageError, settings};
use crate::tokens::kek::Kek;

/// A secret of the configuration and the hosts that would be given it.
struct Sent {
    source: String,
    /// The key of the file, which names it in the database too.
    key: &'static str,
    file: PathBuf,
    /// The path of the key that names the hosts.
    place: String,
    hosts: BTreeSet<String>,
}

/// What the database remembers.
#[derive(Serialize, Deserialize)]
struct Known {
    hosts: BTreeSet<String>,
    kek: String,
    secret: String,
}

impl Sent {
    fn name(&self) -> String {
        format!("secret:{}:{}", self.source, self.key)
    }

    /// None where the file cannot be read, which others report.
    fn digest(&self) -> Option<Digest> {
        let content = std::fs::read(&self.file).map(zeroize::Zeroizing::new).ok()?;
        Some(Digest::of(content.trim_ascii_end()))
    }

    /// Whether it is the secret that the database remembers. One that cannot be compared is another.
    fn is(&self, known: &Known, kek: &Kek, digest: &Digest) -> bool {
        kek.open(&self.name(), &known.kek, &known.secret).is_ok_and(|plain| plain.as_slice() == digest.as_bytes())
    }

    fn refusal(&self, new: &[&String], known: &Known) -> Problem {
        let list = |hosts: Vec<&str>| hosts.join(", ");
        Problem::new(
            &self.place,
            format!(
                "{} would be sent the secret in {}, which has only ever been given to {}. If that is meant, run countersign check \
                 --confirm-hosts {}, or put a new secret into the file; if not, somebody wants to read it",
                list(new.iter().map(|host| host.as_str()).collect()),
                self.file.display(),
                list(known.hosts.iter().map(String::as_str).collect()),
                self.source
            ),
        )
    }
}

fn sent(config: &Config) -> impl Iterator<Item = Sent> {
    config.sources.iter().enumerate().filter_map(|(i, source)| match &source.kind {
        SourceKind::Ldap(ldap) => Some(Sent {
            source: source.name.clone(),
            key: "bind_password_file",
            file: ldap.bind_password_file.clone()?,
            place: format!("source[{i}].urls"),
            hosts: ldap.urls.iter().filter_map(|url| url.host_str()).map(str::to_ascii_lowercase).collect(),
        }),
        SourceKind::Local(_) | SourceKind::Oidc(_) => None,
    })
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
    let (mut problems, mut news) = (Vec::new(), Vec::new());
    for sent in sent(config) {
        let stored = storage.read_blocking(|c| settings::get(c, &sent.name()))?;
        let known = stored.and_then(|stored| serde_json::from_str::<Known>(&stored).ok());
        let Some(digest) = sent.digest() else { continue };
        let mut hosts = sent.hosts.clone();
        if let Some(known) = known.filter(|known| sent.is(known, kek, &digest)) {
            let new: Vec<_> = hosts.difference(&known.hosts).collect();
            if new.is_empty() {
                continue;
            }
            if !matches!(mode, Mode::Remember(Some(source)) if source == sent.source) {
                problems.push(sent.refusal(&new, &known));
                continue;
            }
            hosts.extend(known.hosts);
        }
        let known = Known { hosts, kek: kek.name().to_owned(), secret: kek.seal(&sent.name(), kek.name(), digest.as_bytes())? };
        let text = serde_json::to_string(&known).map_err(|e| StorageError::Invalid(e.to_string()))?;
        news.push((sent.name(), text));
    }
    if matches!(mode, Mode::Remember(_)) && !news.is_empty() {
        storage.write_blocking(move |tx| news.iter().try_for_each(|(name, text)| settings::put(tx, name, text)))?;
    }
    Ok(problems)
}
