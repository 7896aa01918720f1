//! Identifiers as types of their own, so that a client id is never passed where a subject belongs.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                Self(value.into())
            }
        }

        impl From<String> for $name {
            fn from(value: String) -> Self {
                Self(value.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )+};
}

ids! {
    /// `client_id` of RFC 6749 section 2.2.
    ClientId
    /// The `sub` of a person: 32 lower-case hex digits, never reused. A client id may not have this form.
    AccountId
    /// One sign-in of a person, and all that was issued because of it.
    GrantId
    /// The refresh tokens that descend from one another (RFC 9700 section 4.14).
    FamilyId
    /// `jti` of RFC 7519 section 4.1.7.
    Jti
    /// `kid` of RFC 7515 section 4.1.4.
    Kid
    /// The public half of a client secret, by which it is looked up.
    SecretId
    /// The name of an identity source, as configured.
    SourceName
}

impl ClientId {
    /// RFC 6749 appendix A.1 allows VSCHAR; the form of an [`AccountId`] is refused, since both appear as `sub`.
    /// Answers the reason why `id` cannot be a client id.
    pub fn check(id: &str) -> Result<(), &'static str> {
        if id.is_empty() || id.len() > 200 {
            return Err("a client id has 1 to 200 characters");
        }
        if !id.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
            return Err("a client id has visible ASCII characters only, without spaces");
        }
        if AccountId::has_form(id) {
            return Err("32 hex digits are the form of an account id");
        }
        Ok(())
    }
}

impl AccountId {
    /// Whether `id` looks like an account id: 32 lower-case hex digits.
    pub fn has_form(id: &str) -> bool {
        id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    }
}

/// A row id that begins with the time: 10 hex digits of seconds, 22 of randomness. Ordered keys insert several times as fast
/// as random ones, and 88 random bits are not guessed.
pub fn time_ordered(now: i64) -> String {
    let mut bytes = [0u8; 16];
    bytes[..5].copy_from_slice(&(now as u64).to_be_bytes()[3..]);
    super::secret::fill_unique(&mut bytes[5..]);
    super::secret::hex(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_ids_sort_by_time_and_have_the_form_of_an_account_id() {
        let (early, late) = (time_ordered(1_000), time_ordered(1_001));
        assert!(early < late);
        assert!(AccountId::has_form(&early));
        assert!(ClientId::check(&early).is_err());
    }

    #[test]
    fn client_ids_are_visible_ascii() {
        assert!(ClientId::check("svc-1").is_ok());
        for bad in ["", "a b", "é", "a\u{0}"] {
            assert!(ClientId::check(bad).is_err(), "{bad:?}");
        }
    }
}
