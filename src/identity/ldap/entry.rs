//! Search results, read without the panics of the library's own reader and without its split into text and binary values.

use lber::structure::{PL, StructureTag};

/// One entry that a search found.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As the server wrote it.
    pub dn: String,
    attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl Entry {
    /// Reads a SearchResultEntry (RFC 4511 section 4.5.2); none where it is malformed or its name is no text.
    pub fn read(tag: StructureTag) -> Option<Entry> {
        let PL::C(parts) = tag.payload else { return None };
        let mut parts = parts.into_iter();
        let dn = String::from_utf8(parts.next()?.expect_primitive()?).ok()?;
        let mut attributes = Vec::new();
        for attribute in parts.next()?.expect_constructed()? {
            let mut halves = attribute.expect_constructed()?.into_iter();
            let name = String::from_utf8(halves.next()?.expect_primitive()?).ok()?;
            let values =
                halves.next()?.expect_constructed()?.into_iter().map(StructureTag::expect_primitive).collect::<Option<Vec<_>>>()?;
            attributes.push((name, values));
        }
        Some(Entry { dn, attributes })
    }

    /// The values of an attribute that are text; its name is matched without case.
    pub fn texts<'a>(&'a self, attribute: &'a str) -> impl Iterator<Item = &'a str> {
        self.values(attribute).filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// The first value that is text and not blank.
    pub fn text<'a>(&'a self, attribute: &'a str) -> Option<&'a str> {
        self.texts(attribute).find(|value| !value.trim().is_empty())
    }

    fn values<'a>(&'a self, attribute: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.attributes.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(attribute));
        named.flat_map(|(_, values)| values.iter().map(Vec::as_slice))
    }
}

#[cfg(test)]
mod tests {
    use lber::common::TagClass;

    use super::*;

    fn tag(payload: PL) -> StructureTag {
        StructureTag { class: TagClass::Universal, id: 4, payload }
    }

    fn text(value: &[u8]) -> StructureTag {
        tag(PL::P(value.to_vec()))
    }

    #[test]
    fn values_are_found_without_case_and_binary_ones_are_no_text() {
        let attribute =
            |name: &[u8], values: &[&[u8]]| tag(PL::C(vec![text(name), tag(PL::C(values.iter().map(|value| text(value)).collect()))]));
        let attributes = vec![attribute(b"entryUUID", &[b"1-2"]), attribute(b"mail", &[b"\xff", b" ", b"a@b"])];
        let entry = Entry::read(tag(PL::C(vec![text(b"uid=a"), tag(PL::C(attributes))]))).unwrap();
        assert_eq!((entry.dn.as_str(), entry.text("ENTRYuuid"), entry.text("Mail")), ("uid=a", Some("1-2"), Some("a@b")));
        assert_eq!(entry.text("uid"), None);
    }

    #[test]
    fn a_malformed_entry_is_none() {
        assert!(Entry::read(text(b"x")).is_none());
        assert!(Entry::read(tag(PL::C(vec![]))).is_none());
        assert!(Entry::read(tag(PL::C(vec![text(b"\xff"), tag(PL::C(vec![]))]))).is_none());
        assert!(Entry::read(tag(PL::C(vec![text(b"a"), tag(PL::C(vec![tag(PL::C(vec![text(b"b")]))]))]))).is_none());
    }
}
