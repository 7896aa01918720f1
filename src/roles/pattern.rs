//! `*` and `?` patterns, and what a role may be called.

/// Roles that begin so administer Countersign itself.
const PRIVILEGED: &str = "countersign:";

/// A pattern over a whole text: `*` stands for any characters or none, `?` for one.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<char>);

impl Pattern {
    pub(super) fn new(text: &str) -> Pattern {
        Pattern(text.chars().collect())
    }

    /// Takes time of at most pattern × text, whatever they hold.
    pub(super) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut p, mut t) = (0, 0);
        // Where to go on if the rest does not match: the last star lets one more character pass.
        let mut star = None;
        while let Some(c) = text.get(t) {
            match self.0.get(p) {
                Some('*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(wanted) if *wanted == '?' || wanted == c => {
                    p += 1;
                    t += 1;
                }
                _ => {
                    let Some((star_at, passed)) = star else { return false };
                    star = Some((star_at, passed + 1));
                    p = star_at + 1;
                    t = passed + 1;
                }
            }
        }
        self.0.iter().skip(p).all(|c| *c == '*')
    }
}

/// Whether a client lets a role through: it matches one of `patterns`. A role of Countersign's own administration passes only a
/// pattern that begins `countersign:` itself, never a bare `*`.
pub(super) fn under_ceiling(role: &str, patterns: &[String]) -> bool {
    patterns.iter().filter(|pattern| !is_privileged(role) || is_privileged(pattern)).any(|pattern| Pattern::new(pattern).matches(role))
}

/// Whether a role administers Countersign itself. Case does not matter, so that no look-alike is made either.
pub fn is_privileged(role: &str) -> bool {
    role.get(..PRIVILEGED.len()).is_some_and(|start| start.eq_ignore_ascii_case(PRIVILEGED))
}

/// Whether a text can be a role: 1 to 128 bytes, printable, without spaces, control or invisible characters.
pub fn is_role(text: &str) -> bool {
    (1..=128).contains(&text.len()) && !text.chars().any(|c| c.is_whitespace() || c.is_control() || is_invisible(c))
}

/// Format characters of Unicode that would make two roles look the same.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*:read", "red:read", true),
            ("*:read", "red:reader", false),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("", "", true),
            ("", "a", false),
            ("eng-*", "Eng-x", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_star_in_a_ceiling_lets_no_administration_through() {
        let passes = |role: &str, pattern: &str| under_ceiling(role, &[pattern.to_owned()]);
        assert!(passes("admin", "*") && !passes("countersign:admin", "*"));
        assert!(!passes("admin", "countersign:*") && passes("countersign:admin", "countersign:*"));
        assert!(!under_ceiling("admin", &[]));
    }

    #[test]
    fn names_of_roles() {
        assert!(is_role("red:read") && is_role("rôle"));
        for bad in ["", "a b", "a\tb", "a\0", "a\u{200b}b", "a\u{202e}b", &"x".repeat(129)] {
            assert!(!is_role(bad), "{bad:?}");
        }
        assert!(
            is_privileged("countersign:x")
                && is_privileged("Countersign:x")
                && !is_privileged("countersign")
                && !is_privileged("éééééééééé")
        );
    }

    proptest! {
        #[test]
        fn a_pattern_agrees_with_a_regex(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let regex: String = pattern.chars().map(|c| match c { '*' => ".*".into(), '?' => ".".into(), c => c.to_string() }).collect();
            let regex = regex::Regex::new(&format!(r"\A(?:{regex})\z")).unwrap();
            prop_assert_eq!(Pattern::new(&pattern).matches(&text), regex.is_match(&text));
        }
    }
}
