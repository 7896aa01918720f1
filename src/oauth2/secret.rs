//! Secrets: made here, never printed, compared in constant time.

use std::cell::RefCell;
use std::fmt;

use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A password, client secret or token as text. Debug prints nothing of it, there is no Display, memory is wiped on drop.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(Zeroizing::new(value.into()))
    }

    /// `prefix` and 256 random bits in base64url. The prefix (`cs_sec_` …) is what leak scanners find.
    pub fn generate(prefix: &str) -> Secret {
        let mut bytes = Zeroizing::new([0u8; 32]);
        fill_random(bytes.as_mut_slice());
        Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())))
    }

    /// The text itself. Every call is a place to look at when one asks where secrets go.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// SHA-256: for generated secrets of 256 bits no slow hash is needed.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Secret {
        Secret::new(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// A SHA-256 digest, compared in constant time.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        let mut out = [0u8; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Digest(out)
    }

    /// base64url without padding: the form in the database.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// None if `text` is not the base64url of 32 bytes.
    pub fn decode(text: &str) -> Option<Digest> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Digest)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn matches(&self, other: &Digest) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// Fills `bytes` from the operating system's generator.
#[expect(clippy::expect_used, reason = "without randomness nothing may be issued; aws-lc aborts in this case anyway")]
pub fn fill_random(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the random number generator answers");
}

/// Fills `bytes` with random bytes that need only be unique and not guessed: nonces and identifiers, not keys or secrets. They come
/// from a block that this thread fetched at once, since each call of the generator costs as much as the sealing of a token.
pub fn fill_unique(bytes: &mut [u8]) {
    const BLOCK: usize = 1024;
    thread_local! {
        static BLOCKS: RefCell<(usize, [u8; BLOCK])> = const { RefCell::new((BLOCK, [0; BLOCK])) };
    }
    BLOCKS.with_borrow_mut(|(used, block)| {
        if *used + bytes.len() > BLOCK {
            fill_random(block);
            *used = 0;
        }
        match block.get_mut(*used..*used + bytes.len()) {
            Some(fresh) => {
                bytes.copy_from_slice(fresh);
                fresh.fill(0);
                *used += bytes.len();
            }
            // More than a block holds.
            None => fill_random(bytes),
        }
    });
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0')));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_nothing_of_a_secret() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", secret.digest()), "Secret(…) Digest(…)");
    }

    #[test]
    fn unique_bytes_are_never_handed_out_twice() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1_000 {
            let mut bytes = [0u8; 12];
            fill_unique(&mut bytes);
            assert!(seen.insert(bytes));
        }
        let mut large = [0u8; 5_000];
        fill_unique(&mut large);
        assert!(large.windows(16).all(|window| window != [0; 16]));
    }

    #[test]
    fn digests_round_trip_and_differ() {
        let a = Secret::generate("cs_sec_");
        let b = Secret::generate("cs_sec_");
        assert!(a.expose().starts_with("cs_sec_"));
        assert!(Digest::decode(&a.digest().encode()).unwrap().matches(&a.digest()));
        assert!(!a.digest().matches(&b.digest()));
    }
}
