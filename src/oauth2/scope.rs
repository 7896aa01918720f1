//! Scopes of RFC 6749 section 3.3.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of scope tokens; on the wire a string separated by spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(BTreeSet<Arc<str>>);

impl Scope {
    /// Parses `scope`. None if a token has a character outside of NQCHAR (RFC 6749 appendix A.4).
    pub fn parse(text: &str) -> Option<Scope> {
        text.split(' ').filter(|t| !t.is_empty()).map(|t| is_token(t).then(|| t.into())).collect::<Option<_>>().map(Scope)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, token: &str) -> bool {
        self.0.contains(token)
    }

    pub fn is_subset(&self, other: &Scope) -> bool {
        self.0.is_subset(&other.0)
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Keeps the tokens for which `keep` answers true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|token| keep(token));
    }
}

/// Whether `token` is one scope-token of RFC 6749 section 3.3.
pub fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|b| b == 0x21 || (0x23..=0x5b).contains(&b) || (0x5d..=0x7e).contains(&b))
}

impl<S: AsRef<str>> FromIterator<S> for Scope {
    fn from_iter<I: IntoIterator<Item = S>>(tokens: I) -> Self {
        Scope(tokens.into_iter().map(|t| t.as_ref().into()).collect())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, token) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(token)?;
        }
        Ok(())
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Scope::parse(&text).ok_or_else(|| serde::de::Error::custom("a scope has a character that RFC 6749 forbids"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_sorts_and_refuses() {
        assert_eq!(Scope::parse("write  read read").unwrap().to_string(), "read write");
        assert!(Scope::parse("").unwrap().is_empty());
        for bad in ["a\"b", "a\\b", "é", "a\tb"] {
            assert!(Scope::parse(bad).is_none(), "{bad:?}");
        }
    }
}
