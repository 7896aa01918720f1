//! The password policy control (draft-behera-ldap-password-policy section 6), without which "must change" looks like a success.

use lber::common::TagClass;
use lber::parse::parse_tag;
use lber::structure::{PL, StructureTag};
use ldap3::controls::RawControl;

/// The object identifier of request and answer.
pub const OID: &str = "1.3.6.1.4.1.42.2.27.8.5.1";

/// The older control of 389-ds and its ancestors (draft-vchu-ldap-pwd-policy section 4.1): the password has expired or must be
/// changed. It comes unasked, with a success too.
pub const EXPIRED: &str = "2.16.840.1.113730.3.4.4";

/// No honest answer is longer; a limit keeps the recursive BER reader off crafted ones.
const LONGEST: usize = 64;

/// What the directory adds to the result of a bind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub error: Option<u64>,
    /// Sign-ins left with a password that has expired.
    pub grace_left: Option<u64>,
}

/// The request, not critical: a directory without the policy binds as ever.
pub fn request() -> RawControl {
    RawControl { ctype: OID.to_owned(), crit: false, val: None }
}

/// Reads the answer; none where it is malformed.
pub fn read(value: &[u8]) -> Option<Answer> {
    if value.len() > LONGEST {
        return None;
    }
    let (rest, tag) = parse_tag(value).ok()?;
    if !rest.is_empty() || (tag.class, tag.id) != (TagClass::Universal, 16) {
        return None;
    }
    let mut answer = Answer::default();
    for part in tag.expect_constructed()? {
        match (part.class, part.id) {
            (TagClass::Context, 0) => answer.grace_left = read_warning(part)?,
            (TagClass::Context, 1) => answer.error = Some(read_number(&part.expect_primitive()?)?),
            _ => return None,
        }
    }
    Some(answer)
}

/// `timeBeforeExpiration [0]` concerns nobody here, `graceAuthNsRemaining [1]` does.
fn read_warning(part: StructureTag) -> Option<Option<u64>> {
    let PL::C(mut choices) = part.payload else { return None };
    let choice = choices.pop().filter(|_| choices.is_empty())?;
    match (choice.class, choice.id) {
        (TagClass::Context, 0) => Some(None),
        (TagClass::Context, 1) => read_number(&choice.expect_primitive()?).map(Some),
        _ => None,
    }
}

fn read_number(bytes: &[u8]) -> Option<u64> {
    let fits = (1..=8).contains(&bytes.len());
    fits.then(|| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_directories_answer() {
        for (value, error, grace_left) in [
            (&[0x30, 0x00][..], None, None),
            (&[0x30, 0x03, 0x81, 0x01, 0x02], Some(2), None),
            (&[0x30, 0x03, 0x81, 0x01, 0x00], Some(0), None),
            (&[0x30, 0x05, 0xa0, 0x03, 0x81, 0x01, 0x03], None, Some(3)),
            (&[0x30, 0x06, 0xa0, 0x04, 0x80, 0x02, 0x0e, 0x10], None, None),
            (&[0x30, 0x08, 0xa0, 0x03, 0x81, 0x01, 0x00, 0x81, 0x01, 0x01], Some(1), Some(0)),
        ] {
            assert_eq!(read(value), Some(Answer { error, grace_left }), "{value:02x?}");
        }
    }

    #[test]
    fn what_is_malformed_is_not_read_as_nothing() {
        for value in [
            &[][..],
            &[0x30],
            &[0x30, 0x03, 0x81],
            &[0x04, 0x00],
            &[0x30, 0x00, 0x00],
            &[0x30, 0x02, 0x81, 0x00],
            &[0x30, 0x02, 0xa0, 0x00],
        ] {
            assert_eq!(read(value), None, "{value:02x?}");
        }
        assert_eq!(read(&[0x30; 100_000]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&value);
        }

        #[test]
        fn no_nearly_right_bytes_make_it_panic(at in 0usize..10, byte: u8, cut in 0usize..11) {
            let mut value = vec![0x30, 0x08, 0xa0, 0x03, 0x81, 0x01, 0x00, 0x81, 0x01, 0x01];
            value[at] = byte;
            value.truncate(cut);
            let _ = read(&value);
        }
    }
}
