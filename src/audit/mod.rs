//! What is written down about an event. The rows are in `storage::audit`, committed with what they tell of.

mod detail;
mod entry;
mod file;
mod request_id;
mod syslog;

pub use entry::Entry;
pub use file::LogFile;
pub use syslog::Collector;

pub use request_id::RequestId;
use serde::Serialize;
use serde_json::Value;

use crate::oauth2::ids::time_ordered;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        pub enum $name {
            $($(#[$word_doc])* #[serde(rename = $text)] $word,)+
        }

        impl $name {
            /// Every one there is.
            pub const ALL: &[$name] = &[$($name::$word),+];

            /// The word in the database, in exports and in metrics.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$word => $text,)+ }
            }

            /// None for a word of a newer version.
            pub fn parse(text: &str) -> Option<$name> {
                match text { $($text => Some($name::$word),)+ _ => None }
            }
        }
    };
}

words! {
/// What happened.
Event {
    /// A person proved who they are and was let in.
    SignIn = "sign_in",
    /// A person was not let in, by their source or by the mapping.
    SignInRefused = "sign_in_refused",
    /// A client did not prove who it is.
    ClientRefused = "client_refused",
    /// A client asked for what it may not have.
    GrantRefused = "grant_refused",
    /// A refresh token was refused: expired, or its person is no longer let in.
    RefreshRefused = "refresh_refused",
    /// The previous refresh token came again within the grace.
    RefreshRepeated = "refresh_repeated",
    /// An older refresh token came again: its family was killed (RFC 9700 section 4.14).
    RefreshReplayed = "refresh_replayed",
    /// A client gave a token back (RFC 7009).
    TokenRevoked = "token_revoked",
    /// An operator revoked: by subject, client, group, rule, source, or everything.
    Revoked = "revoked",
    /// A provider ended everything of a person (Global Token Revocation).
    UpstreamRevoked = "upstream_revoked",
    /// A refresh token was exchanged for the next.
    Refreshed = "refreshed",
    /// A start put another mapping in force.
    MappingChanged = "mapping_changed",
    /// A refresh without a look at the source, which was unreachable (`offline_policy`).
    RefreshedOffline = "refreshed_offline",
    /// A look at the source between two refreshes (`identity_max_age`) found that the person is gone or may no longer sign in.
    RecheckRefused = "recheck_refused",
    /// The same found other roles.
    RolesRechecked = "roles_rechecked",
    ClientAdded = "client_added",
    ClientChanged = "client_changed",
    ClientRemoved = "client_removed",
    ClientSecretAdded = "client_secret_added",
    ClientSecretRemoved = "client_secret_removed",
    AccountAdded = "account_added",
    /// An identity of a source was linked to an account.
    AccountLinked = "account_linked",
    AccountChanged = "account_changed",
    AccountDisabled = "account_disabled",
    AccountEnabled = "account_enabled",
    AccountRemoved = "account_removed",
    PasswordChanged = "password_changed",
    KeyAdded = "key_added",
    KeyRetired = "key_retired",
    KeyRemoved = "key_removed",
    KeyRevoked = "key_revoked",
    /// All keys were sealed again under another key-encryption key.
    KeysRewrapped = "keys_rewrapped",
    /// After the restore of a backup: new keys, a new feed, every grant ended.
    KeysRecovered = "keys_recovered",
}
}

words! {
/// How it ended.
Outcome {
    Ok = "ok",
    Refused = "refused",
    /// Could not be decided: a failure of ours or of a source.
    Error = "error",
}
}

/// Longest text of a field, in bytes: strangers write some of them, and the trail is kept for long.
const LONGEST: usize = 256;
/// Longest detail in words, in bytes.
const LONGEST_DETAIL: usize = 1024;

/// The beginning of `text`, at most `limit` bytes of it. NUL is replaced, which PostgreSQL cannot store.
fn cut(text: impl Into<String>, limit: usize) -> String {
    let mut text = text.into();
    text.truncate(text.floor_char_boundary(limit));
    if text.contains('\0') { text.replace('\0', "?") } else { text }
}

/// One record of the trail. It never holds a password, secret or token. Texts are cut to 256 bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Begins with the time, so ids sort by age.
    pub id: String,
    /// Seconds since the epoch.
    pub at: i64,
    pub event: Event,
    pub outcome: Outcome,
    pub client_id: Option<String>,
    pub account_id: Option<String>,
    /// As typed where nobody was found, else as the source stores it.
    pub username: Option<String>,
    pub source: Option<String>,
    /// The client's address.
    pub address: Option<String>,
    /// Why, as a code (`bad_password`, `too_old`).
    pub reason: Option<String>,
    pub request_id: Option<String>,
    /// More, by event: rules, groups, what was changed. `null` for nothing.
    pub detail: Value,
}

impl Record {
    /// A record of something that succeeded.
    pub fn ok(event: Event, now: i64) -> Record {
        Record::new(event, Outcome::Ok, now)
    }

    /// A record of something that was refused, and why, as a code.
    pub fn refused(event: Event, now: i64, reason: impl Into<String>) -> Record {
        Record::new(event, Outcome::Refused, now).reason(reason)
    }

    /// A record of something that could not be decided, and why.
    pub fn error(event: Event, now: i64, reason: impl Into<String>) -> Record {
        Record::new(event, Outcome::Error, now).reason(reason)
    }

    fn new(event: Event, outcome: Outcome, now: i64) -> Record {
        Record {
            id: time_ordered(now),
            at: now,
            event,
            outcome,
            client_id: None,
            account_id: None,
            username: None,
            source: None,
            address: None,
            reason: None,
            request_id: None,
            detail: Value::Null,
        }
    }

    pub fn client(mut self, client_id: impl Into<String>) -> Record {
        self.client_id = Some(cut(client_id, LONGEST));
        self
    }

    pub fn account(mut self, account_id: impl Into<String>) -> Record {
        self.account_id = Some(cut(account_id, LONGEST));
        self
    }

    pub fn username(mut self, username: impl Into<String>) -> Record {
        self.username = Some(cut(username, LONGEST));
        self
    }

    pub fn source(mut self, source: impl Into<String>) -> Record {
        self.source = Some(cut(source, LONGEST));
        self
    }

    pub fn address(mut self, address: impl ToString) -> Record {
        self.address = Some(address.to_string());
        self
    }

    pub fn reason(mut self, reason: impl Into<String>) -> Record {
        self.reason = Some(cut(reason, LONGEST));
        self
    }

    pub fn request(mut self, request_id: impl Into<String>) -> Record {
        self.request_id = Some(request_id.into());
        self
    }

    pub fn detail(mut self, detail: Value) -> Record {
        self.detail = detail::bounded(detail);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        assert!(Event::ALL.iter().all(|event| Event::parse(event.as_str()) == Some(*event)));
        assert!(Outcome::ALL.iter().all(|outcome| Outcome::parse(outcome.as_str()) == Some(*outcome)));
        assert_eq!(serde_json::to_value(Event::SignInRefused).unwrap(), "sign_in_refused");
    }

    #[test]
    fn texts_of_strangers_are_cut_between_characters() {
        let long = format!("a{}", "é".repeat(5_000));
        let record = Record::refused(Event::SignInRefused, 0, &long).client(&long).username(&long).source(&long);
        for text in [&record.reason, &record.client_id, &record.username, &record.source] {
            assert_eq!(text.as_ref().unwrap().len(), 255);
        }
        assert_eq!(record.detail(long.into()).detail.as_str().unwrap().len(), 1023);
        assert_eq!(Record::ok(Event::SignIn, 0).username("a\0b").username.unwrap(), "a?b");
    }
}
