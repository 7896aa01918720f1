//! Search results, read without the panics of the library's own reader and without its split into text and binary values.

use lber::structure::{PL, StructureTag};

use super::binary;

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
            let values = values.into_iter().map(|value| binary::readable(&name, value)).collect();
            attributes.push((name, values));
        }
        Some(Entry { dn, attributes })
    }

    /// An entry of a test.
    #[cfg(test)]
    pub fn with(dn: &str, values: &[(&str, &str)]) -> Entry {
        let attributes = values.iter().map(|(name, value)| ((*name).to_owned(), vec![value.as_bytes().to_vec()])).collect();
        Entry { dn: dn.to_owned(), attributes }
    }

    /// The values of an attribute that are text; its name is matched without case.
    pub fn texts<'a>(&'a self, attribute: &'a str) -> impl Iterator<Item = &'a str> {
        self.values(attribute).filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// All values of an attribute. The error is for a list that would be shorter than what the server sent: a value that is no text.
    pub fn all_texts<'a>(&'a self, attribute: &'a str) -> Result<Vec<&'a str>, String> {
        self.values(attribute).map(|value| text_of(attribute, value)).collect()
    }

    /// The first value that is text and not blank.
    pub fn text<'a>(&'a self, attribute: &'a str) -> Option<&'a str> {
        self.texts(attribute).find(|value| !value.trim().is_empty())
    }

    /// A piece of an attribute that the server does not send whole ([MS-ADTS] section 3.1.1.3.1.3.3): `member;range=0-1499`. None
    /// where it came whole, or not at all. The error is for a piece that cannot be read: then nobody knows what is missing.
    pub fn piece<'a>(&'a self, attribute: &str) -> Result<Option<Piece<'a>>, String> {
        let mut pieces = self.attributes.iter().filter_map(|(name, values)| {
            let (base, option) = name.split_once(';')?;
            let range = option.get(..6).filter(|start| start.eq_ignore_ascii_case("range=")).and(option.get(6..))?;
            base.eq_ignore_ascii_case(attribute).then_some((range, values))
        });
        let Some((range, values)) = pieces.next() else { return Ok(None) };
        let next = match range.split_once('-') {
            Some((_, "*")) => Some(None),
            Some((_, last)) => last.parse::<u32>().ok().and_then(|last| last.checked_add(1)).map(Some),
            None => None,
        };
        let next = next.filter(|_| pieces.next().is_none()).ok_or_else(|| format!("{attribute};range={range:?} is no single range"))?;
        let values = values.iter().map(|value| text_of(attribute, value)).collect::<Result<_, _>>()?;
        Ok(Some(Piece { values, next }))
    }

    fn values<'a>(&'a self, attribute: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.attributes.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(attribute));
        named.flat_map(|(_, values)| values.iter().map(Vec::as_slice))
    }
}

fn text_of<'a>(attribute: &str, value: &'a [u8]) -> Result<&'a str, String> {
    std::str::from_utf8(value).map_err(|_| format!("a value of {attribute} is no text"))
}

/// Some of the values of an attribute.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    pub values: Vec<&'a str>,
    /// Where the next piece begins; none after the last.
    pub next: Option<u32>,
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
    fn a_piece_says_where_the_next_begins() {
        let entry = |name: &[u8]| {
            let values = tag(PL::C(vec![text(b"cn=a"), text(b"cn=b")]));
            Entry::read(tag(PL::C(vec![text(b"cn=g"), tag(PL::C(vec![tag(PL::C(vec![text(name), values]))]))]))).unwrap()
        };
        let piece = |next| Ok(Some(Piece { values: vec!["cn=a", "cn=b"], next }));
        assert_eq!(entry(b"member;range=0-1499").piece("MEMBER"), piece(Some(1500)));
        assert_eq!(entry(b"Member;Range=1500-*").piece("member"), piece(None));
        for other in [&b"member"[..], b"member;binary", b"memberOf;range=0-1"] {
            assert_eq!(entry(other).piece("member"), Ok(None));
        }
        for malformed in
            [&b"member;range=0-x"[..], b"member;range=0-4294967295", b"Member;Range=", b"member;range=1", b"member;range=0-1;x"]
        {
            entry(malformed).piece("member").unwrap_err();
        }
    }

    #[test]
    fn values_that_are_no_text_make_no_shorter_list() {
        let entry = |name: &[u8]| {
            let values = tag(PL::C(vec![text(b"cn=a"), text(b"\xff")]));
            Entry::read(tag(PL::C(vec![text(b"cn=g"), tag(PL::C(vec![tag(PL::C(vec![text(name), values]))]))]))).unwrap()
        };
        entry(b"member").all_texts("MEMBER").unwrap_err();
        entry(b"member;range=0-*").piece("member").unwrap_err();
        assert_eq!(entry(b"memberOf").all_texts("member"), Ok(vec![]));
    }

    #[test]
    fn a_malformed_entry_is_none() {
        assert!(Entry::read(text(b"x")).is_none());
        assert!(Entry::read(tag(PL::C(vec![]))).is_none());
        assert!(Entry::read(tag(PL::C(vec![text(b"\xff"), tag(PL::C(vec![]))]))).is_none());
        assert!(Entry::read(tag(PL::C(vec![text(b"a"), tag(PL::C(vec![tag(PL::C(vec![text(b"b")]))]))]))).is_none());
    }
}
