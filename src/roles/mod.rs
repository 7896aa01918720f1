//! Groups to roles: rules, evaluation, explanation. Pure: no I/O, no clock.

pub mod dn;
pub mod facts;
