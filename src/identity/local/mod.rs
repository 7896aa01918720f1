//! Accounts of our own: a username and a password that is kept as argon2id.
//!
//! Passwords are hashed on threads of their own ([`Hasher`]).

mod argon;
pub mod hasher;
pub mod login;
pub mod policy;

pub use argon::HashError;
pub use hasher::{Hasher, HasherError};
