//! Values of Active Directory that are no text: objectGUID and security identifiers ([MS-DTYP] sections 2.3.4.2 and 2.4.2). They are
//! turned into text once, when an entry is read, and back into bytes for filters.

/// Attributes whose 16 bytes are a GUID.
const GUIDS: [&str; 1] = ["objectGUID"];
/// Attributes whose values are security identifiers.
const SIDS: [&str; 2] = ["objectSid", "tokenGroups"];

/// The value as text where the attribute is one of those, else unchanged. `attribute` is matched without case.
pub fn readable(attribute: &str, value: Vec<u8>) -> Vec<u8> {
    let text = if is_one(&GUIDS, attribute) {
        guid(&value)
    } else if is_one(&SIDS, attribute) {
        sid(&value)
    } else {
        None
    };
    text.map_or(value, String::into_bytes)
}

/// The bytes behind the text, for a filter; none where the attribute is not one of those, or the text is not of its form.
pub fn bytes(attribute: &str, text: &str) -> Option<Vec<u8>> {
    if is_one(&GUIDS, attribute) {
        guid_bytes(text)
    } else if is_one(&SIDS, attribute) {
        sid_bytes(text)
    } else {
        None
    }
}

/// The group whose relative identifier is `last`, in the domain of an account.
pub fn sibling(account: &str, last: &str) -> Option<String> {
    let (domain, _) = account.rsplit_once('-')?;
    last.parse::<u32>().ok().map(|last| format!("{domain}-{last}"))
}

fn is_one(names: &[&str], attribute: &str) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(attribute))
}

/// The first three fields are stored with their lowest byte first.
fn swap(bytes: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    let mut swapped = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    for (to, from) in swapped.iter_mut().skip(8).zip(rest) {
        *to = from;
    }
    swapped
}

/// In lower case, as Active Directory's own programs order it.
fn guid(value: &[u8]) -> Option<String> {
    let value: [u8; 16] = value.try_into().ok()?;
    let mut text = String::with_capacity(36);
    for (at, byte) in swap(value).into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Some(text)
}

fn guid_bytes(text: &str) -> Option<Vec<u8>> {
    let plain = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let hex = text.replace('-', "");
    if !plain || hex.len() != 32 {
        return None;
    }
    let number = u128::from_str_radix(&hex, 16).ok()?;
    Some(swap(number.to_be_bytes()).to_vec())
}

fn sid(value: &[u8]) -> Option<String> {
    let (revision, rest) = value.split_first()?;
    let (count, rest) = rest.split_first()?;
    let (authority, parts) = rest.split_at_checked(6)?;
    if parts.len() != usize::from(*count) * 4 {
        return None;
    }
    let authority = authority.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let parts = parts.chunks_exact(4).map(|part| part.iter().rev().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte)));
    Some(parts.fold(format!("S-{revision}-{authority}"), |text, part| format!("{text}-{part}")))
}

fn sid_bytes(text: &str) -> Option<Vec<u8>> {
    let mut fields = text.strip_prefix("S-")?.split('-');
    let revision: u8 = fields.next()?.parse().ok()?;
    let authority: u64 = fields.next()?.parse().ok()?;
    let parts = fields.map(|field| field.parse().ok()).collect::<Option<Vec<u32>>>()?;
    let mut bytes = vec![revision, u8::try_from(parts.len()).ok()?];
    bytes.extend(authority.to_be_bytes().into_iter().skip(2));
    bytes.extend(parts.into_iter().flat_map(u32::to_le_bytes));
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_of_a_guid_are_ordered_as_active_directory_writes_them() {
        let stored: Vec<u8> = (0..16).collect();
        assert_eq!(readable("objectGUID", stored.clone()), b"03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(bytes("OBJECTGUID", "03020100-0504-0706-0809-0A0B0C0D0E0F"), Some(stored));
        assert_eq!(readable("objectGUID", b"short".to_vec()), b"short");
        for text in ["", "*", "03020100-0504-0706-0809", "+3020100-0504-0706-0809-0a0b0c0d0e0f"] {
            assert_eq!(bytes("objectGUID", text), None, "{text}");
        }
    }

    #[test]
    fn security_identifiers_are_written_as_everybody_writes_them() {
        let users = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x21, 2, 0, 0];
        assert_eq!(readable("tokengroups", users.to_vec()), b"S-1-5-32-545");
        assert_eq!(bytes("objectSid", "S-1-5-32-545"), Some(users.to_vec()));
        assert_eq!(readable("objectSid", vec![1, 9, 0]), [1, 9, 0], "one that is cut is no identifier");
        assert_eq!(sibling("S-1-5-21-1-2-3-1103", "513").as_deref(), Some("S-1-5-21-1-2-3-513"));
        assert_eq!(sibling("S-1-5-21-1-2-3-1103", "*"), None);
        assert_eq!(bytes("uid", "S-1-5-32-545"), None);
    }

    proptest! {
        #[test]
        fn there_and_back(guid in prop::array::uniform16(any::<u8>()), parts in prop::collection::vec(any::<u32>(), 0..15)) {
            let text = String::from_utf8(readable("objectGUID", guid.to_vec())).unwrap();
            prop_assert_eq!(bytes("objectGUID", &text), Some(guid.to_vec()));
            let sid = parts.iter().fold("S-1-5".to_owned(), |text, part| format!("{text}-{part}"));
            let stored = bytes("objectSid", &sid).unwrap();
            prop_assert_eq!(readable("objectSid", stored), sid.into_bytes());
        }
    }
}
