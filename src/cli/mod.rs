//! (being built)

pub mod user;
