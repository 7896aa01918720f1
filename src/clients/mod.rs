//! Clients: who they are ([`registry`]), how they prove it ([`authenticate`], [`assertion`]), how they come and go ([`admin`], [`declared`]).
//!
//! All clients are held in memory; the feed tells when one changed. Client authentication reads no database.

pub mod admin;
pub mod assertion;
pub mod authenticate;
pub mod client;
pub mod declared;
pub mod registry;

pub use authenticate::{Credentials, authenticate};
pub use client::{Client, ClientSecret};
pub use registry::Registry;

/// The kind of a feed entry that tells nodes to load a client again.
pub const FEED_KIND: &str = "client_changed";
