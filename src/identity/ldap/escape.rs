//! What a person typed, made safe for a filter or a bind template.

use super::binary;

/// A value for a search filter (RFC 4515 section 3). Every octet but the plainest is written in hex, so that nothing depends on how
/// a parser treats the rest.
pub fn filter_value(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'@' | b'=' | b',' => escaped.push(char::from(byte)),
            other => escaped.push_str(&format!("\\{other:02x}")),
        }
    }
    escaped
}

/// `(ATTRIBUTE=VALUE)`, escaped. Where the attribute's values are no text in the directory, the text stands for their bytes.
pub fn equals(attribute: &str, value: &str) -> String {
    match binary::bytes(attribute, value) {
        Some(bytes) => format!("({attribute}={})", bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>()),
        None => format!("({attribute}={})", filter_value(value)),
    }
}

/// `(&FILTER…)` of those that are there.
pub fn all_of(filters: &[&str]) -> String {
    format!("(&{})", filters.concat())
}

/// `(|(ATTRIBUTE=VALUE)…)`, escaped.
pub fn any_equals<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let parts: String = pairs.into_iter().map(|(attribute, value)| equals(attribute, value)).collect();
    format!("(|{parts})")
}

#[cfg(test)]
mod tests {
    use lber::structure::PL;
    use lber::structures::ASNTag;
    use proptest::prelude::*;

    use super::*;
    use crate::roles::dn;

    /// The value that a parser reads out of `(uid=…)`.
    fn read_back(filter: &str) -> Vec<u8> {
        let tag = ldap3::parse_filter(filter).unwrap().into_structure();
        assert_eq!(tag.id, 3, "an equality match, nothing else: {filter}");
        let PL::C(parts) = tag.payload else { panic!("{filter}") };
        parts[1].clone().expect_primitive().unwrap()
    }

    #[test]
    fn the_characters_with_a_meaning_lose_it() {
        assert_eq!(filter_value("*()\\\0é"), "\\2a\\28\\29\\5c\\00\\c3\\a9");
        assert_eq!(filter_value("a.b-c_d@lab.test"), "a.b-c_d@lab.test");
        assert_eq!(equals("objectSid", "S-1-5-32-1"), "(objectSid=\\01\\02\\00\\00\\00\\00\\00\\05\\20\\00\\00\\00\\01\\00\\00\\00)");
        assert_eq!(equals("objectGUID", "*"), "(objectGUID=\\2a)", "what is no identifier matches nothing");
        assert_eq!(any_equals([("uid", "a)(b"), ("mail", "x")]), "(|(uid=a\\29\\28b)(mail=x))");
    }

    proptest! {
        #[test]
        fn a_filter_means_what_was_typed(typed in "([*()\\\\\0é,=& a-z]|\\PC){1,40}") {
            prop_assert_eq!(read_back(&format!("(uid={})", filter_value(&typed))), typed.as_bytes());
        }

        #[test]
        fn a_bind_name_means_what_was_typed(typed in "([*()\\\\\0é,=+#;\"<> a-z]|\\PC){1,40}") {
            let name = dn::Dn::parse(&format!("uid={},ou=people,dc=lab,dc=test", dn::escape_value(&typed))).unwrap();
            prop_assert_eq!(name.rdn_value("uid"), Some(typed.as_str()));
            prop_assert!(name.is_under(&dn::Dn::parse("ou=people,dc=lab,dc=test").unwrap()));
        }
    }

    #[test]
    fn fuzz_filters() {
        let seeds = ["o,connor (x)*", "*)(uid=*))(|(uid=*", "a\\2a\0", "josé\\", "admin)(!(&(1=0"];
        crate::fuzz::survives(crate::fuzz::hostile_text(&seeds), |typed| {
            prop_assert_eq!(read_back(&format!("(uid={})", filter_value(&typed))), typed.as_bytes());
            // Two values stay two values, whatever they hold.
            let both = any_equals([("uid", typed.as_str()), ("mail", typed.as_str())]);
            let PL::C(parts) = ldap3::parse_filter(&both).unwrap().into_structure().payload else { panic!("{both}") };
            prop_assert_eq!(parts.len(), 2);
            Ok(())
        });
    }
}
