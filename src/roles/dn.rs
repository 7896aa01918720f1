//! Distinguished names, compared as a directory compares them (RFC 4514 for the text, RFC 4517 and 4518 for equality).
//!
//! A directory may write a name otherwise than it was stored (`\2C` for `\,`, other case, other spaces), so names are only ever
//! compared parsed: the type of an attribute by its short name, the value case-folded and in NFC with runs of white space as one.

mod reader;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use unicode_normalization::UnicodeNormalization;

/// A parsed distinguished name. Equality, order and hash are those of [`Dn::normalised`]; `Display` writes it as it was given.
#[derive(Clone, Debug)]
pub struct Dn {
    original: String,
    rdns: Vec<Rdn>,
    normalised: String,
}

/// One level of a name; several attributes where it is multi-valued.
#[derive(Clone, Debug)]
struct Rdn {
    attributes: Vec<Attribute>,
    normalised: String,
}

#[derive(Clone, Debug)]
struct Attribute {
    /// Lower-case short name, or a numeric OID that has none here.
    kind: String,
    /// As it was given, unescaped; none where it is no text.
    text: Option<String>,
    normalised: String,
}

/// Why a text is no distinguished name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnError {
    #[error("an empty name; write it in full, such as cn=admins,ou=groups,dc=example,dc=org")]
    Empty,
    #[error("at byte {0}: an attribute type and = were expected, as in cn=admins")]
    AttributeType(usize),
    #[error("at byte {0}: a backslash must be followed by two hex digits or by one of \\ \" + , ; < > = # and space")]
    Escape(usize),
    #[error("at byte {0}: write \\{1} for {1} inside a value (the old form in quotes is not taken)")]
    Unescaped(usize, char),
    #[error("at byte {0}: NUL must be written \\00")]
    Nul(usize),
    #[error("one level names {0} twice; a name has each attribute type once a level")]
    Repeated(String),
    #[error("at byte {0}: after # come pairs of hex digits; write \\# for a value that begins with #")]
    HexString(usize),
}

impl Dn {
    /// Parses RFC 4514 text, with spaces around separators allowed (RFC 2253). The old quoted form and `;` between levels are refused.
    pub fn parse(text: &str) -> Result<Dn, DnError> {
        let mut reader = reader::Reader::new(text);
        reader.skip_spaces();
        if reader.peek().is_none() {
            return Err(DnError::Empty);
        }
        let mut rdns = Vec::new();
        let mut attributes = Vec::new();
        loop {
            attributes.push(reader.attribute()?);
            let separator = reader.next();
            if separator != Some(b'+') {
                rdns.push(Rdn::new(std::mem::take(&mut attributes))?);
            }
            if separator.is_none() {
                break;
            }
        }
        let normalised = rdns.iter().map(|rdn| rdn.normalised.as_str()).collect::<Vec<_>>().join(",");
        Ok(Dn { original: text.to_owned(), rdns, normalised })
    }

    /// Whether this is `base` itself or stands below it.
    pub fn is_under(&self, base: &Dn) -> bool {
        self.rdns.len() >= base.rdns.len() && self.rdns.iter().rev().zip(base.rdns.iter().rev()).all(|(a, b)| a.normalised == b.normalised)
    }

    /// The value of an attribute of the first level, unescaped and in its original case. `kind` is matched without case.
    pub fn rdn_value(&self, kind: &str) -> Option<&str> {
        let kind = short_name(kind);
        self.rdns.first()?.attributes.iter().find(|attribute| attribute.kind == kind)?.text.as_deref()
    }

    /// The common name, if the first level has one.
    pub fn cn(&self) -> Option<&str> {
        self.rdn_value("cn")
    }

    /// One text for all ways to write the same name; it parses to the same name again.
    pub fn normalised(&self) -> &str {
        &self.normalised
    }
}

impl PartialEq for Dn {
    fn eq(&self, other: &Dn) -> bool {
        self.normalised == other.normalised
    }
}

impl Eq for Dn {}

impl Hash for Dn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.normalised.hash(state);
    }
}

