//! The key-encryption key: every other key lies in the database sealed under it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::TokenError;
use crate::config::Config;
use crate::oauth2::secret::{Digest, fill_random, hex};

/// Seals and opens rows: the key that the configuration names and, while the rows are on their way from one to another, the key
/// before it. A row tells by name which it needs.
#[derive(Clone)]
pub struct Kek {
    current: One,
    /// `keys.previous_encryption_key_file`: it opens what `keys rewrap` has not sealed again yet.
    previous: Option<One>,
}

/// One key. Its name is derived from it.
#[derive(Clone)]
struct One {
    name: String,
    key: Arc<LessSafeKey>,
    /// Where it was read, for messages.
    origin: String,
}

impl std::fmt::Debug for Kek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kek({})", self.current.name)
    }
}

impl Kek {
    /// Finds the key: the environment, then `keys.encryption_key_file`, then (SQLite only) a file beside the database, which is
    /// made if `create` allows it.
    ///
    /// Errors: no key configured on PostgreSQL, a file that cannot be read, a key that is not 32 bytes of base64.
    pub fn load(config: &Config, create: bool) -> Result<Kek, TokenError> {
        let previous = config.keys.previous_encryption_key_file.as_deref().map(One::read).transpose()?;
        Ok(Kek { current: One::load(config, create)?, previous })
    }

    /// The name under which rows remember the key that the configuration names.
    pub fn name(&self) -> &str {
        &self.current.name
    }

    /// Which of the keys new rows are to be sealed under, given those that are there: the same one, until `keys rewrap` changes it
    /// for all of them at once. So a node that was not restarted yet can still open what another adds. `rows` are the names that
    /// the living rows give.
    pub fn name_for_new<'a>(&'a self, mut rows: impl Iterator<Item = &'a str>) -> &'a str {
        rows.next().unwrap_or(&self.current.name)
    }

    /// Seals `plain` under the key named `kek` for one place: table, column and row id are bound to it. base64.
    ///
    /// Errors: there is no key of this name.
    pub fn seal(&self, place: &str, kek: &str, plain: &[u8]) -> Result<String, TokenError> {
        let mut nonce = [0u8; NONCE_LEN];
        fill_random(&mut nonce);
        let mut sealed = Zeroizing::new(plain.to_vec());
        let one = self.named(kek).ok_or_else(|| self.lacks(place, kek))?;
        one.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.as_bytes()), &mut *sealed)
            .map_err(|_| TokenError::Kek("sealing failed".to_owned()))?;
        Ok(STANDARD.encode([nonce.as_slice(), sealed.as_slice()].concat()))
    }

    /// Opens what [`Kek::seal`] made for the same place under the key named `kek`.
    pub fn open(&self, place: &str, kek: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let one = self.named(kek).ok_or_else(|| self.lacks(place, kek))?;
        let refuse = || TokenError::Kek(format!("{place} was changed since {} sealed it; restore a backup", one.origin));
        let bytes = STANDARD.decode(sealed).map_err(|_| refuse())?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or_else(refuse)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refuse())?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let length = one.key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut plain).map_err(|_| refuse())?.len();
        plain.truncate(length);
        Ok(plain)
    }

    fn named(&self, name: &str) -> Option<&One> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(|one| one.name == name)
    }

    fn lacks(&self, place: &str, kek: &str) -> TokenError {
        let given = |one: &One| format!("{} gives the key {}", one.origin, one.name);
        let previous = self.previous.as_ref().map(|one| format!(" and {}", given(one))).unwrap_or_default();
        TokenError::Kek(format!(
            "{place} was sealed by the key {kek}, and {}{previous}; put the right key back (or, to change it, name it as \
             keys.previous_encryption_key_file and run countersign keys rewrap)",
            given(&self.current)
        ))
    }
}

impl One {
    fn load(config: &Config, create: bool) -> Result<One, TokenError> {
        let keys = &config.keys;
        if let Some(secret) = &keys.encryption_key {
            return One::decode(secret.expose(), "the environment");
        }
        if let Some(file) = &keys.encryption_key_file {
            return One::read(file);
        }
        let Some(file) = made_file(config) else {
            return Err(TokenError::Kek(
                "PostgreSQL needs one that all nodes share: set keys.encryption_key_file or COUNTERSIGN_KEYS__ENCRYPTION_KEY \
                 (make it with: head -c 32 /dev/urandom | base64)"
                    .to_owned(),
            ));
        };
        match file.try_exists() {
            Ok(true) => One::read(&file),
            Ok(false) if create => One::create(&file),
            Ok(false) => Err(TokenError::Kek(format!("{} is missing; it is made at the first start of countersign serve", file.display()))),
            Err(reason) => Err(TokenError::Kek(format!("{}: {reason}", file.display()))),
        }
    }

    fn read(file: &Path) -> Result<One, TokenError> {
        let text = fs::read_to_string(file)
            .map(Zeroizing::new)
            .map_err(|reason| TokenError::Kek(format!("cannot read {}: {reason}", file.display())))?;
        One::decode(text.trim(), &file.display().to_string())
    }

