//! What we keep about a person.
//!
//! An account is found by (source, issuer, subject) and by nothing else: never by e-mail address or name, which a source lets people
//! choose. Its id is random, is the `sub` of the person's tokens, and is never used again.
//!
//! Everything here works inside the write transaction of its caller and writes its audit record there.
//! * [`link`]: from an identity to the account, at each sign-in; the first one makes the account.
//! * [`local`]: accounts with passwords of ours, and what an administrator does to any account.

mod link;
pub mod local;
mod names;
#[cfg(test)]
mod tests;

pub use link::{LinkError, link};

use crate::oauth2::{AccountId, secret};

/// A new account id: 128 random bits in lower-case hex. It tells nothing, not even when the account was made.
pub fn new_id() -> AccountId {
    let mut bytes = [0u8; 16];
    secret::fill_random(&mut bytes);
    secret::hex(&bytes).into()
}
