//! The names of accounts: what may be one, and when two are the same.

use unicode_normalization::UnicodeNormalization;

/// The longest username in bytes.
pub const LONGEST: usize = 255;

/// Why a name cannot be a username.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a username has at least one character that is not a space")]
    Empty,
    #[error("a username has at most {LONGEST} bytes")]
    TooLong,
    #[error("a username has no control characters, and no characters that are invisible or change the direction of writing")]
    Invisible,
}

/// The name in the form in which it is stored and shown: trimmed, NFC (Unicode annex 15), upper and lower case as written.
pub fn normalise(name: &str) -> Result<String, NameError> {
    if name.len() > 4 * LONGEST {
        return Err(NameError::TooLong);
    }
    let name: String = name.trim().nfc().collect();
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > LONGEST {
        return Err(NameError::TooLong);
    }
    if name.chars().any(is_invisible) {
        return Err(NameError::Invisible);
    }
    Ok(name)
}

/// The form in which names are compared: [`normalise`] in lower case. `Anna` and `ANNA` are one login.
pub fn fold(name: &str) -> Result<String, NameError> {
    normalise(name).map(|name| name.to_lowercase().nfc().collect())
}

/// Control characters, line and paragraph separators, zero-width characters, directional marks and tags: two names that look the
/// same on a screen and in a log would not be.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_as_written_and_compared_without_case_or_composition() {
        assert_eq!(normalise(" Zoe\u{308} ").unwrap(), "Zo\u{eb}");
        assert_eq!(fold("ZOË").unwrap(), fold("zoe\u{308}").unwrap());
        assert_ne!(fold("zoe").unwrap(), fold("zoë").unwrap());
        assert_eq!(normalise("Anna.Schmidt@example.com").unwrap(), "Anna.Schmidt@example.com");
    }

    #[test]
    fn what_is_no_name() {
        for (bad, why) in [
            ("", NameError::Empty),
            (" \t", NameError::Empty),
            ("a\0b", NameError::Invisible),
            ("a\nb", NameError::Invisible),
            ("ad\u{200b}min", NameError::Invisible),
            ("\u{202e}nimda", NameError::Invisible),
        ] {
            assert_eq!(normalise(bad), Err(why), "{bad:?}");
        }
        assert_eq!(normalise(&"x".repeat(256)), Err(NameError::TooLong));
        assert_eq!(normalise(&"x".repeat(100_000)), Err(NameError::TooLong));
    }
}