impl PartialOrd for Dn {
    fn partial_cmp(&self, other: &Dn) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Dn {
    fn cmp(&self, other: &Dn) -> Ordering {
        self.normalised.cmp(&other.normalised)
    }
}

impl fmt::Display for Dn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.original)
    }
}

impl Rdn {
    fn new(mut attributes: Vec<Attribute>) -> Result<Rdn, DnError> {
        attributes.sort_by(|a, b| a.normalised.cmp(&b.normalised));
        let twice = attributes.windows(2).find_map(|pair| match pair {
            [a, b] if a.kind == b.kind => Some(a.kind.clone()),
            _ => None,
        });
        match twice {
            Some(kind) => Err(DnError::Repeated(kind)),
            None => {
                let normalised = attributes.iter().map(|attribute| attribute.normalised.as_str()).collect::<Vec<_>>().join("+");
                Ok(Rdn { attributes, normalised })
            }
        }
    }
}

/// Escapes a value so that it can stand in a distinguished name (RFC 4514 section 2.4), whatever it holds.
pub fn escape_value(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    let last = value.char_indices().next_back().map(|(at, _)| at);
    for (at, c) in value.char_indices() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '=' | '\\' => escaped.extend(['\\', c]),
            '#' if at == 0 => escaped.push_str("\\#"),
            ' ' if at == 0 || Some(at) == last => escaped.push_str("\\ "),
            '\0'..='\u{1f}' | '\u{7f}' => escaped.push_str(&format!("\\{:02x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A value as equality sees it: case-folded, NFC, white space at the ends dropped and runs of it as one space.
///
/// NFC rather than the NFKC of RFC 4518, so that a look-alike from a compatibility block never matches a rule.
pub fn fold(value: &str) -> String {
    let lower = value.nfd().flat_map(char::to_lowercase).map(alike).nfc().collect::<String>();
    lower.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The two letters that Unicode folds to another one although they are lower case already.
fn alike(c: char) -> char {
    match c {
        'ς' => 'σ',
        'ſ' => 's',
        c => c,
    }
}

/// RFC 4519's short name of an attribute type; types without one here stay as they are, in lower case.
fn short_name(kind: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    let kind = kind.strip_prefix("oid.").unwrap_or(&kind);
    match kind {
        "2.5.4.3" | "commonname" => "cn",
        "2.5.4.6" | "countryname" => "c",
        "2.5.4.7" | "localityname" => "l",
        "2.5.4.8" | "stateorprovincename" => "st",
        "2.5.4.9" | "streetaddress" => "street",
        "2.5.4.10" | "organizationname" => "o",
        "2.5.4.11" | "organizationalunitname" => "ou",
        "0.9.2342.19200300.100.1.1" | "userid" => "uid",
        "0.9.2342.19200300.100.1.25" | "domaincomponent" => "dc",
        other => other,
    }
    .to_owned()
}

impl Attribute {
    fn new(kind: String, value: Vec<u8>) -> Attribute {
        match String::from_utf8(value) {
            Ok(text) => Attribute { normalised: format!("{kind}={}", escape_value(&fold(&text))), kind, text: Some(text) },
            Err(binary) => Attribute { normalised: format!("{kind}={}", hex(binary.as_bytes(), "\\")), kind, text: None },
        }
    }
}

fn hex(bytes: &[u8], before_each: &str) -> String {
    bytes.iter().map(|byte| format!("{before_each}{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dn(text: &str) -> Dn {
        Dn::parse(text).unwrap()
    }

    #[test]
    fn different_ways_to_write_a_name_are_equal() {
        for (a, b) in [
            ("CN=App Admins,OU=Roles,DC=corp,DC=test", "cn=app  admins , ou = roles, dc=CORP,dc=test"),
            (r"cn=O\,Connor\20\28x\29", r"CN=O\2CConnor (x)"),
            (r"cn=jos\c3\a9", "cn=JOSÉ"),
            ("cn=jose\u{301}", "cn=josé"),
            ("ou=a+cn=b,dc=x", "CN=B+OU=A,dc=x"),
            ("cn=#04024869", "cn=hi"),
            ("2.5.4.3=hi,domainComponent=x", "cn=hi,dc=x"),
            (r"cn=\ a\ ", "cn=a"),
            ("cn=ΣΑΣ", "cn=σας"),
            (r"cn=\#a", r"cn=\23a"),
        ] {
            assert_eq!(dn(a), dn(b), "{a} and {b}");
        }
        assert_ne!(dn("cn=a,b=c"), dn(r"cn=a\,b=c"));
        assert_ne!(dn("cn=admın"), dn("cn=admin"));
        assert_ne!(dn("cn=ａ"), dn("cn=a"));
        assert_ne!(dn(r"cn=\ff"), dn(r"cn=\fe"));
    }

    #[test]
    fn under_is_by_levels_not_by_text() {
        let base = dn("ou=Roles,dc=corp,dc=test");
        assert!(dn("cn=x,OU=roles,DC=corp, DC=test").is_under(&base));
        assert!(base.is_under(&base));
        assert!(!dn("cn=x,ou=more roles,dc=corp,dc=test").is_under(&base));
        assert!(!dn(r"cn=x\,ou=roles\,dc=corp,dc=test").is_under(&base));
        assert!(!dn("dc=test").is_under(&base));
    }

    #[test]
    fn the_common_name_keeps_its_case() {
        assert_eq!(dn(r"CN=App\, Admins,OU=x").cn(), Some("App, Admins"));
        assert_eq!(dn("ou=x+commonName=Both,dc=y").cn(), Some("Both"));
        assert_eq!(dn("ou=x,cn=y").cn(), None);
        assert_eq!(dn(r"cn=\ff").cn(), None);
    }

    #[test]
    fn broken_names_are_refused_with_the_place() {
        for (text, error) in [
            ("  ", DnError::Empty),
            ("admins", DnError::AttributeType(0)),
            ("cn=a,", DnError::AttributeType(5)),
            ("cn=a,,dc=b", DnError::AttributeType(5)),
            ("=a", DnError::AttributeType(0)),
            ("1..2=a", DnError::AttributeType(0)),
            (r"cn=a\", DnError::Escape(4)),
            (r"cn=a\z1", DnError::Escape(4)),
            ("cn=\"a\"", DnError::Unescaped(3, '"')),
            ("cn=a;dc=b", DnError::Unescaped(4, ';')),
            ("cn=a\0", DnError::Nul(4)),
            ("cn=a+CN=b,dc=x", DnError::Repeated("cn".to_owned())),
            ("cn=#0", DnError::HexString(3)),
            ("cn=#", DnError::HexString(3)),
            ("cn=#00zz", DnError::HexString(3)),
        ] {
            assert_eq!(Dn::parse(text).unwrap_err(), error, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused_and_normalises_once(text in "(cn|[a-z.0-9]{0,4})[ =]{0,2}(\\PC|[=,+\\\\# \"0-9a-f\0]){0,30}") {
            if let Ok(name) = Dn::parse(&text) {
                let again = Dn::parse(name.normalised()).unwrap();
                prop_assert_eq!(again.normalised(), name.normalised());
            }
        }

        #[test]
        fn an_escaped_value_comes_back(value in any::<String>()) {
            let name = Dn::parse(&format!("cn={},dc=x", escape_value(&value))).unwrap();
            prop_assert_eq!(name.cn(), Some(value.as_str()));
            prop_assert!(name.is_under(&dn("dc=x")));
        }
    }

    #[test]
    fn fuzz_distinguished_names() {
        let seeds = [
            r"CN=App\, Admins+OU=x,ou = Roles , DC=corp,dc=test",
            r"cn=O\2CConnor\20\28x\29,2.5.4.11=#0403e9",
            "uid=josé,ou=people,dc=lab",
        ];
        crate::fuzz::survives(crate::fuzz::hostile_text(&seeds), |text| {
            let Ok(name) = Dn::parse(&text) else { return Ok(()) };
            let again = Dn::parse(name.normalised()).unwrap();
            prop_assert_eq!(again.normalised(), name.normalised());
            prop_assert!(name.is_under(&name) && name.is_under(&again));
            let _ = (name.cn().is_some(), name.to_string());
            Ok(())
        });
    }
}
