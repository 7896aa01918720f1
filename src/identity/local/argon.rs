//! One argon2id computation (RFC 9106), and the PHC string that keeps its result in the database.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::oauth2::{Secret, secret};

/// Memory of one computation in KiB, passes and lanes: the second recommendation of OWASP's password storage advice, about 16 ms.
const MEMORY: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// The most that a stored hash may ask for. An imported hash costs what it says, so it may not say anything it likes.
const MOST_MEMORY: u32 = 65_536;
const MOST_PASSES: u32 = 8;
const MOST_LANES: u32 = 8;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
const LONGEST_HASH: usize = 64;

/// The working memory of argon2, kept between computations: fresh memory for each grew to 200 MB and more under load.
#[derive(Default)]
pub(super) struct Memory(pub(super) Vec<Block>);

impl Memory {
    /// At least `blocks` blocks of 1 KiB. The first call allocates; the usual ones after it do not.
    fn blocks(&mut self, blocks: usize) -> &mut [Block] {
        if self.0.len() < blocks {
            self.0.resize(blocks, Block::default());
        }
        &mut self.0
    }

    /// Gives back what one unusually large hash made it grow by.
    fn trim(&mut self) {
        if self.0.len() > MEMORY as usize {
            self.0 = Vec::new();
        }
    }
}

/// A stored hash that cannot be read, or a computation that failed. Never holds the password or the hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HashError(String);

fn failed(reason: impl std::fmt::Display) -> HashError {
    HashError(reason.to_string())
}

/// `password` under a fresh salt, as `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`.
pub(super) fn hash(password: &Secret, memory: &mut Memory) -> Result<String, HashError> {
    let mut salt = [0u8; SALT_BYTES];
    secret::fill_random(&mut salt);
    let mut out = [0u8; HASH_BYTES];
    let params = Params::new(MEMORY, PASSES, LANES, Some(HASH_BYTES)).map_err(failed)?;
    compute(Version::V0x13, params, password, &salt, &mut out, memory)?;
    Ok(format!("$argon2id$v=19$m={MEMORY},t={PASSES},p={LANES}${}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(out)))
}

/// Whether `password` is the one behind `stored`, compared in constant time.
///
/// Errors: `stored` is no argon2id PHC string, or asks for more work than we allow.
pub(super) fn verify(password: &Secret, stored: &str, memory: &mut Memory) -> Result<bool, HashError> {
    let parsed = PasswordHash::new(stored).map_err(|e| failed(format!("the stored password hash is not a PHC string: {e}")))?;
    if parsed.algorithm.as_str() != "argon2id" {
        return Err(failed(format!("the stored password hash is {}, not argon2id; set a new password", parsed.algorithm)));
    }
    let version = Version::try_from(parsed.version.unwrap_or(Version::V0x13.into())).map_err(failed)?;
    let params = Params::try_from(&parsed).map_err(failed)?;
    if params.m_cost() > MOST_MEMORY || params.t_cost() > MOST_PASSES || params.p_cost() > MOST_LANES {
        return Err(failed(format!(
            "the stored password hash asks for m={},t={},p={}; the most allowed is m={MOST_MEMORY},t={MOST_PASSES},p={MOST_LANES}; \
             set a new password",
            params.m_cost(),
            params.t_cost(),
            params.p_cost()
        )));
    }
    let (Some(salt), Some(expected)) = (&parsed.salt, &parsed.hash) else {
        return Err(failed("the stored password hash has no salt or no hash"));
    };
    let mut out = Zeroizing::new([0u8; LONGEST_HASH]);
    let out = out.get_mut(..expected.len()).ok_or_else(|| failed("the stored password hash is too long"))?;
    compute(version, params, password, salt, out, memory)?;
    Ok(constant_time::verify_slices_are_equal(out, expected.as_ref()).is_ok())
}

/// Costs what [`verify`] of one of our own hashes costs, and answers nothing: for users who do not exist.
pub(super) fn verify_nobody(password: &Secret, memory: &mut Memory) -> Result<(), HashError> {
    let params = Params::new(MEMORY, PASSES, LANES, Some(HASH_BYTES)).map_err(failed)?;
    compute(Version::V0x13, params, password, &[0u8; SALT_BYTES], &mut [0u8; HASH_BYTES], memory)
}

fn compute(version: Version, params: Params, password: &Secret, salt: &[u8], out: &mut [u8], memory: &mut Memory) -> Result<(), HashError> {
    let blocks = memory.blocks(params.block_count());
    let done = Argon2::new(Algorithm::Argon2id, version, params)
        .hash_password_into_with_memory(password.expose().as_bytes(), salt, out, blocks)
        .map_err(failed);
    memory.trim();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_opens_to_its_password_only_and_is_salted() {
        let memory = &mut Memory::default();
        let right = Secret::new("correct horse battery staple");
        let first = hash(&right, memory).unwrap();
        assert!(first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
        assert_ne!(first, hash(&right, memory).unwrap());
        assert_eq!(verify(&right, &first, memory), Ok(true));
        assert_eq!(verify(&Secret::new("Correct horse battery staple"), &first, memory), Ok(false));
        assert_eq!(verify_nobody(&right, memory), Ok(()));
    }

    #[test]
    fn memory_is_reused_and_never_kept_larger_than_our_own_hashes_need() {
        let mut memory = Memory::default();
        hash(&Secret::new("a"), &mut memory).unwrap();
        let before = memory.0.as_ptr();
        hash(&Secret::new("b"), &mut memory).unwrap();
        assert_eq!((memory.0.len(), memory.0.as_ptr()), (MEMORY as usize, before));
        memory.blocks(MOST_MEMORY as usize);
        memory.trim();
        assert_eq!(memory.0.capacity(), 0);
    }

    /// The vector that the reference implementation's test suite has for m=65536, t=2, p=1, "password", "somesalt".
    #[test]
    fn verifies_what_the_reference_implementation_made() {
        let stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert_eq!(verify(&Secret::new("password"), stored, &mut Memory::default()), Ok(true));
    }

    #[test]
    fn a_stored_hash_may_not_ask_for_any_amount_of_work() {
        let tail = "c29tZXNhbHRzb21lc2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        for bad in [
            format!("$argon2id$v=19$m=4000000,t=2,p=1${tail}"),
            format!("$argon2id$v=19$m=19456,t=4000000,p=1${tail}"),
            format!("$argon2i$v=19$m=19456,t=2,p=1${tail}"),
            "$argon2id$v=19$m=19456,t=2,p=1".to_owned(),
            "plain".to_owned(),
            String::new(),
        ] {
            assert!(verify(&Secret::new("x"), &bad, &mut Memory::default()).is_err(), "{bad}");
        }
    }
}
