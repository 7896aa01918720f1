//! What the entry itself says about the account (draft-behera-ldap-password-policy section 5.3), for the moments without a bind.

use super::entry::Entry;
use crate::identity::{Refusal, RefusalReason};

/// Operational attributes, to be asked for by name.
pub const ATTRIBUTES: [&str; 4] = ["pwdAccountLockedTime", "pwdReset", "pwdStartTime", "pwdEndTime"];

/// An administrator's lock. Other values of pwdAccountLockedTime come from wrong guesses, which anybody can make: they keep people
/// from signing in for a while, but end no session.
const LOCKED_FOR_EVER: &str = "000001010000Z";

/// Why the account may not be used at `now`, in seconds; none if it may.
pub fn refusal(entry: &Entry, now: i64) -> Option<Refusal> {
    let now = generalized_time(now);
    // Times of this form, in UTC, sort as text; fractions and zones are not used by the directories of the presets.
    let passed = |attribute| entry.text(attribute).map(|time| time.get(..14).unwrap_or(time) <= now.as_str());
    if entry.text("pwdAccountLockedTime") == Some(LOCKED_FOR_EVER) {
        Some(Refusal::new(RefusalReason::Locked, "pwdAccountLockedTime"))
    } else if entry.text("pwdReset").is_some_and(|reset| reset.eq_ignore_ascii_case("TRUE")) {
        Some(Refusal::new(RefusalReason::PasswordChangeRequired, "pwdReset"))
    } else if passed("pwdEndTime") == Some(true) {
        Some(Refusal::new(RefusalReason::AccountExpired, "pwdEndTime"))
    } else if passed("pwdStartTime") == Some(false) {
        Some(Refusal::new(RefusalReason::NotNow, "pwdStartTime"))
    } else {
        None
    }
}

/// `YYYYMMDDHHMMSS` (RFC 4517 section 3.3.13 without the zone).
fn generalized_time(seconds: i64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.max(0) as u64);
    humantime::format_rfc3339_seconds(time).to_string().chars().filter(char::is_ascii_digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_written_as_directories_write_it() {
        assert_eq!(generalized_time(0), "19700101000000");
        assert_eq!(generalized_time(1_700_000_000), "20231114221320");
    }
}
