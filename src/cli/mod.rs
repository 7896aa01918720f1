//! (being built)
pub mod log;
