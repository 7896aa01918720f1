//! (being built)
pub mod body;
pub mod peer;
