use serde::Deserialize;

/// `[accounts]`: the policy for passwords of local accounts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Accounts {
    /// Fewest characters of a new password.
    pub password_min_length: usize,
    /// The least zxcvbn score of a new password, 0 to 4; the user's own name and e-mail count as known words.
    pub password_min_score: u8,
    /// Threads that hash passwords; each keeps 19 MiB.
    pub password_threads: usize,
    /// Sign-ins that may wait for such a thread; the next is answered 503 with Retry-After.
    pub password_queue: usize,
}

impl Default for Accounts {
    fn default() -> Self {
        Accounts { password_min_length: 10, password_min_score: 3, password_threads: 1, password_queue: 256 }
    }
}