    /// Makes the file once: 0600 and never over an existing one.
    fn create(file: &Path) -> Result<One, TokenError> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        fill_random(bytes.as_mut_slice());
        let text = Zeroizing::new(format!("{}\n", STANDARD.encode(bytes.as_slice())));
        let fail = |reason: std::io::Error| TokenError::Kek(format!("cannot make {}: {reason}", file.display()));
        if let Some(parent) = file.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(fail)?;
        }
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(fail)?;
        out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(fail)?;
        One::decode(text.trim(), &file.display().to_string())
    }

    fn decode(text: &str, origin: &str) -> Result<One, TokenError> {
        let wrong =
            || TokenError::Kek(format!("{origin} does not hold the base64 of 32 bytes; make one with: head -c 32 /dev/urandom | base64"));
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| wrong())?);
        if bytes.len() != 32 {
            return Err(wrong());
        }
        let key = UnboundKey::new(&AES_256_GCM_SIV, &bytes).map_err(|_| wrong())?;
        let mut labelled = Zeroizing::new(b"countersign key-encryption key name".to_vec());
        labelled.extend_from_slice(&bytes);
        let name = hex(Digest::of(&labelled).as_bytes().get(..4).unwrap_or_default());
        Ok(One { name, key: Arc::new(LessSafeKey::new(key)), origin: origin.to_owned() })
    }
}

/// Whether no key is configured and the first start makes one.
pub fn is_yet_to_be_made(config: &Config) -> bool {
    let configured = config.keys.encryption_key.is_some() || config.keys.encryption_key_file.is_some();
    !configured && made_file(config).is_some_and(|file| matches!(file.try_exists(), Ok(false)))
}

/// Where the key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Environment,
    /// A file that the configuration names.
    File(PathBuf),
    /// The file that the first start made, in the folder of the database.
    BesideDatabase(PathBuf),
    /// No key is configured, and PostgreSQL has no place for one.
    Nowhere,
}

/// Where [`Kek::load`] looks.
pub fn origin(config: &Config) -> Origin {
    match (&config.keys.encryption_key, &config.keys.encryption_key_file) {
        (Some(_), _) => Origin::Environment,
        (None, Some(file)) => Origin::File(file.clone()),
        (None, None) => made_file(config).map_or(Origin::Nowhere, Origin::BesideDatabase),
    }
}

/// The file beside a SQLite database that holds the key where none is configured.
fn made_file(config: &Config) -> Option<PathBuf> {
    let database = config.database.sqlite_path()?;
    Some(Path::new(database).parent().unwrap_or(Path::new("")).join("key-encryption-key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Kek {
        Kek { current: One::decode(&STANDARD.encode([byte; 32]), "test").unwrap(), previous: None }
    }

    #[test]
    fn what_is_sealed_opens_only_in_its_place_and_under_its_key() {
        let (one, two) = (key(1), key(2));
        let sealed = one.seal("keys.sealed:a", one.name(), b"secret").unwrap();
        assert_eq!(one.open("keys.sealed:a", one.name(), &sealed).unwrap().as_slice(), b"secret");
        assert!(one.open("keys.sealed:b", one.name(), &sealed).is_err());
        assert!(two.open("keys.sealed:a", two.name(), &sealed).is_err());
        assert!(two.open("keys.sealed:a", one.name(), &sealed).unwrap_err().to_string().contains("put the right key back"));
    }

    #[test]
    fn on_the_way_to_another_key_both_open_and_new_rows_are_sealed_as_those_that_are_there() {
        let old = key(1);
        let both = Kek { previous: Some(old.current.clone()), ..key(2) };
        let sealed = old.seal("keys.sealed:a", old.name(), b"secret").unwrap();
        assert_eq!(both.open("keys.sealed:a", old.name(), &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(both.name_for_new([old.name()].into_iter()), old.name());
        assert_eq!(both.name_for_new(std::iter::empty()), key(2).name());
        assert!(key(2).seal("keys.sealed:b", old.name(), b"secret").is_err());
    }

    #[test]
    fn with_sqlite_the_key_lies_beside_the_database_however_that_is_written() {
        let folder = tempfile::tempdir().unwrap();
        for (url, file) in [("sqlite:", "a/x.db"), ("sqlite://", "b/x.db")] {
            let path = folder.path().join(file);
            let mut config = Config::default();
            config.database.url = crate::oauth2::Secret::new(format!("{url}{}", path.display()));
            Kek::load(&config, true).unwrap();
            assert!(path.with_file_name("key-encryption-key").exists(), "{url}");
        }
    }

    #[test]
    fn a_key_of_the_wrong_length_says_how_to_make_one() {
        let error = One::decode("c2hvcnQ=", "the environment").err().unwrap().to_string();
        assert!(error.contains("32 bytes") && !error.contains("c2hvcnQ"), "{error}");
    }
}
