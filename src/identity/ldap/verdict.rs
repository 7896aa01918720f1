//! What the result of a bind means: the table of result codes (RFC 4511 appendix A, password policy draft section 6).

use super::connection::BindAnswer;
use super::ppolicy;
use crate::identity::RefusalReason;

/// What a bind decided.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    /// With the codes for the audit.
    No(RefusalReason, String),
    /// The directory decided nothing; with the reason and its mend.
    Unknown(String),
}

/// Reads the answer to a bind with a password that was not empty.
pub fn of(answer: &BindAnswer) -> Verdict {
    use RefusalReason::{BadPassword, Disabled, Locked, PasswordChangeRequired, PasswordExpired};
    let policy = match answer.policy.as_deref().map(ppolicy::read) {
        None => ppolicy::Answer::default(),
        Some(Some(policy)) => policy,
        Some(None) => return Verdict::Unknown("the directory's password policy answer cannot be read".to_owned()),
    };
    let codes = match policy.error {
        Some(error) => format!("LDAP result {}, password policy error {error}", answer.code),
        None => format!("LDAP result {}", answer.code),
    };
    let refused = |reason| Verdict::No(reason, codes.clone());
    match (answer.code, policy.error) {
        (0 | 19 | 49 | 53, Some(0)) => refused(PasswordExpired),
        (0 | 19 | 49 | 53, Some(1)) => refused(Locked),
        (0 | 19 | 49 | 53, Some(2)) => refused(PasswordChangeRequired),
        (0, Some(_)) => Verdict::Unknown(format!("the directory accepted the password with an unknown reservation ({codes})")),
        (0, None) if policy.grace_left.is_some() => Verdict::No(PasswordExpired, format!("{codes}, grace sign-ins left")),
        (0, None) => Verdict::Yes,
        (19, _) => refused(Locked),
        (53, _) => refused(Disabled),
        // An entry without a password, gone since it was found, or a name that is none: what the person typed was wrong.
        (32 | 34 | 48 | 49, _) => refused(BadPassword),
        (8 | 13, _) => Verdict::Unknown(format!("the directory wants TLS for a bind ({codes}); use ldaps:// or tls = \"starttls\"")),
        (10, _) => Verdict::Unknown(format!(
            "the directory refers to another server ({codes}); referrals are never followed, name that server in urls"
        )),
        _ => Verdict::Unknown(format!("the directory could not decide the bind ({codes}: {})", answer.text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(code: u32, policy: Option<&[u8]>) -> Result<(), Option<RefusalReason>> {
        match of(&BindAnswer { code, text: String::new(), policy: policy.map(<[u8]>::to_vec) }) {
            Verdict::Yes => Ok(()),
            Verdict::No(reason, _) => Err(Some(reason)),
            Verdict::Unknown(_) => Err(None),
        }
    }

    #[test]
    fn every_row_of_the_table() {
        use RefusalReason::{BadPassword, Disabled, Locked, PasswordChangeRequired, PasswordExpired};
        let error = |number| [0x30, 0x03, 0x81, 0x01, number];
        let grace = [0x30, 0x05, 0xa0, 0x03, 0x81, 0x01, 0x03];
        let expires_later = [0x30, 0x05, 0xa0, 0x03, 0x80, 0x01, 0x03];
        assert_eq!(verdict(0, None), Ok(()));
        assert_eq!(verdict(0, Some(&expires_later)), Ok(()));
        for (code, policy, reason) in [
            (49, None, BadPassword),
            (49, Some(error(0)), PasswordExpired),
            (49, Some(error(1)), Locked),
            (0, Some(error(0)), PasswordExpired),
            (0, Some(error(2)), PasswordChangeRequired),
            (19, None, Locked),
            (53, None, Disabled),
            (32, None, BadPassword),
            (34, None, BadPassword),
            (48, None, BadPassword),
        ] {
            assert_eq!(verdict(code, policy.as_ref().map(<[u8; 5]>::as_slice)), Err(Some(reason)), "{code} {policy:?}");
        }
        assert_eq!(verdict(0, Some(&grace)), Err(Some(PasswordExpired)));
        for code in [1, 2, 3, 7, 8, 10, 11, 13, 14, 50, 51, 52, 80, 4_000] {
            assert_eq!(verdict(code, None), Err(None), "{code} decides nothing");
        }
        assert_eq!(verdict(0, Some(&error(7))), Err(None));
        assert_eq!(verdict(0, Some(b"nonsense")), Err(None), "a success whose policy cannot be read is none");
    }
}
