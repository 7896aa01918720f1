//! One binary for all stories.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a story that meets what it does not expect fails"
)]

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the ground offers more than the stories of today use")]
mod harness;

mod config_mistakes;
mod directory_is_down;
mod directory_refuses;
mod groups_become_roles;
mod house_rules;
mod okta_rotates_its_keys;
mod person_signs_in_through_ldap;
mod service_gets_its_own_token;
mod testing_ground;
mod wire_errors;
