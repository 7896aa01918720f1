use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::oauth2::Secret;

/// `[keys]`: the key that seals all others, and how often those change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// The key-encryption key itself: base64 of 32 bytes. From the environment (`COUNTERSIGN_KEYS__ENCRYPTION_KEY`) only; a
    /// file uses `encryption_key_file`.
    pub encryption_key: Option<Secret>,
    /// A file with the base64 of 32 bytes (`head -c 32 /dev/urandom | base64`). With SQLite and neither key set it is made once
    /// beside the database.
    pub encryption_key_file: Option<PathBuf>,
    /// A file with the key before `encryption_key_file` (or `encryption_key`), while the rows under it are on their way to the new
    /// one: it opens them until `countersign keys rewrap` has sealed them again. Nothing new is sealed under it afterwards.
    pub previous_encryption_key_file: Option<PathBuf>,
    /// How long a signing or sealing key is used before the next takes over.
    #[serde(deserialize_with = "super::duration::deserialize")]
    pub rotation: Duration,
}

impl Default for Keys {
    fn default() -> Self {
        Keys {
            encryption_key: None,
            encryption_key_file: None,
            previous_encryption_key_file: None,
            rotation: Duration::from_secs(90 * 86_400),
        }
    }
}
