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
    /// A no for a reason that is not known: it need not be the password. With the codes.
    Unexplained(String),
    /// The directory could not decide, and may have counted the password as wrong all the same; with the reason and its mend.
    InDoubt(String),
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
    let windows = windows_error(answer);
    let codes = match (policy.error, windows) {
        (Some(error), _) => format!("LDAP result {}, password policy error {error}", answer.code),
        (None, Some(error)) => format!("LDAP result {}, data {error:x}", answer.code),
        (None, None) => format!("LDAP result {}", answer.code),
    };
    let refused = |reason| Verdict::No(reason, codes.clone());
    match (answer.code, policy.error) {
        // What 389-ds says of an inactivated account; its policy answer calls it locked.
        (53, Some(1)) => refused(Disabled),
        (0 | 19 | 49 | 53, Some(0)) => refused(PasswordExpired),
        (0 | 19 | 49, Some(1)) => refused(Locked),
        (0 | 19 | 49 | 53, Some(2)) => refused(PasswordChangeRequired),
        (0, Some(_)) => Verdict::Unknown(format!("the directory accepted the password with an unknown reservation ({codes})")),
        (0, None) if policy.grace_left.is_some() => Verdict::No(PasswordExpired, format!("{codes}, grace sign-ins left")),
        (0, None) if answer.expired => Verdict::No(PasswordChangeRequired, format!("{codes}, password expired control")),
        (0, None) => Verdict::Yes,
        (49, _) => match windows {
            None => refused(BadPassword),
            Some(error) if UNDECIDED.contains(&error) => {
                Verdict::InDoubt(format!("the domain controller could not reach those that know the password ({codes})"))
            }
            Some(error) => reason_of(error).map_or_else(|| Verdict::Unexplained(codes.clone()), refused),
        },
        (19, _) => refused(Locked),
        (53, _) => refused(Disabled),
        // An entry without a password, gone since it was found, or a name that is none: what the person typed was wrong.
        (32 | 34 | 48, _) => refused(BadPassword),
        (8 | 13, _) => Verdict::Unknown(format!("the directory wants TLS for a bind ({codes}); use ldaps:// or tls = \"starttls\"")),
        (10, _) => Verdict::Unknown(format!(
            "the directory refers to another server ({codes}); referrals are never followed, name that server in urls"
        )),
        _ => Verdict::Unknown(format!("the directory could not decide the bind ({codes}: {})", answer.text)),
    }
}

/// The Windows error in the words of Active Directory and Samba: `80090308: LdapErr: DSID-…, …, data 52e, v…`. Only a result 49 of
/// exactly this form has one.
fn windows_error(answer: &BindAnswer) -> Option<u32> {
    let words = answer.text.strip_prefix("80090308: LdapErr: DSID-").filter(|_| answer.code == 49)?;
    let (_, rest) = words.split_once(", data ")?;
    let (digits, version) = rest.split_once(", v")?;
    let once = !version.contains(", data ") && (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    once.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// No logon servers; the domain cannot be contacted; a remote procedure call found no server, a busy one, or failed.
const UNDECIDED: [u32; 7] = [0x51f, 0x54b, 0x6ba, 0x6bb, 0x6be, 0x6bf, 0x721];

/// What a Windows error says about the account ([MS-ERREF] section 2.2); none of the others tells more than that the bind failed.
fn reason_of(windows_error: u32) -> Option<RefusalReason> {
    Some(match windows_error {
        0x525 => RefusalReason::UnknownUser,
        0x52e => RefusalReason::BadPassword,
        0x530 | 0x531 => RefusalReason::NotNow,
        0x532 => RefusalReason::PasswordExpired,
        0x533 => RefusalReason::Disabled,
        0x701 => RefusalReason::AccountExpired,
        0x773 => RefusalReason::PasswordChangeRequired,
        0x775 => RefusalReason::Locked,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(code: u32, policy: Option<&[u8]>) -> Result<(), Option<RefusalReason>> {
        read(code, "", policy, false)
    }

    fn read(code: u32, text: &str, policy: Option<&[u8]>, expired: bool) -> Result<(), Option<RefusalReason>> {
        match of(&BindAnswer { code, text: text.to_owned(), policy: policy.map(<[u8]>::to_vec), expired, took: Default::default() }) {
            Verdict::Yes => Ok(()),
            Verdict::No(reason, _) => Err(Some(reason)),
            Verdict::Unknown(_) | Verdict::Unexplained(_) | Verdict::InDoubt(_) => Err(None),
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
            (53, Some(error(1)), Disabled),
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

    #[test]
    fn the_words_of_active_directory_are_read_by_their_code() {
        use RefusalReason::{AccountExpired, BadPassword, Disabled, Locked, NotNow, PasswordChangeRequired, PasswordExpired, UnknownUser};
        let words = |data: &str| format!("80090308: LdapErr: DSID-0C090569, comment: AcceptSecurityContext error, data {data}, v4563");
        for (data, reason) in [
            ("52e", BadPassword),
            ("525", UnknownUser),
            ("530", NotNow),
            ("531", NotNow),
            ("532", PasswordExpired),
            ("533", Disabled),
            ("701", AccountExpired),
            ("773", PasswordChangeRequired),
            ("775", Locked),
        ] {
            assert_eq!(read(49, &words(data), None, false), Err(Some(reason)), "{data}");
            assert_eq!(read(49, &words(data).replace(", v4563", ", v1db1\0"), None, false), Err(Some(reason)), "{data}");
            assert_eq!(read(80, &words(data), None, false), Err(None), "only a refusal has one");
            assert_eq!(read(0, &words(data), None, false), Ok(()), "words do not make a success a refusal");
        }
        let answer =
            |data: &str| of(&BindAnswer { code: 49, text: words(data), policy: None, expired: false, took: std::time::Duration::ZERO });
        for undecided in ["51f", "54b", "6ba", "6be", "721"] {
            assert!(matches!(answer(undecided), Verdict::InDoubt(_)), "{undecided}");
        }
        for other in ["52f", "0", "569", "ffffffff"] {
            assert!(matches!(answer(other), Verdict::Unexplained(_)), "{other}");
        }
        for odd in [
            "data 533, v1",
            "80090308: LdapErr: DSID-1, data 533",
            "80090308: LdapErr: DSID-1, data +533, v1",
            "80090308: LdapErr: DSID-1, data 0x533, v1",
            "80090308: LdapErr: DSID-1, data , v1",
            "80090308: LdapErr: DSID-1, data 100000533, v1",
            "80090308: LdapErr: DSID-1, data 533, v1, data 775, v1",
            " 80090308: LdapErr: DSID-1, data 533, v1",
        ] {
            assert_eq!(read(49, odd, None, false), Err(Some(BadPassword)), "{odd}");
        }
    }

    #[test]
    fn must_change_that_looks_like_a_success_is_none() {
        use RefusalReason::{PasswordChangeRequired, PasswordExpired};
        assert_eq!(read(0, "", None, true), Err(Some(PasswordChangeRequired)));
        let expired = [0x30, 0x03, 0x81, 0x01, 0];
        assert_eq!(read(0, "", Some(&expired), true), Err(Some(PasswordExpired)), "the newer control is more exact");
        assert_eq!(read(0, "", Some(&[0x30, 0x00]), true), Err(Some(PasswordChangeRequired)));
        assert_eq!(read(49, "", None, true), Err(Some(RefusalReason::BadPassword)), "nothing is told to a wrong password");
    }
}
