//! What a new password must be, and how one is made up.
//!
//! Length and strength only: NIST SP 800-63B section 3.1.1.2 advises against rules of composition and against expiry.

use crate::config::Accounts;
use crate::oauth2::Secret;
use crate::oauth2::secret::fill_random;
use zeroize::Zeroizing;

/// The longest password in bytes, new or typed. Longer ones are refused before any work is done for them.
pub const LONGEST: usize = 256;

/// Why a new password is refused, and what to do. Never holds any of the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("the password has fewer than {0} characters; make it longer")]
    TooShort(usize),
    #[error("the password has more than {LONGEST} bytes; make it shorter")]
    TooLong,
    #[error("the password holds a NUL character; leave it out")]
    Nul,
    /// With the advice of zxcvbn.
    #[error("the password is too easy to guess (score {score} of 4, at least {wanted} is needed): {advice}")]
    TooWeak { score: u8, wanted: u8, advice: String },
}

/// Checks a new password against `[accounts]`. `words` are what a guesser would try first for this person: username, e-mail, name.
pub fn check(password: &Secret, words: &[&str], config: &Accounts) -> Result<(), PolicyError> {
    let text = password.expose();
    if text.len() > LONGEST {
        return Err(PolicyError::TooLong);
    }
    if text.contains('\0') {
        return Err(PolicyError::Nul);
    }
    if text.chars().count() < config.password_min_length.max(1) {
        return Err(PolicyError::TooShort(config.password_min_length.max(1)));
    }
    // Whole and in parts: `anna.schmidt@example.com` makes neither `schmidt` nor `anna.schmidt` a better password.
    let mut known = vec!["countersign"];
    for word in words {
        known.push(word);
        known.extend(word.split(|c: char| !c.is_alphanumeric()).filter(|part| part.len() > 2));
    }
    let entropy = zxcvbn::zxcvbn(text, &known);
    let score = u8::from(entropy.score());
    if score >= config.password_min_score {
        return Ok(());
    }
    let advice = entropy.feedback().map(|f| {
        let warning = f.warning().map(|w| w.to_string());
        warning.into_iter().chain(f.suggestions().iter().map(ToString::to_string)).collect::<Vec<_>>().join(" ")
    });
    let advice = advice.filter(|a| !a.is_empty()).unwrap_or_else(|| "Add another word or two.".to_owned());
    Err(PolicyError::TooWeak { score, wanted: config.password_min_score, advice })
}

/// Whether what somebody typed can be a password at all. Checked before any hashing or I/O; the answer to the caller is that of a
/// wrong password.
pub fn is_possible(password: &Secret) -> bool {
    let text = password.expose();
    !text.is_empty() && text.len() <= LONGEST && !text.contains('\0')
}

/// A password to be read from a screen and typed: `cs_pw_` and five groups of five letters and digits that do not look alike,
/// 125 random bits. The prefix is for leak scanners.
pub fn generate() -> Secret {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = Zeroizing::new([0u8; 25]);
    fill_random(bytes.as_mut_slice());
    let mut text = Zeroizing::new(String::with_capacity(64));
    text.push_str("cs_pw_");
    for (i, byte) in bytes.iter().enumerate() {
        if i > 0 && i % 5 == 0 {
            text.push('-');
        }
        // 32 letters divide 256, so each is equally likely.
        text.push(LETTERS.get(usize::from(byte % 32)).copied().map_or('a', char::from));
    }
    Secret::new(text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(password: &str, words: &[&str]) -> Result<(), PolicyError> {
        check(&Secret::new(password), words, &Accounts::default())
    }

    #[test]
    fn the_policy_by_examples() {
        assert_eq!(verdict("correct horse battery staple", &[]), Ok(()));
        assert_eq!(verdict("Vw9#kpLz2!", &[]), Ok(()));
        assert_eq!(verdict("short", &[]), Err(PolicyError::TooShort(10)));
        assert_eq!(verdict("äöüäöüäöü", &[]), Err(PolicyError::TooShort(10)), "characters count, not bytes");
        assert_eq!(verdict(&"x".repeat(257), &[]), Err(PolicyError::TooLong));
        assert_eq!(verdict("correct horse\0 battery", &[]), Err(PolicyError::Nul));
        for weak in ["passwordpassword", "1234567890", "aaaaaaaaaaaaaaaa", "qwertyuiop"] {
            assert!(matches!(verdict(weak, &[]), Err(PolicyError::TooWeak { .. })), "{weak}");
        }
    }

    #[test]
    fn the_persons_own_words_are_known_words() {
        let password = "wolfeschlegelsteinhausen";
        assert_eq!(verdict(password, &[]), Ok(()));
        for words in [["wolfeschlegelsteinhausen"], ["a.wolfeschlegelsteinhausen@example.com"]] {
            assert!(matches!(verdict(password, &words), Err(PolicyError::TooWeak { .. })), "{words:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_and_not_what_was_typed() {
        let error = verdict("passwordpassword", &[]).unwrap_err().to_string();
        assert!(error.contains("Add another word"), "{error}");
        assert!(!error.contains("passwordpassword"), "{error}");
    }

    #[test]
    fn what_cannot_be_a_password() {
        assert!(is_possible(&Secret::new("a")));
        for bad in ["", "a\0b", "x".repeat(257).as_str()] {
            assert!(!is_possible(&Secret::new(bad)));
        }
    }

    #[test]
    fn generated_passwords_differ_and_meet_the_strictest_policy() {
        let strict = Accounts { password_min_length: 20, password_min_score: 4, ..Accounts::default() };
        let password = generate();
        assert_eq!(check(&password, &["admin"], &strict), Ok(()));
        assert_eq!(password.expose().len(), "cs_pw_".len() + 25 + 4);
        assert_ne!(password.expose(), generate().expose());
    }
}
