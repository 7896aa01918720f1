//! What the entry itself says about the account, for the moments without a bind: the password policy of OpenLDAP
//! (draft-behera-ldap-password-policy section 5.3), nsAccountLock of 389-ds and FreeIPA, and Active Directory's userAccountControl,
//! accountExpires and pwdLastSet ([MS-ADTS] section 2.2.16). An entry has those of its own directory. Locks after wrong passwords
//! (lockoutTime, accountUnlockTime) are left out everywhere, since strangers can cause them.

use super::entry::Entry;
use crate::identity::{Refusal, RefusalReason};

/// Operational attributes, to be asked for by name.
pub const ATTRIBUTES: [&str; 9] = [
    "pwdAccountLockedTime",
    "pwdReset",
    "pwdStartTime",
    "pwdEndTime",
    "nsAccountLock",
    "krbPrincipalExpiration",
    "userAccountControl",
    "accountExpires",
    "pwdLastSet",
];

/// Bits of userAccountControl.
const DISABLED: u32 = 0x2;
const PASSWORD_NEVER_EXPIRES: u32 = 0x1_0000;
const SMARTCARD_REQUIRED: u32 = 0x4_0000;

/// Seconds between 1601, where Windows begins, and 1970.
const SINCE_1601: i64 = 11_644_473_600;

/// An administrator's lock. Other values of pwdAccountLockedTime come from wrong guesses, which anybody can make: they keep people
/// from signing in for a while, but end no session.
const LOCKED_FOR_EVER: &str = "000001010000Z";

/// Why the account may not be used at `now`, in seconds; none if it may.
pub fn refusal(entry: &Entry, now: i64) -> Option<Refusal> {
    windows(entry, now).or_else(|| directory(entry, now))
}

fn windows(entry: &Entry, now: i64) -> Option<Refusal> {
    let number = |attribute| entry.text(attribute).and_then(|text| text.parse::<i64>().ok());
    // It is written as a signed number, and its highest bit is used.
    let flags = number("userAccountControl").map_or(0, |flags| flags as u32);
    let expires = number("accountExpires").filter(|ticks| !matches!(*ticks, 0 | i64::MAX));
    if flags & DISABLED != 0 {
        Some(Refusal::new(RefusalReason::Disabled, "userAccountControl"))
    } else if expires.is_some_and(|ticks| ticks / 10_000_000 - SINCE_1601 <= now) {
        Some(Refusal::new(RefusalReason::AccountExpired, "accountExpires"))
    } else if number("pwdLastSet") == Some(0) && flags & (PASSWORD_NEVER_EXPIRES | SMARTCARD_REQUIRED) == 0 {
        Some(Refusal::new(RefusalReason::PasswordChangeRequired, "pwdLastSet"))
    } else {
        None
    }
}

fn directory(entry: &Entry, now: i64) -> Option<Refusal> {
    let now = generalized_time(now);
    let is_true = |attribute| entry.text(attribute).is_some_and(|value| value.eq_ignore_ascii_case("TRUE"));
    // Times of this form, in UTC, sort as text; fractions and zones are not used by the directories of the presets.
    let passed = |attribute| entry.text(attribute).map(|time| time.get(..14).unwrap_or(time) <= now.as_str());
    if entry.text("pwdAccountLockedTime") == Some(LOCKED_FOR_EVER) {
        Some(Refusal::new(RefusalReason::Locked, "pwdAccountLockedTime"))
    } else if is_true("nsAccountLock") {
        Some(Refusal::new(RefusalReason::Disabled, "nsAccountLock"))
    } else if is_true("pwdReset") {
        Some(Refusal::new(RefusalReason::PasswordChangeRequired, "pwdReset"))
    } else if passed("pwdEndTime") == Some(true) {
        Some(Refusal::new(RefusalReason::AccountExpired, "pwdEndTime"))
    } else if passed("krbPrincipalExpiration") == Some(true) {
        Some(Refusal::new(RefusalReason::AccountExpired, "krbPrincipalExpiration"))
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

    /// What an entry with these values is refused for, in November 2023.
    fn refused(values: &[(&str, &str)]) -> Option<RefusalReason> {
        refusal(&Entry::with("cn=x", values), 1_700_000_000).map(|refusal| refusal.reason)
    }

    #[test]
    fn every_state_that_an_entry_tells() {
        use RefusalReason::{AccountExpired, Disabled, NotNow, PasswordChangeRequired};
        let fine = [("userAccountControl", "512"), ("accountExpires", "9223372036854775807"), ("pwdLastSet", "134397898619100390")];
        assert_eq!(refused(&fine), None);
        for (attribute, value, reason) in [
            ("userAccountControl", "514", Some(Disabled)),
            ("userAccountControl", "-2147483134", Some(Disabled)),
            ("accountExpires", "0", None),
            ("accountExpires", "120000000000000000", Some(AccountExpired)),
            ("accountExpires", "133444735990000000", Some(AccountExpired)),
            ("accountExpires", "133444736010000000", None),
            ("pwdLastSet", "0", Some(PasswordChangeRequired)),
            ("lockoutTime", "133444735990000000", None),
            ("nsAccountLock", "TRUE", Some(Disabled)),
            ("nsaccountlock", "true", Some(Disabled)),
            ("nsAccountLock", "false", None),
            ("accountUnlockTime", "20380101000000Z", None),
            ("krbPrincipalExpiration", "20200101000000Z", Some(AccountExpired)),
            ("krbPrincipalExpiration", "20300101000000Z", None),
            ("pwdStartTime", "20300101000000Z", Some(NotNow)),
        ] {
            assert_eq!(refused(&[(attribute, value)]), reason, "{attribute}={value}");
        }
        assert_eq!(refused(&[("pwdLastSet", "0"), ("userAccountControl", "66048")]), None, "a password that never expires");
    }

    #[test]
    fn the_time_is_written_as_directories_write_it() {
        assert_eq!(generalized_time(0), "19700101000000");
        assert_eq!(generalized_time(1_700_000_000), "20231114221320");
    }
}
