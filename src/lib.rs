//! Countersign: an OAuth 2.0 authorization server that federates. This file is the map of the house.
//!
//! A room may import any room below it in this list, none above it, and no other of its own paragraph;
//! `tests/stories/house_rules.rs` keeps that true. Data flows down and back once.

pub mod cli; // one command, one file

pub mod server; // listeners, TLS, graceful stop

pub mod dialects; // one foreign API shape, one file
pub mod endpoints; // one OAuth endpoint, one file; every route on one screen

pub mod web; // requests in, answers out: what HTTP is to the rooms above

pub mod grants; // one grant, one file; issue.rs is the single mint

pub mod app; // the shared parts, wired once

pub mod accounts; // what we keep about a person
pub mod clients; // client registry and client authentication

pub mod identity; // who somebody is, by each kind of source

pub mod roles; // groups to roles, pure
pub mod tokens; // access and refresh tokens, keys, what has been revoked

pub mod outbound; // the HTTP clients: for what the operator wrote, and, guarded, for what others did
pub mod storage; // the only room that names diesel

pub mod audit; // what is written down about an event
pub mod limits; // throttles
pub mod metrics; // counters and gauges

pub mod config; // one section, one file

pub mod oauth2; // the vocabulary of the RFCs, no I/O

#[cfg(test)]
pub mod fuzz; // hostile bytes for the tests of the rooms above

pub mod clock; // the only reader of the time
