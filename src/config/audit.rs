use std::time::Duration;

use serde::Deserialize;

/// `[audit]`: the trail in the database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// How long records are kept.
    #[serde(deserialize_with = "super::duration::deserialize")]
    pub retention: Duration,
}

impl Default for Audit {
    fn default() -> Self {
        Audit { retention: Duration::from_secs(400 * 86_400) }
    }
}
